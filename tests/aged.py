"""A running stack's log as if it were old: in archived segments, with nothing of it left in the outbox."""

import json
from datetime import date, timedelta
from typing import Any

import psycopg
from whole_stack import WholeStack

from relevo.contracts.catalogue import SERVICES


def age(stack: WholeStack, day: date) -> int:
    """As if all that was published until now had been published on that day; answers how many rows it is.

    Each time a later day: the days of a log follow one another.
    """
    moved = 0
    for service in SERVICES:
        with psycopg.connect(stack.told(service)["RELEVO_DATABASE_URL"]) as connection:
            connection.execute(
                f"create table outbox_{day:%Y%m%d} partition of outbox "
                f"for values from ('{day} 00:00+00') to ('{day + timedelta(days=1)} 00:00+00')"
            )
            moved += connection.execute("update outbox set created_at = %s", (f"{day} 12:00+00",)).rowcount
            connection.execute("update relay_mark set at = %s", (f"{day} 12:00+00",))
    return moved


def archive(stack: WholeStack) -> list[dict[str, Any]]:
    """What `relevo archive` says that it moved."""
    done = stack.relevo("archive", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
