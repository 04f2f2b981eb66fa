"""Measure a whole stack on one machine: what it sustains, how fast, what it costs, beside a floor of the same run."""
