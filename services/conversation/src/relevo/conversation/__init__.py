"""The shared inbox: contacts, conversations, messages."""
