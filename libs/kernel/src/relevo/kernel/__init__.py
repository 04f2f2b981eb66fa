"""Pure functions that several domains share."""
