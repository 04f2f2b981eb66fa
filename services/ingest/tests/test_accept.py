"""The one way in, on a real database: once, in order, whoever comes at the same time."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from relevo.chassis import Database, outbox
from relevo.chassis.database import Pool
from relevo.chassis.testing import template_database
from relevo.contracts.base import new_id
from relevo.contracts.inbound import InboundMessage
from relevo.contracts.ingest import InboxState
from relevo.ingest.accept import accept
from relevo.ingest.domain.ledger import Arrival, Verdict, arrival

AT = datetime(2026, 3, 1, tzinfo=UTC)
ACCOUNT = new_id()


def inbox() -> InboxState:
    return InboxState(id=new_id(), account_id=ACCOUNT, name="WhatsApp", channel="whatsapp")


def event(to: InboxState, number: int, *, senders: int = 7, said: str = "hola") -> Arrival:
    return arrival(
        to,
        InboundMessage.model_validate(
            {
                "kind": "message",
                "external_id": str(number),
                "sender": {"id": f"s{number % senders}"},
                "content": {"text": said},
                "occurred_at": AT + timedelta(seconds=number),
            }
        ),
        at=AT,
    )


@asynccontextmanager
async def database(servers: Any, connections: int = 4) -> AsyncIterator[Database]:
    dsn = servers.create_database(template=template_database(servers, "relevo.ingest.migrations"))
    engine = Pool(dsn, service="ingest", size=connections, lease_seconds=30)
    found = Database(engine, "ingest", accounts=lambda: (ACCOUNT,))
    async with found.begin() as tx:
        await outbox.ensure_days(tx)
    try:
        yield found
    finally:
        await found.close()


async def published(db: Database) -> list[tuple[str, int, str]]:
    """(entity, sequence, external id) of all events, in the order in which they will leave."""
    async with db.begin() as tx:
        rows = (await tx.execute(text("select headers, body from outbox order by id"))).all()
    found = []
    for row in rows:
        headers = json.loads(row.headers)
        found.append(
            (headers["ce-subject"], int(headers["relevo-sequence"]), json.loads(bytes(row.body))["external_id"])
        )
    return found


def test_eight_connections_bring_the_same_thousand(servers: Any) -> None:
    async def scenario() -> None:
        box = inbox()
        events = [event(box, number) for number in range(1000)]

        async def bring(db: Database, seed: int) -> list[Verdict]:
            mine = events.copy()
            random.Random(seed).shuffle(mine)
            async with db.begin() as tx:
                return await accept(mine, tx)

        async with database(servers, 8) as db:
            verdicts = await asyncio.gather(*(bring(db, seed) for seed in range(8)))
            assert sum(verdict is Verdict.ACCEPTED for batch in verdicts for verdict in batch) == 1000
            assert sum(verdict is Verdict.DUPLICATE for batch in verdicts for verdict in batch) == 7000
            await check_published(db, 1000, 7)

    asyncio.run(scenario())


async def check_published(db: Database, count: int, senders: int) -> None:
    found = await published(db)
    assert len({(entity, external_id) for entity, _, external_id in found}) == len(found) == count
    by_sender: dict[str, list[int]] = {}
    for entity, sequence, _ in found:
        by_sender.setdefault(entity, []).append(sequence)
    assert len(by_sender) == senders
    for sequences in by_sender.values():
        assert sequences == list(range(1, len(sequences) + 1))


def test_overlapping_batches_of_many_inboxes_meet_without_deadlock(servers: Any) -> None:
    async def scenario() -> None:
        boxes = [inbox() for _ in range(5)]
        chance = random.Random(7)
        pool = [event(box, number, senders=3) for box in boxes for number in range(60)]

        async with database(servers, 6) as db:
            accepted: list[Arrival] = []

            async def worker(seed: int) -> None:
                mine = random.Random(seed)
                for _ in range(8):
                    batch = mine.choices(pool, k=40)
                    async with db.begin() as tx:
                        verdicts = await accept(batch, tx)
                    accepted.extend(
                        one for one, verdict in zip(batch, verdicts, strict=True) if verdict is Verdict.ACCEPTED
                    )

            await asyncio.gather(*(worker(chance.randrange(1 << 30)) for _ in range(6)))
            places = [one.place for one in accepted]
            assert len(places) == len(set(places))
            await check_published(db, len(places), len({(one.inbox.id, one.sender_key) for one in accepted}))

    asyncio.run(scenario())


async def crash(db: Database, events: list[Arrival]) -> None:
    async with db.begin() as tx:
        await accept(events, tx)
        raise RuntimeError("crash")


def test_a_rolled_back_batch_leaves_nothing(servers: Any) -> None:
    async def scenario() -> None:
        box = inbox()
        events = [event(box, number, senders=2) for number in range(4)]
        async with database(servers) as db:
            with pytest.raises(RuntimeError, match="crash"):
                await crash(db, events)
            async with db.begin() as tx:
                assert await accept(events, tx) == [Verdict.ACCEPTED] * 4
            await check_published(db, 4, 2)

    asyncio.run(scenario())


def test_the_first_stands_and_the_other_is_on_record(servers: Any) -> None:
    async def scenario() -> None:
        box, other = inbox(), inbox()
        async with database(servers) as db:
            async with db.begin() as tx:
                first = await accept([event(box, 1), event(box, 1, said="otra"), event(other, 1, said="otra")], tx)
            assert first == [Verdict.ACCEPTED, Verdict.CONFLICT, Verdict.ACCEPTED]
            for _ in range(2):
                async with db.begin() as tx:
                    assert await accept([event(box, 1, said="otra"), event(box, 1)], tx) == [
                        Verdict.CONFLICT,
                        Verdict.DUPLICATE,
                    ]
            async with db.begin() as tx:
                rows = (
                    await tx.execute(text("select external_id, occurrences, body, account_id from conflicts"))
                ).all()
            ((external_id, occurrences, body, account_id),) = rows
            assert (external_id, occurrences, body["content"]["text"]) == ("1", 3, "otra")
            assert str(account_id) == box.account_id
            assert len(await published(db)) == 2

    asyncio.run(scenario())
