"""Synthetic conversations in any number, written straight into this service's own database: for trials of size.

Nobody is told of them: no events, no assignment, no reports. The account is marked as synthetic by its row in
``seedings``, which also remembers how far a seeding came, so that one that was cut short goes on.
"""
