"""The bus side on a real database: batches in, rows and events out."""

import asyncio
import random

import pytest
from sqlalchemy import text

from relevo.chassis.bus import until
from relevo.contracts.assignment import ConversationAssigned, ConversationQueued, Reason
from relevo.contracts.base import new_id
from relevo.contracts.conversation import ChangeLabels, ResolveConversation, SendMessage
from relevo.conversation.handlers import on_assignment, on_commands, on_ingest
from relevo.conversation.store import contacts

REASON = Reason(code="least_loaded", es="Menos carga", en="Least loaded")
STATEMENTS = 10


def one(service, query="select * from conversations"):
    (row,) = service.rows(query)
    return row


def names(service, entity=None):
    return [name for name, _, _ in service.events(entity)]


def test_a_first_message_makes_contact_conversation_and_message(run, world):
    async def body(service):
        first = world.message("34600111222", "Hola, ¿tienen stock?", phone="600 111 222")
        await service.handle(on_ingest, first)
        conversation = one(service)
        assert names(service) == ["contact_created", "conversation_opened", "message_created"]
        assert conversation["number"] == 1
        assert conversation["stage"] == "new"
        contact = one(service, "select * from contacts")
        assert contact["phone"] == "+34600111222"
        created = service.events(str(conversation["id"]))[-1]
        assert created[1]["first"] is True
        assert created[1]["message"]["text"] == "Hola, ¿tienen stock?"
        assert created[1]["conversation"]["sequence"] == 2
        assert created[2]["relevo-sequence"] == "2"
        assert created[2]["relevo-actor"] == f"contact:{contact['id']}"
        assert created[2]["relevo-causation-id"] == first.envelope.id

    run(body)


def test_messages_of_a_batch_keep_their_order(run, world):
    async def body(service):
        batch = [world.message(who, f"{n}") for n in range(20) for who in ("a", "b")]
        await service.handle(on_ingest, *batch[:10])
        await service.handle(on_ingest, *batch[10:])
        for conversation in service.rows("select id, sequence, message_count from conversations"):
            stored = service.rows(
                "select text, sequence from messages where conversation_id = %s order by sequence", conversation["id"]
            )
            assert [row["text"] for row in stored] == [str(n) for n in range(20)]
            assert [row["sequence"] for row in stored] == list(range(2, 22))
            sequences = [int(h["relevo-sequence"]) for _, _, h in service.events(str(conversation["id"]))]
            assert sequences == list(range(1, 22))
            assert (conversation["sequence"], conversation["message_count"]) == (21, 20)

    run(body)


def test_a_batch_of_any_mix_takes_few_statements(run, world):
    async def body(service):
        other = world.make_inbox("email", reopen="new_after_resolved")
        await service.handle(on_ingest, *(world.message(f"known{n}") for n in range(100)))
        ids = [str(row["id"]) for row in service.rows("select id from conversations order by number")]
        send = [world.command(SendMessage(conversation_id=id_, text="Recibido"), id_) for id_ in ids]
        await service.handle(on_commands, *send)
        sent = service.rows("select id from messages where kind = 'outgoing'")
        blocked = one(service, "select id from contacts limit 1")["id"]
        async with service.database.begin() as tx:
            await tx.conn.execute(f"update contacts set blocked = true where id = '{blocked}'")

        batch = [world.message(f"known{n % 100}") for n in range(200)]
        batch += [world.message(f"new{n}", inbox=other, email=f"c{n}@example.com") for n in range(200)]
        batch += [world.status("x", str(row["id"]), "delivered") for row in sent]
        random.Random(7).shuffle(batch)
        service.statements.clear()
        await service.handle(on_ingest, *batch)
        mine = [s for s in service.statements if "insert into outbox" not in s]
        assert len(mine) <= STATEMENTS, mine
        assert len(service.rows("select 1 from messages where status = 'delivered'")) == 100
        assert len(service.rows("select 1 from messages where withheld_from is not null")) == 2
        assert len(service.rows("select 1 from conversations")) == 300
        assert len(service.rows("select distinct number from conversations")) == 300

    run(body)


def test_a_thousand_messages_are_two_batches_and_sixteen_statements_at_most(run, world):
    async def body(service):
        batch = [world.message(f"c{n % 250}", email=f"c{n % 250}@example.com") for n in range(1000)]
        for half in (batch[:500], batch[500:]):
            await service.handle(on_ingest, *half)
        mine = [s for s in service.statements if "insert into outbox" not in s]
        assert len(mine) <= 2 * STATEMENTS
        assert len(service.rows("select 1 from messages")) == 1000

    run(body)


def test_one_person_on_two_inboxes_at_the_same_moment_is_one_contact(run, world):
    async def body(service):
        left, right = world.make_inbox("email"), world.make_inbox("webchat")
        people = [{"email": f"p{n}@example.com", "phone": f"+3460000{n:04d}"} for n in range(1000)]

        async def write(inbox, prefix, lot):
            messages = [world.message(f"{prefix}{p['email']}", inbox=inbox, **p) for p in lot]
            random.shuffle(messages)
            await service.handle(on_ingest, *messages)

        for at in range(0, 1000, 250):
            lot = people[at : at + 250]
            await asyncio.gather(write(left, "l", lot), write(right, "r", lot))
        assert len(service.rows("select 1 from contacts")) == 1000
        assert len(service.rows("select 1 from conversations")) == 2000
        assert names(service).count("contact_created") == 1000
        shared = service.rows("select contact_id from contact_channels group by 1 having count(distinct inbox_id) = 2")
        assert len(shared) == 1000

    run(body)


def test_the_loser_of_the_race_takes_the_winner_s_contact(run, world):
    """One transaction has made the contact but not committed when the other looks for it."""

    async def body(service):
        async def waits_for_a_lock():
            return bool(
                service.rows(
                    "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
                )
            )

        left, right = world.make_inbox("email"), world.make_inbox("webchat")
        async with service.database.begin(world.account_id) as tx:
            await on_ingest([world.message("l", inbox=left, email="ana@example.com")], tx)
            second = asyncio.create_task(
                service.handle(on_ingest, world.message("r", inbox=right, email="ana@example.com"))
            )
            assert await until(waits_for_a_lock, 30)
        await second
        contact = one(service, "select id from contacts")
        assert {row["contact_id"] for row in service.rows("select contact_id from conversations")} == {contact["id"]}
        assert names(service).count("contact_created") == 1

    run(body)


@pytest.mark.parametrize(("policy", "conversations"), [("always_one", 1), ("new_after_resolved", 2)])
def test_the_inbox_says_whether_a_resolved_conversation_goes_on(run, world, policy, conversations):
    async def body(service):
        inbox = world.make_inbox(reopen=policy)
        await service.handle(on_ingest, world.message("a", inbox=inbox))
        id_ = str(one(service)["id"])
        await service.handle(on_commands, world.command(ResolveConversation(conversation_id=id_), id_))
        await service.handle(on_ingest, world.message("a", "otra", inbox=inbox), world.message("a", "más", inbox=inbox))
        await service.handle(on_ingest, world.message("a", "y más", inbox=inbox))
        found = service.rows("select status, cycle, message_count from conversations order by number")
        assert len(found) == conversations
        assert [row["status"] for row in found] == (["open"] if conversations == 1 else ["resolved", "open"])
        assert sum(row["message_count"] for row in found) == 4
        assert found[0]["cycle"] == (2 if conversations == 1 else 1)

    run(body)


def test_a_blocked_contact_s_messages_are_kept_open_nothing_and_tell_nobody(run, world):
    async def body(service):
        await service.handle(on_ingest, world.message("a", "antes"))
        before = len(service.events())
        async with service.database.begin() as tx:
            await tx.conn.execute("update contacts set blocked = true")
        await service.handle(on_ingest, world.message("a", "insulto"))
        await service.handle(on_ingest, world.message("a", "insulto", inbox=world.make_inbox(), phone=None))
        withheld = service.rows("select text from messages where withheld_from is not null")
        assert [row["text"] for row in withheld] == ["insulto"]
        assert (
            one(service, "select * from conversations where channel = 'whatsapp' order by number limit 1")[
                "message_count"
            ]
            == 1
        )
        assert [name for name, _, _ in service.events()[before:]].count("message_created") == 1  # the other contact's

    run(body)


def test_a_command_sent_twice_acts_once(run, world):
    async def body(service):
        await service.handle(on_ingest, world.message("a"))
        id_ = str(one(service)["id"])
        twice = world.command(SendMessage(conversation_id=id_, text="Gracias por escribir"), id_)
        again = world.command(twice.data, id_, id=twice.envelope.id)
        await service.handle(on_commands, twice, again)
        await service.handle(on_commands, again)
        assert len(service.rows("select 1 from messages where kind = 'outgoing'")) == 1
        resolve = world.command(ResolveConversation(conversation_id=id_), id_)
        await service.handle(on_commands, resolve)
        await service.handle(on_ingest, world.message("a", "¡Espera!"))
        await service.handle(on_commands, world.command(resolve.data, id_, id=resolve.envelope.id))
        assert one(service)["status"] == "open"

    run(body)


def test_commands_that_the_state_does_not_allow_are_ignored_and_the_others_act(run, world):
    async def body(service):
        await service.handle(on_ingest, world.message("a"))
        id_ = str(one(service)["id"])
        stranger = new_id()
        await service.handle(
            on_commands,
            world.command(ResolveConversation(conversation_id=id_), id_),
            world.command(ResolveConversation(conversation_id=id_), id_),
            world.command(ResolveConversation(conversation_id=stranger), stranger),
            world.command(ChangeLabels(conversation_id=id_, add=("vip", "vip"), remove=("otro",)), id_),
        )
        assert names(service, id_)[2:] == ["conversation_resolved", "labels_changed"]
        assert one(service)["labels"] == ["vip"]
        resolved = service.events(id_)[2]
        assert resolved[2]["relevo-actor"] == "rule:r1"
        assert resolved[2]["relevo-depth"] == "1"

    run(body)


def test_a_rule_s_reply_leaves_for_the_customer_and_its_note_never_does(run, world):
    async def body(service):
        await service.handle(on_ingest, world.message("a"))
        id_ = str(one(service)["id"])
        await service.handle(
            on_commands,
            world.command(SendMessage(conversation_id=id_, text="Para dentro", private=True), id_),
            world.command(SendMessage(conversation_id=id_, text="Para fuera"), id_),
        )
        outbound = service.rows(
            "select subject, convert_from(body, 'utf8') as body from outbox where stream = 'OUTBOUND'"
        )
        assert len(outbound) == 1
        assert "Para fuera" in outbound[0]["body"]
        assert outbound[0]["subject"].startswith(f"outbound.{world.account_id}.{world.inbox.id}.")
        kept = service.rows("select kind, status from messages where author = 'rule:r1' order by sequence")
        assert [(row["kind"], row["status"]) for row in kept] == [("note", "received"), ("outgoing", "queued")]

    run(body)


def test_delivery_reports_only_move_forward_and_only_within_their_inbox(run, world):
    async def body(service):
        await service.handle(on_ingest, world.message("a"))
        id_ = str(one(service)["id"])
        await service.handle(on_commands, world.command(SendMessage(conversation_id=id_, text="Hola"), id_))
        message = str(one(service, "select id from messages where kind = 'outgoing'")["id"])
        await service.handle(on_ingest, world.status("a", message, "read", inbox=world.make_inbox()))
        assert one(service, "select status from messages where kind = 'outgoing'")["status"] == "queued"
        await service.handle(
            on_ingest,
            world.status("a", message, "delivered"),
            world.status("a", message, "sent"),
            world.status("a", new_id(), "read"),
            world.status("a", "not-one-of-ours", "read"),
        )
        row = one(service, "select status, external_id from messages where kind = 'outgoing'")
        assert row == {"status": "delivered", "external_id": f"wamid.{message}"}
        assert names(service, id_).count("message_status_changed") == 1

    run(body)


def test_assignments_are_folded_in_version_order_and_told_in_the_story(run, world):
    async def body(service):
        await service.handle(on_ingest, world.message("a"))
        id_, agent = str(one(service)["id"]), new_id()

        def assigned(version, assignee):
            data = ConversationAssigned(
                conversation_id=id_, version=version, assignee_id=assignee, mode="manual", reason=REASON
            )
            return world.told(data, id_)

        queued = ConversationQueued(conversation_id=id_, version=1, reason=REASON)
        await service.handle(on_assignment, world.told(queued, id_), assigned(3, agent), assigned(2, new_id()))
        row = one(service)
        assert (str(row["assignee_id"]), row["assignment_version"]) == (agent, 3)
        changed = [body for name, body, _ in service.events(id_) if name == "assignee_changed"]
        assert len(changed) == 1
        assert changed[0]["from_assignee_id"] is None
        assert changed[0]["conversation"]["assignee_id"] == agent
        assert changed[0]["before"]["assignee_id"] is None
        assert changed[0]["reason"] == "least_loaded"

    run(body)


def test_another_account_s_command_reaches_nothing(run, world):
    async def body(service):
        await service.handle(on_ingest, world.message("a"))
        id_ = str(one(service)["id"])
        stranger = type(world)()
        await service.handle(on_commands, stranger.command(ResolveConversation(conversation_id=id_), id_))
        await service.handle(
            on_ingest, stranger.status("a", str(one(service, "select id from messages")["id"]), "read")
        )
        assert one(service)["status"] == "open"

    run(body)


def test_nothing_is_left_of_a_batch_that_fails(run, world):
    async def body(service):
        class Failed(Exception):
            pass

        async def fail(batch, tx):
            await on_ingest(batch, tx)
            raise Failed

        with pytest.raises(Failed):
            await service.handle(fail, world.message("a"))
        assert service.rows("select 1 from contacts") == []
        assert service.events() == []
        await service.handle(on_ingest, world.message("a"))
        assert one(service)["number"] >= 1

    run(body)


def test_senders_are_looked_up_by_index_also_before_the_database_knows_how_large_it_is(run, world):
    """A fresh database has no statistics: a wrong guess would walk a whole inbox for every message."""

    async def body(service):
        async with service.database.begin() as tx:
            for table in ("contacts", "contact_channels", "conversations", "messages"):
                await tx.conn.execute(f"alter table {table} set (autovacuum_enabled = false)")
        for at in range(0, 2000, 500):
            await service.handle(on_ingest, *(world.message(f"c{n}") for n in range(at, at + 500)))
        parameters = {
            "accounts": [world.account_id] * 500,
            "inboxes": [world.inbox.id] * 500,
            "sources": [f"c{n}" for n in range(500)],
            "emails": [None] * 500,
            "phones": [None] * 500,
        }
        async with service.database.begin() as tx:
            explained = await tx.execute(text(f"explain {contacts._FIND_SENDERS.text}"), parameters)
            plan = "\n".join(explained.scalars())
        assert "Index Scan using conversations_of_channel" in plan, plan

    run(body)


def test_several_doors_at_once_make_one_story_without_gaps(run, world):
    """Messages, commands and assignments in transactions that meet: the row locks put them in one order."""

    async def body(service):
        people = [f"c{n}" for n in range(10)]
        await service.handle(on_ingest, *(world.message(who) for who in people))
        ids = [str(row["id"]) for row in service.rows("select id from conversations")]

        def assigned(id_, version):
            return world.told(
                ConversationAssigned(conversation_id=id_, version=version, assignee_id=new_id(), reason=REASON), id_
            )

        def commands(n):
            return [world.command(SendMessage(conversation_id=id_, text=f"r{n}"), id_) for id_ in ids]

        doors = []
        for n in range(1, 6):
            for handler, batch in (
                (on_ingest, [world.message(who, f"m{n}") for who in people]),
                (on_commands, commands(n)),
                (on_assignment, [assigned(id_, n) for id_ in ids]),
            ):
                random.shuffle(batch)
                doors.append(service.handle(handler, *batch))
        await asyncio.gather(*doors)
        for row in service.rows("select id, sequence, message_count from conversations"):
            told = [int(h["relevo-sequence"]) for _, _, h in service.events(str(row["id"])) if "relevo-sequence" in h]
            assert told == list(range(1, row["sequence"] + 1))
            assert row["message_count"] == 11

    run(body)
