"""Facts, roll-ups and metrics streams."""
