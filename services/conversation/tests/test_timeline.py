"""The timeline of a conversation and what it was at a past moment, from the outbox and from the archive alike."""

import random
from datetime import UTC, datetime, timedelta
from typing import get_args

import psycopg

from relevo.chassis.archive import Archive
from relevo.chassis.objects import Folder
from relevo.contracts.assignment import ConversationAssigned, Reason, ReasonCode
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import AssigneeChanged, ChangeLabels
from relevo.contracts.envelope import Envelope
from relevo.contracts.streams import EVT_CONVERSATION
from relevo.conversation.domain.timeline import REASONS, Happened, because

DAYS_AGO = 30


async def archived(desk, folder) -> int:
    """Everything told so far as if it were old, and moved to the archive; answers how many rows that are."""
    runtime = desk.service.runtime
    day = datetime.now(UTC).date() - timedelta(days=DAYS_AGO)
    await desk.service.settle()
    assert await runtime.idle()
    url = runtime.settings.database_url
    with psycopg.connect(url) as connection:
        connection.execute(
            f"create table outbox_{day:%Y%m%d} partition of outbox for values from ('{day} 00:00+00') "
            f"to ('{day + timedelta(days=1)} 00:00+00')"
        )
        connection.execute("update outbox set created_at = %s", (f"{day} 12:00+00",))
        connection.execute("update relay_mark set at = %s", (f"{day} 12:00+00",))
    store = Folder(folder)
    runtime.stories._store = store  # this service was started without an archive
    done = await Archive("conversation", url, store, timedelta(days=7), EVT_CONVERSATION).run()
    assert done is not None
    assert not done.kept
    return done.rows


def forget_places(desk) -> str:
    """As if days had been archived before places were noted; answers the database's address."""
    url = desk.service.runtime.settings.database_url
    with psycopg.connect(url) as connection:
        connection.execute("select set_config('relevo.door', 'archive', false)")
        connection.execute("delete from log_places")
        connection.execute("delete from log_placed")
    return url


async def told(desk, path, who, **params):
    """The whole timeline, by pages."""
    items, cursor = [], None
    while True:
        answer = await desk.get(f"{path}/timeline", who, **params, **({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        items += page["items"]
        cursor = page["next"]
        if cursor is None:
            return items


async def command(desk, model, conversation, **how):
    await desk.service.admin.publish(model, account=desk.world.account_id, entity=conversation, **how)
    await desk.service.settle()


def test_every_event_is_told_with_its_cause(at_desk, tmp_path):
    async def body(desk):
        eva_id, eva = await desk.agent()
        path = await desk.begun(eva, "¿Tienen stock?")
        conversation = path.rpartition("/")[2]
        first = (await told(desk, path, eva))[1]
        rule = new_id()
        await command(
            desk,
            ChangeLabels(conversation_id=conversation, add=("venta",)),
            conversation,
            actor=f"rule:{rule}",
            cause=_envelope(first, desk, conversation),
            actor_version=3,
        )
        reason = Reason(code="round_robin", es="", en="")
        assigned = ConversationAssigned(conversation_id=conversation, version=1, assignee_id=eva_id, reason=reason)
        await command(desk, assigned, conversation, sequence=1, cause=_envelope(first, desk, conversation))
        sent = (await desk.post(f"{path}/messages", eva, {"text": "Sí"})).json()
        note = (await desk.post(f"{path}/messages", eva, {"text": "secreto", "private": True})).json()
        await desk.send("PATCH", f"{path}/messages/{note['id']}", eva, {"text": "más secreto"})
        await desk.send("DELETE", f"{path}/messages/{note['id']}", eva)
        await desk.post(f"{path}/resolve", eva)
        items = await told(desk, path, eva)
        assert [(one["sequence"], one["type"].split(".")[2], one["cause"]["kind"]) for one in items] == [
            (1, "conversation_opened", "customer"),
            (2, "message_created", "customer"),
            (3, "labels_changed", "rule"),
            (4, "assignee_changed", "policy"),
            (5, "message_created", "person"),
            (6, "message_created", "person"),
            (7, "message_edited", "person"),
            (8, "message_deleted", "person"),
            (9, "conversation_resolved", "person"),
        ]
        texts = [(one["text"], one["cause"]["text"]) for one in items]
        assert texts[2:5] == [
            ("Una regla etiquetó con venta.", "Por una regla (versión 3), a raíz de: El cliente escribió."),
            (
                "Relevo asignó la conversación a Eva Ruiz.",
                "Por la política de reparto: turno rotatorio, a raíz de: El cliente escribió.",
            ),
            ("Eva Ruiz respondió al cliente.", "Lo hizo Eva Ruiz."),
        ]
        ruled = items[2]["cause"]
        assert (ruled["rule_version"], ruled["actor"], ruled["sequence"]) == (3, f"rule:{rule}", 2)
        assert ruled["event_id"] == first["id"] == ruled["chain"][1]
        assert ruled["correlation_id"] == first["cause"]["correlation_id"]
        assert items[3]["values"]["to"] == eva_id
        assert items[4]["message"]["text"] == "Sí"
        assert items[4]["message_id"] == sent["id"]
        assert items[5]["message"]["deleted_at"]
        assert "secreto" not in str(items)
        english = await told(desk, path, eva | {"accept-language": "en"}, order="newest", limit=2)
        assert [one["id"] for one in english] == [one["id"] for one in reversed(items)]
        assert english[-3]["cause"]["text"] == "By a rule (version 3), because of: The customer wrote."
        _, elsewhere = await desk.agent(inboxes=(new_id(),))
        await desk.refused(await desk.get(f"{path}/timeline", elsewhere), 404, "conversation_not_found")
        await desk.refused(await desk.get(f"{path}/timeline", eva, cursor="x"), 422, "invalid_cursor")
        assert await archived(desk, tmp_path) >= len(items)
        assert await told(desk, path, eva) == items
        await desk.post(f"{path}/reopen", eva)
        again = await told(desk, path, eva, limit=4)
        assert again[:-1] == items
        assert again[-1]["sequence"] == 10
        backwards = await told(desk, path, eva, order="newest", limit=3)
        assert [one["sequence"] for one in backwards] == list(range(10, 0, -1))
        # What was archived before anybody noted places is found once they are.
        url = forget_places(desk)
        assert [one["sequence"] for one in await told(desk, path, eva)] == [10]
        await Archive("conversation", url, Folder(tmp_path), timedelta(days=7), EVT_CONVERSATION).run()
        assert await told(desk, path, eva) == again
        # Who was erased is in no past, however far the eraser is with the log.
        _, admin = await desk.agent("administrator")
        mark, then = "marca7f3", now()
        await desk.post(f"{path}/subject", eva, {"subject": mark})
        seen = now()
        assert mark in str(await told(desk, path, eva))
        contact = (await desk.get(path, admin)).json()["contact"]["id"]
        assert (await desk.post(f"/contacts/{contact}/erase", admin)).status_code == 202
        after = await told(desk, path, eva)
        assert [one["sequence"] for one in after[: len(again)]] == [one["sequence"] for one in again]
        assert mark not in str(after)
        for at in (then, seen):
            past = (await desk.get(f"{path}/as-of", eva, at=at.isoformat())).json()["conversation"]
            assert (past["subject"], past["contact"]["phone"], past["contact"]["name"]) == ("", None, "")

    at_desk(body)


def _envelope(entry, desk, conversation):
    moment = now()
    return Envelope(
        id=entry["id"],
        type=entry["type"],
        source="relevo/conversation",
        account=desk.world.account_id,
        entity=conversation,
        time=moment,
        recorded=moment,
        correlation_id=entry["cause"]["correlation_id"],
        causation_id=entry["cause"]["chain"][0],
    )


def test_as_of_a_moment_it_is_what_it_was_then(at_desk, tmp_path):
    chance = random.Random(7)

    async def body(desk):
        _, eva = await desk.agent("administrator")
        path = await desk.begun(eva)
        contact = (await desk.get(path, eva)).json()["contact"]["id"]
        until = (now() + timedelta(days=1)).isoformat()
        acts = [
            ("POST", f"{path}/resolve", None),
            ("POST", f"{path}/reopen", None),
            ("POST", f"{path}/archive", None),
            ("POST", f"{path}/unarchive", None),
            ("POST", f"{path}/snooze", {"until": until}),
            ("POST", f"{path}/priority", {"priority": "urgent"}),
            ("POST", f"{path}/priority", {"priority": "low"}),
            ("POST", f"{path}/subject", {"subject": "Uno"}),
            ("POST", f"{path}/subject", {"subject": "Dos"}),
            ("POST", f"{path}/labels", {"add": ["a", "b"]}),
            ("POST", f"{path}/labels", {"add": ["c"], "remove": ["a"]}),
            ("POST", f"{path}/messages", {"text": "Hola"}),
            ("POST", f"{path}/messages", {"text": "Nota", "private": True}),
            ("PATCH", f"/contacts/{contact}", {"name": "Ana"}),
            ("PATCH", f"/contacts/{contact}", {"name": "Ana María"}),
        ]
        kept = []
        for n in range(30):
            method, where, given = chance.choice(acts)
            if chance.random() < 0.15:
                await desk.customer_writes(text=f"mensaje {n}")
            headers = eva
            if where.startswith("/contacts"):
                headers = eva | {"if-match": (await desk.get(where, eva)).headers["etag"]}
            answer = await desk.send(method, where, headers, given)
            assert answer.status_code in (200, 201, 409), answer.text
            if chance.random() < 0.6:
                kept.append((now(), (await desk.get(path, eva)).json()))
        assert len({str(state) for _, state in kept}) > 8
        created = datetime.fromisoformat(kept[0][1]["created_at"])
        for round_ in range(2):
            for at, state in kept:
                found = await desk.get(f"{path}/as-of", eva, at=at.isoformat())
                assert found.status_code == 200, found.text
                assert found.json()["conversation"] == state
                assert datetime.fromisoformat(found.json()["changed_at"]) <= at
            before = await desk.get(f"{path}/as-of", eva, at=(created - timedelta(minutes=1)).isoformat())
            await desk.refused(before, 404, "not_there_yet")
            if not round_:
                await archived(desk, tmp_path)
        future = await desk.get(f"{path}/as-of", eva, at=(now() + timedelta(minutes=1)).isoformat())
        await desk.refused(future, 422, "moment_in_the_future", "/query/at")
        _, elsewhere = await desk.agent(inboxes=(new_id(),))
        hidden = await desk.get(f"{path}/as-of", elsewhere, at=kept[0][0].isoformat())
        await desk.refused(hidden, 404, "conversation_not_found")
        forget_places(desk)
        lost = await desk.get(f"{path}/as-of", eva, at=kept[0][0].isoformat())
        await desk.refused(lost, 409, "beyond_the_log")

    at_desk(body)


def test_the_policys_reasons_have_words_and_one_that_has_none_yet_still_reads_as_a_sentence():
    assert set(REASONS) <= set(get_args(ReasonCode)), "words for what no decision says any more"
    moment = now()
    unknown = AssigneeChanged.model_construct(reason="of_tomorrow")
    envelope = Envelope("e", "t", "s", "a", "c", moment, moment)
    assert because(Happened(envelope, unknown), {}, "en") == "By the routing policy."
