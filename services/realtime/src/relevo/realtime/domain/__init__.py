"""What an event means for a socket: pure functions."""
