"""Stays: with whom a conversation was, or where it waited, from when to when; so that any past moment can be told.

A stay is written once, when it ends; what has not ended stands in the present state. It is found by its length: one whose
level is n took at most 2^n seconds, so those that hold a moment began at most that long before it, and of each level about
every second that is looked at is one.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

LEVELS: Final = 34
"""Up to 2^33 seconds: 272 years."""


@dataclass(frozen=True, slots=True)
class Spot:
    """With whom an open conversation is, or its place among those that wait."""

    state: Literal["assigned", "queued"]
    inbox_id: str
    channel: str
    team_id: str | None
    assignee_id: str | None
    queued_at: datetime | None
    rank: int


@dataclass(frozen=True, slots=True)
class Stay:
    """A conversation was there in [`since`, `until`), which is not empty."""

    conversation_id: str
    spot: Spot
    since: datetime
    until: datetime

    @property
    def level(self) -> int:
        """The smallest n for which it took at most 2^n seconds."""
        return level_of(self.until - self.since)


def level_of(length: timedelta) -> int:
    """The smallest n from 0 for which this is at most 2^n seconds, at most the last of LEVELS."""
    seconds = -(-length // timedelta(seconds=1))
    return min(max(seconds - 1, 0).bit_length(), LEVELS - 1)
