"""The one gate: accepts each inbound event exactly once."""
