"""Who holds what: routing, capacity, queue, decisions."""
