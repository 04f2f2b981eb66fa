"""Writing a synthetic account: block by block, each a transaction, any number of processes; indexes are built after."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from relevo.conversation.seeding.rows import BLOCK, COLUMNS, HISTORY, Maker, Plan
from relevo.conversation.seeding.texts import Texts
from relevo.kernel.text import fold

_BUILT_AFTER: Final = 50
"""Blocks from which on it pays to build the indexes afterwards."""

_LOCK: Final = 0x73656564
"""One seeding at a time in a database: its indexes are away meanwhile."""

_BUCKETS: Final = """
    insert into search_buckets (account_id, bucket)
    select %s, b from generate_series(search_bucket(%s), search_bucket(%s)) b on conflict do nothing
"""

Progress = Callable[[int, int], None]
"""Told how many conversations are written, and of how many."""


class CannotSeed(Exception):
    """It would mix with what is there; the text tells why, and what to do."""


@dataclass(frozen=True, slots=True)
class Seeding:
    """What to do, with what texts, by how many processes."""

    url: str
    plan: Plan
    texts: Sequence[Path] = ()
    workers: int = 1


def seed(seeding: Seeding, progress: Progress) -> None:
    """Write what the plan says and is not there yet. Raises CannotSeed, psycopg.Error; either way it can go on later."""
    with _connect(seeding) as connection:
        got = connection.execute("select pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
        if not got or not got[0]:
            raise CannotSeed("another seeding is under way in this database: wait for it")
        seeding = replace(seeding, plan=_begun(connection, seeding.plan))
        plan = seeding.plan
        done = {
            row[0]
            for row in connection.execute("select block from seeded_blocks where account_id = %s", (plan.account_id,))
        }
        left = [number for number in range(plan.blocks) if number not in done]
        if len(left) >= _BUILT_AFTER:
            _put_indexes_away(connection, plan.account_id)
        count = len(done) * BLOCK
        progress(min(count, plan.conversations), plan.conversations)
        for written in _written(seeding, left):
            count += written
            progress(min(count, plan.conversations), plan.conversations)
        _build_indexes(connection, plan.account_id)
        _make_labels(connection, plan.account_id)
        for table in COLUMNS:
            connection.execute(sql.SQL("vacuum (analyze) {}").format(sql.Identifier(table)))
        connection.execute("update seedings set finished_at = now() where account_id = %s", (plan.account_id,))


def _connect(seeding: Seeding) -> psycopg.Connection[Any]:
    return psycopg.connect(
        seeding.url,
        autocommit=True,
        # Nothing is promised to anybody: what a crash of the server takes is written again.
        options=(
            f"-c relevo.accounts={{{seeding.plan.account_id}}} -c synchronous_commit=off -c timezone=UTC"
            " -c maintenance_work_mem=512MB -c max_parallel_maintenance_workers=2"
        ),
        application_name="relevo-conversation-seeding",
    )


def _begun(connection: psycopg.Connection[Any], plan: Plan) -> Plan:
    """Mark the account as synthetic; answers the plan as it was when the seeding began. Raises CannotSeed."""
    with connection.transaction():
        row = connection.execute("select plan from seedings where account_id = %s", (plan.account_id,)).fetchone()
        if row is not None:
            known = Plan(**row[0] | {"now": datetime.fromisoformat(row[0]["now"])})
            if known.conversations != plan.conversations:
                raise CannotSeed(
                    f"this account was begun with {known.conversations} conversations: go on with that number, or take another account"
                )
            return known
        if connection.execute(
            "select 1 from conversations where account_id = %s limit 1", (plan.account_id,)
        ).fetchone():
            raise CannotSeed("this account has conversations already: synthetic ones go into an account of their own")
        shown = json.dumps(asdict(plan) | {"now": plan.now.isoformat()})
        connection.execute(
            "insert into seedings (account_id, plan, started_at) values (%s, %s, now())", (plan.account_id, shown)
        )
        # Before the writers come: they would wait for each other's.
        connection.execute(_BUCKETS, (plan.account_id, plan.now - HISTORY, plan.now))
        connection.execute("select next_conversation_numbers(%s::uuid, 1)", (plan.account_id,))
        connection.execute(
            "select setval(format('numbers.%%I', %s::text)::regclass, %s)", (plan.account_id, plan.conversations)
        )
    return plan


def _written(seeding: Seeding, blocks: Sequence[int]) -> Iterator[int]:
    if seeding.workers == 1:
        with closing(_Writer(seeding)) as writer:
            yield from map(writer.write, blocks)
        return
    with ProcessPoolExecutor(seeding.workers, get_context("spawn"), _prepare, (seeding,)) as pool:
        try:
            yield from pool.map(_write, blocks)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what waits would be written first
            raise


_here: list["_Writer"] = []
"""The writer of a worker process."""


def _prepare(seeding: Seeding) -> None:
    _here.append(_Writer(seeding))


def _write(block: int) -> int:
    return _here[0].write(block)


class _Writer:
    """Writes blocks, with a connection of its own until the process ends."""

    def __init__(self, seeding: Seeding) -> None:
        self._account = seeding.plan.account_id
        self._maker = Maker(seeding.plan, Texts.of(seeding.texts) if seeding.texts else Texts.ours())
        self._connection = _connect(seeding)
        for table in COLUMNS:
            staged = sql.SQL("create temp table {} as select {} from {} limit 0").format(
                sql.Identifier(f"staged_{table}"),
                sql.SQL(", ").join(map(sql.Identifier, COLUMNS[table].split(", "))),
                sql.Identifier(table),
            )
            self._connection.execute(staged)

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def write(self, block: int) -> int:
        """Write one block; answers how many conversations it has."""
        rows, connection = self._maker.block(block), self._connection
        with connection.transaction():
            for table, lines in rows.by_table():
                names = {
                    "table": sql.Identifier(table),
                    "staged": sql.Identifier("pg_temp", f"staged_{table}"),
                    "columns": sql.SQL(", ").join(map(sql.Identifier, COLUMNS[table].split(", "))),
                }
                # Staged, since COPY itself cannot write where row-level security is on.
                with connection.cursor().copy(sql.SQL("copy {staged} ({columns}) from stdin").format(**names)) as copy:
                    copy.write("\n".join(lines) + "\n")
                connection.execute(
                    sql.SQL("insert into {table} ({columns}) select {columns} from {staged}").format(**names)
                )
                connection.execute(sql.SQL("truncate {staged}").format(**names))
            connection.execute("insert into seeded_blocks (account_id, block) values (%s, %s)", (self._account, block))
        return len(rows.conversations)


_LABEL = """
    insert into labels (id, account_id, key, name, folded, color, description, sidebar, state, version, updated_by,
                        updated_at)
    values (gen_random_uuid(), %(account)s, %(name)s, %(name)s, %(folded)s, '#6b7280', '', true, 'live', 1, 'system',
            now())
    on conflict do nothing
"""


def _make_labels(connection: psycopg.Connection[Any], account_id: str) -> None:
    used = connection.execute("select distinct unnest(labels) from conversations where account_id = %s", (account_id,))
    rows = [{"account": account_id, "name": name, "folded": fold(name)} for (name,) in used.fetchall()]
    connection.cursor().executemany(_LABEL, rows)


_INDEXES = """
    select format('%%I', c.relname), pg_get_indexdef(i.indexrelid)
    from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid
    where t.relnamespace = 'public'::regnamespace and t.relname = any(%s) and not i.indisunique
"""


def _put_indexes_away(connection: psycopg.Connection[Any], account_id: str) -> None:
    """Drop what only makes reading fast; what guards stays. The definitions are remembered in the same transaction."""
    with connection.transaction():
        found = connection.execute(_INDEXES, ([*COLUMNS, "search_words"],)).fetchall()
        for name, definition in found:
            connection.execute(
                "update seedings set indexes = indexes || %s where account_id = %s", ([definition], account_id)
            )
            connection.execute(sql.SQL("drop index " + name))


def _build_indexes(connection: psycopg.Connection[Any], account_id: str) -> None:
    """Make again what was put away, each remembered as made, so that one that was cut short is not built twice."""
    row = connection.execute("select indexes from seedings where account_id = %s", (account_id,)).fetchone()
    for definition in row[0] if row else ():
        began = time.monotonic()
        with connection.transaction():
            connection.execute(definition)
            connection.execute(
                "update seedings set indexes = array_remove(indexes, %s) where account_id = %s",
                (definition, account_id),
            )
        print(f"{definition.split()[2]} {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201
