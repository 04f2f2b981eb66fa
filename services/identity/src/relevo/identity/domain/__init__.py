"""The decisions of identity: pure functions over the contracts' states."""
