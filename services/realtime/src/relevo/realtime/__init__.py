"""The socket that streams what an agent may see."""
