"""Who gets a conversation, as plain data and a state machine without I/O."""
