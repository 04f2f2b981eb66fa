"""What an agent's status is, and how it changes: plain data and pure functions."""
