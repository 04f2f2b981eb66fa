"""The embedded stack and the relevo command line."""
