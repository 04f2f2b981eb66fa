"""Doors that meet wait for one another in turn: contacts are locked first, then conversations by id, then what hangs from
them. Whoever locks out of turn ends in a deadlock, and one of the two is turned away."""

import asyncio

import pytest
from sqlalchemy import text

from relevo.chassis.bus import until
from relevo.chassis.timers import DueTimer
from relevo.contracts.base import now
from relevo.conversation.changes import SEND
from relevo.conversation.due import on_send
from relevo.conversation.store import conversations

from .test_joins import ident, merge, two

_WAITS = text("select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")


async def met(desk, held, door, then):
    """Somebody has locked a conversation; the door waits for it; what they go on to do does not wait for the door."""
    service = desk.service

    async def waits():
        async with service.runtime.database.begin(desk.world.account_id) as tx:
            return bool((await tx.execute(_WAITS)).first())

    async with service.runtime.database.begin(desk.world.account_id) as tx:
        assert await conversations.lock(tx, [(desk.world.account_id, ident(held))])
        behind = asyncio.create_task(door())
        assert await until(waits, 30)
        assert not behind.done()
        await then(tx)
    return await behind


def test_erasing_a_person_waits_for_who_is_writing_to_their_conversation(at_desk):
    async def body(desk):
        _, boss = await desk.agent("administrator")
        path = await desk.begun(boss)
        contact = (await desk.get(path, boss)).json()["contact"]["id"]
        erased = await met(
            desk,
            path,
            lambda: desk.post(f"/contacts/{contact}/erase", boss),
            lambda tx: tx.execute(text("update messages set error = 'tarde' where kind = 'incoming'")),
        )
        assert erased.status_code == 202, erased.text

    at_desk(body)


@pytest.mark.parametrize("act", ["delete", "undo"])
def test_what_concerns_a_merge_locks_both_conversations_in_the_order_of_their_ids(at_desk, act):
    async def body(desk):
        _, boss = await desk.agent("administrator")
        _, old, base = await two(desk, boss)
        merged = (await merge(desk, boss, base, old)).json()["merge_id"]
        doors = {
            "delete": lambda: desk.post(f"{base}/delete", boss, {"reason": "por error"}),
            "undo": lambda: desk.post(f"/conversations/merges/{merged}/undo", boss),
        }

        async def then(tx):
            await conversations.lock(tx, [(desk.world.account_id, ident(base))])
            await tx.execute(text("update conversation_merges set place = place"))

        done = await met(desk, old, doors[act], then)
        assert done.is_success, done.text

    at_desk(body)


def test_a_message_whose_time_has_come_waits_for_who_deletes_its_conversation(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        path = await desk.begun(eva)
        later = await desk.post(f"{path}/waiting", eva, {"text": "hasta luego", "delay_seconds": 120})
        assert later.status_code == 201, later.text
        due = DueTimer(SEND, later.json()["id"], desk.world.account_id, now(), {}, 0)

        async def send():
            async with desk.service.runtime.database.begin(desk.world.account_id) as tx:
                await on_send([due], tx)

        await met(desk, path, send, lambda tx: tx.execute(text("delete from waiting_messages")))
        assert (await desk.get(f"{path}/messages", eva)).json()["items"][-1]["text"] != "hasta luego"

    at_desk(body)
