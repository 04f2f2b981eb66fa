"""Two conversations of one contact: made one, read as one, and told apart again."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from relevo.contracts.base import new_id
from relevo.contracts.ingest import InboxState
from relevo.contracts.snapshots import ContactSnapshot
from relevo.conversation.domain import joining, life, properties, writing
from relevo.conversation.domain.participants import change_participants
from relevo.conversation.domain.state import Conversation, Incoming, Refused, Writing

WHO = "34600111222"


def ident(path):
    return path.rpartition("/")[2]


async def two(desk, eva, **more):
    """The paths of two conversations of one customer: the first, and one that began after it was resolved."""
    inbox = desk.world.make_inbox(reopen="new_after_resolved", **more)
    await desk.know("inbox", inbox)
    first = await desk.begun(eva, text="uno", inbox=inbox)
    await desk.post(f"{first}/resolve", eva)
    await desk.customer_writes(text="dos", inbox=inbox)
    second = f"/conversations/{(await desk.get('/conversations', eva)).json()['items'][0]['id']}"
    assert second != first
    return inbox, first, second


async def said(desk, who, path, **params):
    items = (await desk.get(f"{path}/messages", who, limit=200, **params)).json()["items"]
    return [one["text"] for one in items if one["kind"] != "activity"]


async def merge(desk, who, base, other, **headers):
    return await desk.post(f"{base}/merge", who, {"other_id": ident(other)}, **headers)


def test_two_conversations_become_one_and_are_told_apart_again(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        inbox, old, base = await two(desk, eva)
        await desk.post(f"{old}/labels", eva, {"add": ["factura"]})
        await desk.post(f"{base}/messages", eva, {"text": "voy"})
        merged = await merge(desk, eva, base, old, idempotency_key="m")
        assert merged.status_code == 201, merged.text
        assert (await merge(desk, eva, base, old, idempotency_key="m")).json() == merged.json()
        state = merged.json()["conversation"]
        assert (state["id"], state["status"], state["labels"]) == (ident(base), "open", ["factura"])
        gone = (await desk.get(old, eva)).json()
        assert (gone["status"], gone["archived"], gone["merged_into"]) == ("resolved", True, ident(base))
        # In sequence: own messages by their numbers, the other's where the merge is told of, in their own order.
        await desk.customer_writes(text="tres", inbox=inbox)
        assert await said(desk, eva, base) == ["dos", "voy", "uno", "tres"]
        assert await said(desk, eva, base, order="newest") == ["tres", "uno", "voy", "dos"]
        whole = (await desk.get(f"{base}/messages", eva, limit=200)).json()["items"]
        paged, cursor = [], None
        while True:
            page = (await desk.get(f"{base}/messages", eva, limit=1, **({"cursor": cursor} if cursor else {}))).json()
            paged += page["items"]
            if (cursor := page["next"]) is None:
                break
        assert [one["id"] for one in paged] == [one["id"] for one in whole]
        lines = " ".join(await desk.lines(base, eva))
        assert "incorporó otra conversación" in lines
        assert "uno" in (await desk.get(f"{base}/transcript", eva)).text
        # The other is over: nothing is done there, and nothing more comes into it.
        for path, given_ in (("messages", {"text": "x"}), ("resolve", None), ("labels", {"add": ["x"]})):
            await desk.refused(await desk.post(f"{old}/{path}", eva, given_), 409, "conversation_merged")
        listed = (await desk.get(f"{base}/merges", eva)).json()["items"]
        assert [(one["id"], one["other_id"]) for one in listed] == [(merged.json()["merge_id"], ident(old))]
        undo = f"/conversations/merges/{merged.json()['merge_id']}/undo"
        undone = await desk.post(undo, eva)
        assert undone.status_code == 200, undone.text
        assert undone.json()["conversation"]["labels"] == []
        restored = undone.json()["restored"]
        assert (restored["merged_into"], restored["status"], restored["archived"]) == (None, "resolved", False)
        assert await said(desk, eva, base) == ["dos", "voy", "tres"]
        assert await said(desk, eva, old) == ["uno"]
        await desk.refused(await desk.post(undo, eva), 409, "merge_undone")
        await desk.service.settle()
        told = [h["ce-type"] for _, h, _ in await desk.service.admin.stored("EVT_CONVERSATION")]
        for name in ("merged", "absorbed", "unmerged", "split"):
            assert told.count(f"relevo.conversation.conversation_{name}.v1") == 1

    at_desk(body)


def test_an_open_one_waits_and_is_unread_in_the_base_and_is_open_again_after_undoing(at_desk):
    async def body(desk):
        luis, theirs = await desk.agent()
        _, eva = await desk.agent()
        base = await desk.begun(eva, text="uno", phone=f"+{WHO}")
        second = desk.world.make_inbox()
        await desk.know("inbox", second)
        await desk.customer_writes(text="dos", inbox=second, phone=f"+{WHO}")
        items = (await desk.get("/conversations", eva)).json()["items"]
        other = f"/conversations/{next(one['id'] for one in items if one['id'] != ident(base))}"
        await desk.post(f"{other}/participants", eva, {"add": [luis]})
        await desk.send("PUT", f"{other}/draft", eva, {"text": "borrador"})
        await desk.post(f"{base}/messages", eva, {"text": "voy"})
        await desk.post(f"{base}/seen", eva, {})
        merged = (await merge(desk, eva, base, other)).json()
        state = merged["conversation"]
        assert state["waiting_since"] is not None
        assert state["participant_ids"] == [luis]
        assert (await desk.get(f"{base}/draft", eva)).json()["text"] == "borrador"

        async def unread():
            found = await desk.get("/conversations/unread", eva, id=[ident(base)])
            return found.json()["items"][0]["unread"]

        assert await unread() == 1  # the other's message, which nobody has read
        await desk.post(f"{base}/seen", eva, {})
        assert await unread() == 0
        # On the other channel the customer begins anew: what they write is not answered over the base's.
        await desk.customer_writes(text="cuatro", inbox=second)
        open_ones = (await desk.get("/conversations", eva, status="open")).json()["items"]
        newest = next(one["id"] for one in open_ones if one["id"] != ident(base))
        assert newest != ident(other)
        undo = f"/conversations/merges/{merged['merge_id']}/undo"
        await desk.refused(await desk.post(undo, eva), 409, "conversation_goes_on")
        await desk.post(f"/conversations/{newest}/resolve", eva)
        undone = (await desk.post(undo, eva)).json()
        assert (undone["restored"]["status"], undone["restored"]["cycle"]) == ("open", 2)
        assert undone["restored"]["waiting_since"] is not None
        assert undone["conversation"]["waiting_since"] is None
        assert undone["conversation"]["participant_ids"] == []
        assert (await desk.get(base, theirs)).status_code == 200

    at_desk(body)


def test_what_is_not_merged_and_says_why(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        _, stranger = await desk.agent(inboxes=(new_id(),))
        _, auditor = await desk.agent("auditor")
        _, resolved, base = await two(desk, eva)
        another = desk.world.make_inbox("email")
        await desk.customer_writes("x@example.com", text="otro", inbox=another)
        items = (await desk.get("/conversations", eva)).json()["items"]
        foreign = f"/conversations/{next(one['id'] for one in items if one['inbox_id'] == another.id)}"
        await desk.refused(await merge(desk, eva, base, base), 422, "merge_with_itself", "/other_id")
        await desk.refused(await merge(desk, eva, base, foreign), 422, "other_contact", "/other_id")
        await desk.refused(await merge(desk, eva, resolved, base), 409, "base_is_resolved")
        await desk.refused(await merge(desk, stranger, base, resolved), 404, "conversation_not_found")
        await desk.refused(await merge(desk, eva, base, f"/{new_id()}"), 404, "conversation_not_found")
        await desk.refused(await merge(desk, auditor, base, resolved), 403, "permission_missing")
        await desk.refused(await desk.post(f"/conversations/merges/{new_id()}/undo", eva), 404, "merge_not_found")
        later = {"text": "luego", "send_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
        assert (await desk.post(f"{resolved}/waiting", eva, later)).status_code == 201
        await desk.refused(await merge(desk, eva, base, resolved), 409, "messages_wait")
        waiting = (await desk.get(f"{resolved}/waiting", eva)).json()["items"][0]["id"]
        await desk.send("DELETE", f"{resolved}/waiting/{waiting}", eva)
        merged = (await merge(desk, eva, base, resolved)).json()
        await desk.refused(await merge(desk, eva, base, resolved), 409, "conversation_merged")
        await desk.refused(await desk.post(f"{resolved}/delete", eva, {"reason": "no"}), 403, "permission_missing")
        async with desk.service.runtime.database.begin(desk.world.account_id) as tx:
            await tx.execute(text("update conversation_merges set merged_at = merged_at - interval '31 days'"))
        undo = await desk.post(f"/conversations/merges/{merged['merge_id']}/undo", eva)
        await desk.refused(undo, 404, "merge_not_found")

    at_desk(body)


def test_a_base_that_is_deleted_takes_its_parts_with_it(at_desk):
    async def body(desk):
        _, boss = await desk.agent("administrator")
        _, old, base = await two(desk, boss)
        await merge(desk, boss, base, old)
        gone = await desk.post(f"{base}/delete", boss, {"reason": "por error"})
        assert gone.status_code == 204, gone.text
        for path in (base, old):
            assert (await desk.get(path, boss)).status_code == 404
        async with desk.service.runtime.database.begin(desk.world.account_id) as tx:
            left = (await tx.execute(text("select count(*) from messages where conversation_id is not null"))).scalar()
        assert left == 0

    at_desk(body)


AT = datetime(2026, 3, 1, 9, tzinfo=UTC)
INBOX = InboxState(id=new_id(), account_id=new_id(), name="x", channel="webchat")
CONTACT = ContactSnapshot(id=new_id(), name="Ana")
STEPS = st.lists(st.sampled_from(["write", "reply", "resolve", "archive", "label", "join"]), max_size=6)


def lived(steps, number) -> Conversation:
    """A conversation to which this happened."""
    held = life.begin(
        id=new_id(),
        number=number,
        inbox=INBOX,
        contact=CONTACT,
        source_id="s",
        recipient_key="k",
        occurred_at=AT,
        now=AT,
    ).conversation
    for n, step in enumerate(steps, 1):
        at = AT + timedelta(minutes=n)
        with suppress(Refused):
            match step:
                case "write":
                    held = life.receive(held, Incoming(new_id(), "x", None, at), at).conversation
                case "reply":
                    held = writing.reply(held, Writing(new_id(), "x", "agent:a"), at).conversation
                case "resolve":
                    held = life.resolve(held, at).conversation
                case "archive":
                    held = life.archive(held, at).conversation
                case "label":
                    held = properties.change_labels(held, [f"l{number}"], (), at).conversation
                case "join":
                    held = change_participants(held, [f"a{number}"], (), at).conversation
    return held


@given(STEPS, STEPS)
def test_a_merge_that_is_undone_leaves_both_as_they_were(first, second):
    base, other = lived(first, 1), lived(second, 2)
    at = AT + timedelta(hours=1)
    if base.state.archived or (other.unresolved and not base.unresolved):
        with pytest.raises(Refused):
            joining.join(base, other, new_id(), at)
        return
    record, kept, gone = joining.join(base, other, new_id(), at)
    merged = gone.conversation.state
    assert (merged.status, merged.archived, merged.merged_into) == ("resolved", True, base.state.id)
    assert record.place == kept.conversation.state.sequence == kept.events[-1].conversation.sequence
    for before, change in ((base, kept), (other, gone)):
        numbers = [event.conversation.sequence for event in change.events]
        assert numbers == list(range(before.state.sequence + 1, before.state.sequence + 1 + len(numbers)))
    stays, back = joining.split(kept.conversation, gone.conversation, record, at + timedelta(days=1))
    passing = {"sequence", "cycle", "opened_at", "resolved_at", "last_activity_at", "first_reply_at", "stage"}
    for before, after in ((base, stays.conversation), (other, back.conversation)):
        was, now_ = before.state.model_dump(exclude=passing), after.state.model_dump(exclude=passing)
        assert now_ == was
        assert after.state.cycle == before.state.cycle + (before is other and other.unresolved)


@pytest.mark.parametrize("answered", [True, False])
def test_who_waits_since_before_the_merge_waits_where_they_did(answered):
    base, other = lived(["write", "reply"], 1), lived(["write"], 2)
    record, kept, gone = joining.join(base, other, new_id(), AT + timedelta(hours=1))
    held = kept.conversation
    assert held.state.waiting_since == other.state.waiting_since
    if answered:
        held = writing.reply(held, Writing(new_id(), "x", "agent:a"), AT + timedelta(hours=2)).conversation
    stays, back = joining.split(held, replace(gone.conversation), record, AT + timedelta(hours=3))
    assert stays.conversation.state.waiting_since is None
    assert back.conversation.state.waiting_since == (None if answered else other.state.waiting_since)
