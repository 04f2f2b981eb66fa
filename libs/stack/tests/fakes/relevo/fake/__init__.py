"""A service small enough to watch the supervisor with."""
