"""When things were committed, by the database's own clock: events tell when they were asked for, and when they were stored.

PostgreSQL keeps the moment of each commit when it is told to; a row names the transaction that wrote it last.
"""

from collections.abc import Iterable

import psycopg
from judging.judge import Brought
from whole_stack import WholeStack

from relevo.stack.postgres import SUPERUSER

# A status ends in the transaction that begins the next one, and is not written again.
_CHANGED = "select agent_id::text, to_at, pg_xact_commit_timestamp(xmin) from status_history where to_at is not null"
_DECIDED = "select conversation_id::text, version, pg_xact_commit_timestamp(xmin) from decisions"


def up(stack: WholeStack, *options: str) -> None:
    """Start a stack whose database keeps when transactions were committed."""
    stack.up(*options)
    with psycopg.connect(
        host="127.0.0.1",
        port=int(stack.environment["RELEVO_PG_PORT"]),
        dbname="postgres",
        user=SUPERUSER,
        password=stack.secret("postgres-admin"),
        autocommit=True,
    ) as connection:
        connection.execute("alter system set track_commit_timestamp = on")
    stack.down()
    stack.up(*options)


def between(stack: WholeStack, brought: Iterable[Brought]) -> list[float]:
    """Seconds from the commit of each change in presence to that of the decision that it brought."""
    changed = {(agent, at): committed for agent, at, committed in stack.rows("presence", _CHANGED)}
    decided = {(one, version): committed for one, version, committed in stack.rows("assignment", _DECIDED)}
    return [
        (decided[one.conversation_id, one.version] - changed[one.agent_id, one.since]).total_seconds()
        for one in brought
    ]
