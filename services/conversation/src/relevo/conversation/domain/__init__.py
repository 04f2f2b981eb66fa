"""The decisions of the shared inbox: pure functions over plain data."""
