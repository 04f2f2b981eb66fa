"""Reads one account's journal and decisions, in one read-only snapshot; nothing live is touched, or waits for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, get_args

import psycopg

from relevo.assignment.domain import inputs
from relevo.assignment.domain.held import Refusal
from relevo.assignment.domain.inputs import Entry
from relevo.assignment.domain.simulation import Kept, Version
from relevo.chassis.tenancy import ENTER
from relevo.chassis.tenancy import Entry as Entrance

_AT_ONCE: Final = 2000

_ACCOUNTS = "select cast(account_id as text) from journal group by account_id order by account_id"
# In the order in which the matcher took them. What was put aside changed nothing, unless it was refused by a decision.
_JOURNAL = """
    select id, kind, payload, created_at from journal
    where account_id = %(account)s and done_at is not null and (error is null or error = any(%(refusals)s))
    order by run, id
"""
_LAST = "select max(created_at) from journal where account_id = %(account)s and done_at is not null"
_DECISIONS = """
    select cast(conversation_id as text) as conversation_id, version, journal_id, kind, mode,
           cast(assignee_id as text) as assignee_id, cast(team_id as text) as team_id, reason ->> 'code' as reason,
           cast(offered_to as text) as offered_to
    from decisions where account_id = %(account)s and created_at >= %(since)s and created_at < %(until)s
"""


class CannotSimulate(Exception):
    """What is asked for cannot be; the text tells why, and what to do."""


@dataclass(frozen=True, slots=True)
class Record:
    """What an account's pool has on record."""

    connection: psycopg.Connection[Any]
    account: str

    def entries(self) -> Iterator[Entry]:
        """The whole journal, from its beginning; the same each time."""
        with self.connection.cursor("journal") as cursor:
            cursor.itersize = _AT_ONCE
            cursor.execute(_JOURNAL, {"account": self.account, "refusals": list(get_args(Refusal))})
            for id_, kind, payload, at in cursor:
                yield Entry(id_, at, inputs.decode(kind, payload))

    def last(self) -> datetime:
        """When the last input came. Raises CannotSimulate when there is none."""
        row = self.connection.execute(_LAST, {"account": self.account}).fetchone()
        if row is None or row[0] is None:
            raise CannotSimulate(f"account {self.account} has no journal here: look at its id")
        found: datetime = row[0]
        return found

    def kept(self, since: datetime, until: datetime) -> dict[Version, Kept]:
        """The decisions of the period."""
        found = self.connection.execute(_DECISIONS, {"account": self.account, "since": since, "until": until})
        return {(conversation, version): Kept(*rest) for conversation, version, *rest in found}


@contextmanager
def record(url: str, account: str | None) -> Iterator[Record]:
    """The record of an account, or of the only one that there is. Raises CannotSimulate, psycopg.Error."""
    with psycopg.connect(url, options="-c timezone=UTC -c jit=off") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        if account is None:
            connection.execute(ENTER, Entrance.into((), "matcher").parameters())
            found = [row[0] for row in connection.execute(_ACCOUNTS)]
            if len(found) != 1:
                raise CannotSimulate(
                    f"there are {len(found)} accounts here: name one with --account"
                    + (f" ({', '.join(found[:5])}{', …' if len(found) > 5 else ''})" if found else "")
                )
            account = found[0]
        connection.execute(ENTER, Entrance.into((account,)).parameters())
        yield Record(connection, account)
