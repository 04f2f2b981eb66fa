"""Every kind of question reads few rows of ten thousand conversations and a hundred thousand messages.

What grows with the account and is read through no index reads thousands: so a lost index fails here, whatever the machine.
"""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

# With import-mode=importlib the test modules cannot see what they share otherwise.
sys.path.insert(0, str(Path(__file__).parent))

from questions import Questions, account_of
from reading import read

from relevo.chassis.database import Database, Pool
from relevo.chassis.outbox import ensure_days
from relevo.chassis.testing import template_database
from relevo.contracts.base import new_id
from relevo.conversation.seeding.load import Seeding, seed
from relevo.conversation.seeding.rows import Plan

CONVERSATIONS = 10_000
ASKED = 4
"""Random questions of each kind, for each of the two who ask."""

LIMITS = {
    "list": 1_500,
    "filter": 1_500,
    # Bitmaps of two indexes, each of which has thousands, read them both.
    "filter label": 5_500,
    "filter channel": 5_500,
    "filter contact": 200,
    "two filters": 5_500,
    "view": 800,
    "count": 5_500,
    # A thousand candidates, each with its conversation, contact and message.
    "search": 7_500,
    "search code": 1_500,
    # Five thousand of the newest contacts, then the index of fragments.
    "search contacts": 9_000,
    "open": 200,
    "reply": 200,
}
"""Rows, by what the kind's name begins with; the longest counts."""


def limit_of(kind: str) -> int:
    return LIMITS[max((name for name in LIMITS if kind.startswith(name)), key=len)]


@pytest.fixture(scope="module")
def seeded(servers):
    """A database with the account, and what the seeding was told."""
    url = servers.create_database(template=template_database(servers, "relevo.conversation.migrations"))
    told = {
        "account_id": new_id(),
        "inboxes": [[new_id(), ("whatsapp", "email", "webchat", "telegram", "api")[n % 5]] for n in range(20)],
        "agents": [new_id() for _ in range(20)],
        "teams": [new_id() for _ in range(8)],
    }
    plan = Plan(conversations=CONVERSATIONS, now=datetime.now(UTC).replace(microsecond=0), **told)
    seed(Seeding(url, plan), lambda done, of: None)
    yield url, told
    servers.drop_database(url)


def read_by_kind(url, told):
    """The most rows that a question of each kind read, and what was read from end to end."""

    async def main():
        database = Database(Pool(url, service="conversation", size=1, lease_seconds=120), "conversation")
        try:
            async with database.begin(told["account_id"]) as tx:
                await ensure_days(tx)
                account = await account_of(tx, told)
            found = {}
            for who in ("administrator", "agent"):
                for name, make in Questions(account, 7).kinds.items():
                    readings = [await read(database, make(), getattr(account, who)) for _ in range(ASKED)]
                    found[f"{name} ({who})"] = max(reading.rows for reading in readings)
            return found
        finally:
            await database.close()

    return asyncio.run(main())


def over(found):
    return {kind: (rows, limit_of(kind)) for kind, rows in found.items() if rows > limit_of(kind)}


@pytest.mark.timeout(300)
def test_no_question_reads_more_than_its_limit(seeded):
    assert over(read_by_kind(*seeded)) == {}


@pytest.mark.deep
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "index",
    [
        "conversations_nobody",
        "conversations_waiting",
        "conversations_of_contact",
        "messages_order",
        "search_words_words",
    ],
)
def test_a_lost_index_is_found(seeded, index):
    url, told = seeded
    with psycopg.connect(url, autocommit=True) as connection:
        (definition,) = connection.execute("select pg_get_indexdef(%s::regclass)", (index,)).fetchone()
        connection.execute(f"drop index {index}")
        try:
            try:
                found = over(read_by_kind(url, told))
            except psycopg.errors.QueryCanceled:
                return  # it took longer than any statement may
            assert found != {}
        finally:
            connection.execute(definition)


def test_what_was_just_written_does_not_slow_the_search_for_what_is_rare(seeded):
    """A look into one stretch reads every page of what is not yet sorted into the index, and a rare word looks into all."""
    url, _ = seeded
    asked = "explain (analyze, buffers, format json) select id from search_words where words @@ 'nowhere'"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set enable_seqscan = off")
        for _ in range(30):
            connection.execute(
                """
                insert into search_words (id, account_id, conversation_id, kind, at, words)
                select gen_random_uuid(), account_id, conversation_id, kind, at, words from search_words limit 70
                """
            )
            ((answer,),) = connection.execute(asked).fetchall()
            plan = answer[0]["Plan"]
            assert (
                plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 24
            )  # 16 may wait, the others lead to a word
