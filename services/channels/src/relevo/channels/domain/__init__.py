"""What channels decide: pure functions."""
