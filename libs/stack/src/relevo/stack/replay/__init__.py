"""Play recorded conversations through the public interfaces, then count independently what became of them."""
