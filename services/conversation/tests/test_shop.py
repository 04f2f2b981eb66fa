"""Random acts of customers, agents and other services, on two replicas: the account is as it must be after them."""

import asyncio
import os
import time
from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from relevo.chassis.testing import running, stepwise
from relevo.contracts.base import now
from relevo.contracts.conversation import ChangeLabels, ResolveConversation, SendMessage
from relevo.conversation.app import build

from .conftest import Desk, World
from .shop import SECRET, Expected, Shop

UNRESOLVED = ("open", "pending", "snoozed")
ACTS = {
    "resolve": (lambda c: c.unresolved, ("resolved", False)),
    "reopen": (lambda c: not c.unresolved, ("open", False)),
    "archive": (lambda c: not c.archived, ("resolved", True)),
    "unarchive": (lambda c: c.archived, ("resolved", False)),
    "wake": (lambda c: c.status == "snoozed", ("open", False)),
    "pending": (lambda c: c.status in ("open", "snoozed"), ("pending", False)),
    "take-over": (lambda c: c.status == "pending", ("open", False)),
    "spam": (lambda c: not c.archived, ("resolved", True)),
}
"""When each act is allowed, and the status and archived flag that it gives."""
BULK = {"resolve": "resolve", "archive": "archive", "wake": "wake", "pending": "pending", "take_over": "take-over"}
WHO = ["34600111001", "34600111002", "34600111003"]
LABELS = ["vip", "envío", "factura"]
any_one = st.integers(0, 99)
SOME = int(os.environ.get("RELEVO_TEST_DAYS", "4"))


class AnyDay(RuleBasedStateMachine):
    """One account's day. `replicas`, `run` and `figures` are of the test."""

    replicas: list
    run = staticmethod(lambda coroutine: None)
    figures: Counter

    @initialize(first=st.sampled_from(WHO))
    def opens(self, first):
        self.steps = 0
        self.shop = self.run(Shop(Desk(self.replicas[0], World()), self.replicas).open())
        self.customers_write([(first, 0)])

    def do(self, name, coroutine):
        self.steps += 1
        self.figures[name] += 1
        return self.run(coroutine)

    def chosen(self, n):
        """One of the conversations, with what it must be like."""
        ids = sorted(self.shop.expected)
        return (ids[n % len(ids)], self.shop.expected[ids[n % len(ids)]]) if ids else (None, None)

    def person(self, n):
        return list(self.shop.people)[n % len(self.shop.people)]

    def may(self, answer, allowed, conflict=409):
        assert answer.status_code == conflict if not allowed else answer.is_success, (allowed, answer.text)
        if not allowed:
            assert answer.json()["detail"]
        return allowed

    def of_channel(self, who, inbox):
        """The conversation that a customer's message goes to: the unresolved one, or the last."""
        inbox_id = self.shop.inboxes[inbox].id
        ids = [
            i for i, c in self.shop.expected.items() if (c.source_id, c.inbox_id) == (who, inbox_id) and not c.erased
        ]
        return next((i for i in reversed(ids) if self.shop.expected[i].unresolved), ids[-1] if ids else None)

    @rule(senders=st.lists(st.tuples(st.sampled_from(WHO), st.integers(0, 1)), min_size=1, max_size=3))
    def customers_write(self, senders):
        shop = self.shop
        self.do("message", shop.writes(*senders))
        account = shop.account
        for who, inbox in senders:
            inbox_id = shop.inboxes[inbox].id
            (channel,) = shop.rows(
                "select contact_id from contact_channels where account_id = %s and inbox_id = %s and source_id = %s",
                account, inbox_id, who,
            )  # fmt: skip
            if str(channel["contact_id"]) in shop.blocked:
                continue
            id_ = self.of_channel(who, inbox)
            if id_ and shop.expected[id_].unresolved:
                shop.expected[id_].status = "pending" if shop.expected[id_].status == "pending" else "open"
            elif id_ and shop.inboxes[inbox].reopen == "always_one":
                shop.expected[id_].status, shop.expected[id_].archived = "open", False
            else:
                found = shop.rows(
                    "select id, contact_id from conversations where account_id = %s and inbox_id = %s and source_id = %s",
                    account, inbox_id, who,
                )  # fmt: skip
                (new,) = [row for row in found if str(row["id"]) not in shop.expected]
                shop.expected[str(new["id"])] = Expected(str(new["contact_id"]), inbox_id, who)

    @rule(n=any_one, act=st.sampled_from(sorted(ACTS)))
    def acts(self, n, act):
        id_, wanted = self.chosen(n)
        if id_ is None:
            return
        allowed, (status, archived) = ACTS[act]
        answer = self.do(act, self.shop.ask("POST", f"/conversations/{id_}/{act}"))
        if self.may(answer, allowed(wanted)):
            wanted.status, wanted.archived = status, archived
            assert answer.json()["status"] == status
            if act == "spam":
                self.shop.blocked.add(wanted.contact_id)

    @rule(n=any_one, ahead=st.sampled_from([None, 0.05, 3600]))
    def snoozes(self, n, ahead):
        id_, wanted = self.chosen(n)
        if id_ is None:
            return
        until = now() + timedelta(seconds=ahead) if ahead else None
        body = {"until": until.isoformat() if until else None}
        answer = self.do("snooze", self.shop.ask("POST", f"/conversations/{id_}/snooze", body))
        if answer.status_code == 422 and ahead == 0.05:
            return  # a slow machine: that moment has passed
        if self.may(answer, wanted.unresolved):
            wanted.status = "snoozed"
            if ahead == 0.05:
                self.run(self.comes(until))
                wanted.status = "open"

    async def comes(self, moment):
        await asyncio.sleep(max(0.0, (moment - now()).total_seconds()) + 0.01)
        await self.shop.ring()

    @rule(n=any_one, by=any_one, on=any_one)
    def replies(self, n, by, on):
        id_, wanted = self.chosen(n)
        if id_ is None:
            return
        later = on % 4 == 0
        path, body = f"/conversations/{id_}/messages", {"text": f"respuesta {on}"}
        if later:
            path, body["send_at"] = f"/conversations/{id_}/waiting", (now() + timedelta(hours=on + 1)).isoformat()
        answer = self.do("send later" if later else "reply", self.shop.ask("POST", path, body))
        if not self.may(answer, not wanted.archived):
            return
        if later:
            self.shop.waiting[answer.json()["id"]] = id_
        elif self.shop.drafts.get((self.shop.admin, id_), "").startswith("borrador"):
            del self.shop.drafts[self.shop.admin, id_]

    @rule(n=any_one, undo=st.booleans())
    def what_waits_is_undone_or_sent(self, n, undo):
        waiting = sorted(self.shop.waiting)
        if not waiting:
            return
        id_ = waiting[n % len(waiting)]
        of = self.shop.waiting.pop(id_)
        path = f"/conversations/{of}/waiting/{id_}"
        if undo:
            self.may(self.do("undo send", self.shop.ask("DELETE", path)), allowed=True)
        else:
            self.do("its time comes", self.sent_now(id_))
        gone = self.run(self.shop.ask("DELETE", path))
        assert gone.status_code == 404 or (not undo and self.shop.expected[of].archived)

    async def sent_now(self, id_):
        """As if its time had come."""
        import psycopg

        async with await psycopg.AsyncConnection.connect(self.replicas[0].dsn) as connection:
            await connection.execute("update timers set due_at = now() where key = %s", [id_])
        await self.shop.ring()

    @rule(n=any_one, mentions=st.sets(st.integers(0, 2), max_size=2))
    def notes(self, n, mentions):
        id_, wanted = self.chosen(n)
        if id_ is None:
            return
        people = [self.person(one) for one in sorted(mentions)]
        body = {"text": f"{SECRET} {n}", "private": True, "mentions": [f"agent:{one}" for one in people]}
        answer = self.do("note", self.shop.ask("POST", f"/conversations/{id_}/messages", body))
        self.may(answer, allowed=True)
        wanted.participants |= set(people)
        self.shop.said[answer.json()["id"]] = (id_, body["text"])

    @rule(n=any_one, what=st.sampled_from(["edit", "delete", "react", "take back"]))
    def notes_change(self, n, what):
        notes = sorted(m for m, (of, _) in self.shop.said.items() if not self.shop.expected[of].erased)
        if not notes:
            return
        id_ = notes[n % len(notes)]
        of, _ = self.shop.said[id_]
        path = f"/conversations/{of}/messages/{id_}"
        if what == "edit":
            answer = self.do(what, self.shop.ask("PATCH", path, {"text": f"{SECRET} ya no {n}"}))
            if self.may(answer, id_ not in self.shop.by_rules, conflict=403):
                self.shop.said[id_] = (of, f"{SECRET} ya no {n}")
        elif what == "delete":
            self.may(self.do(what, self.shop.ask("DELETE", path)), allowed=True)
            del self.shop.said[id_]
        else:
            body = {"emoji": "👍", "add": what == "react"}
            found = self.do(what, self.shop.ask("POST", f"{path}/reactions", body))
            self.may(found, allowed=True)
            assert len(found.json()["reactions"]) == (what == "react")

    @rule(n=any_one, add=st.sets(st.sampled_from(LABELS)), off=st.sets(st.sampled_from(LABELS)), by_rule=st.booleans())
    def labels(self, n, add, off, by_rule):
        id_, wanted = self.chosen(n)
        if id_ is None:
            return
        if by_rule:
            command = ChangeLabels(conversation_id=id_, add=tuple(sorted(add)), remove=tuple(sorted(off)))
            self.do("labels command", self.shop.tell(command, id_))
        else:
            body = {"add": sorted(add), "remove": sorted(off)}
            self.may(self.do("labels", self.shop.ask("POST", f"/conversations/{id_}/labels", body)), allowed=True)
        wanted.labels = (wanted.labels - off) | add

    @rule(n=any_one, what=st.sampled_from(["resolve", "reply", "note"]))
    def a_rule_asks(self, n, what):
        id_, wanted = self.chosen(n)
        if id_ is None:
            return
        if what == "resolve":
            self.do("resolve command", self.shop.tell(ResolveConversation(conversation_id=id_), id_))
            wanted.status = "resolved"
            return
        text = f"{SECRET} de una regla" if what == "note" else "de una regla"
        self.do(
            f"{what} command", self.shop.tell(SendMessage(conversation_id=id_, text=text, private=what == "note"), id_)
        )
        if what == "note":
            (row,) = self.shop.rows(
                "select id from messages where conversation_id = %s and kind = 'note' order by sequence desc limit 1",
                id_,
            )
            self.shop.said[str(row["id"])] = (id_, text)
            self.shop.by_rules.add(str(row["id"]))

    @rule(n=any_one, priority=st.sampled_from([None, "low", "urgent"]))
    def priority(self, n, priority):
        id_, wanted = self.chosen(n)
        if id_:
            body = {"priority": priority}
            self.may(self.do("priority", self.shop.ask("POST", f"/conversations/{id_}/priority", body)), allowed=True)
            wanted.priority = priority

    @rule(n=any_one, add=st.sets(st.integers(0, 2)), off=st.sets(st.integers(0, 2)))
    def participants(self, n, add, off):
        id_, wanted = self.chosen(n)
        if id_ is None:
            return
        come, go = {self.person(one) for one in add}, {self.person(one) for one in off}
        body = {"add": sorted(come), "remove": sorted(go)}
        self.may(
            self.do("participants", self.shop.ask("POST", f"/conversations/{id_}/participants", body)), allowed=True
        )
        wanted.participants = (wanted.participants - go) | come

    @rule(n=any_one, to=st.sampled_from([None, 0, 1, 2]))
    def assigned(self, n, to):
        id_, wanted = self.chosen(n)
        if id_ is None:
            return
        wanted.version += 1
        wanted.assignee_id = None if to is None else self.person(to)
        self.do("assign", self.shop.assign(id_, wanted.assignee_id, wanted.version))

    @rule(n=any_one, by=any_one, back=st.booleans())
    def somebody_looks(self, n, by, back):
        id_, _ = self.chosen(n)
        if id_ is None:
            return
        who = self.person(by)
        last = self.run(self.shop.ask("GET", f"/conversations/{id_}"))
        path = f"/conversations/{id_}/{'unseen' if back else 'seen'}"
        answer = self.do("unseen" if back else "seen", self.shop.ask("POST", path, None if back else {}, who=who))
        if answer.is_success and back:
            self.shop.seen[who, id_] = answer.json()["seen"]
            assert answer.json()["unread"] == 1
        elif answer.is_success:
            self.shop.seen[who, id_] = last.json()["sequence"]
            assert answer.json()["unread"] == 0

    @rule(n=any_one, by=any_one, keep=st.booleans())
    def drafts(self, n, by, keep):
        id_, wanted = self.chosen(n)
        if id_ is None or wanted.erased:
            return  # the eraser comes by when it comes by, and again, and takes drafts along
        who, path = self.person(by), f"/conversations/{id_}/draft"
        body = {"text": f"borrador {n}"} if keep else None
        answer = self.do("draft", self.shop.ask("PUT" if keep else "DELETE", path, body, who=who))
        if answer.is_success:
            self.shop.drafts.pop((who, id_), None)
            if keep:
                self.shop.drafts[who, id_] = body["text"]

    @rule(act=st.sampled_from(sorted(BULK)))
    def bulk(self, act):
        ids = sorted(self.shop.expected)
        if not ids:
            return
        job = self.do("bulk", self.shop.ask("POST", "/conversations/bulk", {"act": {"do": act}, "ids": ids}))
        self.may(job, allowed=True)
        self.run(self.shop.ring())
        done = self.run(self.finished(job.json()["id"]))
        allowed, (status, archived) = ACTS[BULK[act]]
        changed = [c for c in self.shop.expected.values() if allowed(c)]
        assert (done["changed"], done["refused"]) == (len(changed), len(ids) - len(changed))
        for one in changed:
            one.status, one.archived = status, archived

    async def finished(self, job_id):
        end = time.monotonic() + 20
        while True:
            found = (await self.shop.ask("GET", f"/conversations/bulk/{job_id}")).json()
            if found["state"] == "done":
                return found
            assert time.monotonic() < end, found
            await self.shop.ring()

    def contacts(self):
        return sorted({c.contact_id for c in self.shop.expected.values() if not c.erased})

    @rule(base=any_one, other=any_one, settled=st.booleans())
    def merges(self, base, other, settled):
        if len(self.contacts()) < 2:
            self.customers_write([(who, 0) for who in WHO])
        contacts = self.contacts()
        if len(contacts) < 2:
            return
        base = contacts.pop(base % len(contacts))
        other = contacts[other % len(contacts)]
        for id_, one in self.shop.expected.items():
            if settled and one.contact_id == other and one.unresolved:
                self.may(self.do("resolve", self.shop.ask("POST", f"/conversations/{id_}/resolve")), allowed=True)
                one.status = "resolved"
        answer = self.do("merge", self.shop.ask("POST", f"/contacts/{base}/merge", {"other_id": other}))
        self.may(answer, allowed=True)
        moved = [i for i, c in self.shop.expected.items() if c.contact_id == other]
        for id_ in moved:
            self.shop.expected[id_].contact_id = base
        self.shop.merges.append((answer.json()["merge"]["id"], base, other))
        self.blocked(base)
        gone = self.run(self.shop.ask("GET", f"/contacts/{other}"))
        assert gone.status_code != 200 or gone.json()["id"] == base

    @rule()
    def undoes_the_last_merge(self):
        if not self.shop.merges:
            return
        merge, base, other = self.shop.merges.pop()
        channels = [c for c in self.shop.expected.values() if c.contact_id == base and not c.erased]
        answer = self.do("undo merge", self.shop.ask("POST", f"/contacts/merges/{merge}/undo"))
        if answer.status_code in (404, 409):
            assert not channels or any(c.erased for c in self.shop.expected.values())
            return
        self.may(answer, allowed=True)
        found = self.shop.rows(
            "select c.id, ch.contact_id from conversations c join contact_channels ch on ch.account_id = c.account_id"
            " and ch.inbox_id = c.inbox_id and ch.source_id = c.source_id where c.account_id = %s",
            self.shop.account,
        )
        for row in found:  # a conversation belongs to whose channel it came over
            self.shop.expected[str(row["id"])].contact_id = str(row["contact_id"])
        self.blocked(base)
        self.blocked(other)

    def blocked(self, contact):
        answer = self.run(self.shop.ask("GET", f"/contacts/{contact}"))
        (self.shop.blocked.add if answer.json()["blocked"] else self.shop.blocked.discard)(contact)

    @rule(n=any_one, block=st.booleans())
    def blocks(self, n, block):
        _, wanted = self.chosen(n)
        if wanted is None or wanted.erased:
            return
        path = f"/contacts/{wanted.contact_id}/{'block' if block else 'unblock'}"
        self.may(self.do("block", self.shop.ask("POST", path)), allowed=True)
        self.blocked(wanted.contact_id)

    @rule(n=any_one)
    def erases(self, n):
        _, wanted = self.chosen(n)
        if n % 5 or wanted is None or wanted.erased:
            return
        contact = wanted.contact_id
        answer = self.do("erase", self.shop.ask("POST", f"/contacts/{contact}/erase"))
        self.may(answer, allowed=True)
        for id_, one in self.shop.expected.items():
            if one.contact_id == contact:
                one.erased, one.status = True, "resolved"
                self.forgets(id_)
        self.shop.merges = [merge for merge in self.shop.merges if contact not in merge]

    @rule(n=any_one)
    def deletes(self, n):
        id_, _ = self.chosen(n)
        if n % 4 or id_ is None:
            return
        body = {"reason": "se pidió"}
        self.may(self.do("delete", self.shop.ask("POST", f"/conversations/{id_}/delete", body)), allowed=True)
        del self.shop.expected[id_]
        self.shop.gone.add(id_)
        self.forgets(id_)
        self.shop.said = {m: one for m, one in self.shop.said.items() if one[0] != id_}

    def forgets(self, id_):
        shop = self.shop
        shop.waiting = {m: of for m, of in shop.waiting.items() if of != id_}
        shop.drafts = {key: text for key, text in shop.drafts.items() if key[1] != id_}

    @rule(n=any_one, sender=st.sampled_from(WHO))
    def all_at_once(self, n, sender):
        """Several doors at the same moment: whatever comes first, nothing is lost and the numbers have no gap."""
        id_, wanted = self.chosen(n)
        if (
            id_ is None
            or wanted.erased
            or wanted.contact_id in self.shop.blocked
            or self.shop.inboxes[0].id != wanted.inbox_id
        ):
            return
        self.do("at once", self.at_once(id_, wanted))

    async def at_once(self, id_, wanted):
        shop = self.shop
        note = {"text": f"{SECRET} a la vez", "private": True}
        answers = await asyncio.gather(
            shop.writes((wanted.source_id, 0)),
            shop.ask("POST", f"/conversations/{id_}/messages", note),
            shop.ask("POST", f"/conversations/{id_}/messages", note),
            shop.ask("POST", f"/conversations/{id_}/labels", {"add": ["vip"]}),
            shop.ask("POST", f"/conversations/{id_}/labels", {"add": ["envío"]}),
            shop.ask("POST", f"/conversations/{id_}/resolve"),
        )
        for answer in answers[1:3]:
            assert answer.status_code == 201, answer.text
            shop.said[answer.json()["id"]] = (id_, note["text"])
        wanted.labels |= {"vip", "envío"}
        found = (await shop.ask("GET", f"/conversations/{id_}")).json()
        wanted.status, wanted.archived = found["status"], found["archived"]
        assert wanted.status in ("resolved", "open", "pending")

    def teardown(self):
        if hasattr(self, "shop"):
            self.run(self.shop.check())
            self.run(self.shop.check_stream())
            self.figures["sequences"] += 1


@asynccontextmanager
async def two_replicas(servers):
    # The stream is compared with the log: whom a day erases must not leave the stream before it ends.
    more = {"RELEVO_LOOP_STALL_SECONDS": "3600", "RELEVO_ERASURE_SETTLE_SECONDS": "3600"}
    async with running(build, servers, **more) as one, running(build, servers, bus=one.bus, dsn=one.dsn, **more) as two:
        yield [one, two]


@pytest.fixture
def days(servers):
    """Plays so many days of so many acts; answers how often what was done."""

    def play(sequences, steps, **more):
        with stepwise(two_replicas(servers)) as (replicas, run):
            figures = Counter()
            kept = {"replicas": replicas, "run": staticmethod(run), "figures": figures}
            machine = type("Day", (AnyDay,), kept)
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=sequences,
                    stateful_step_count=steps,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                    **more,
                ),
            )
            return figures

    return play


@pytest.mark.timeout(max(300, 30 * SOME))
def test_some_days(days):
    figures = days(SOME, 15, derandomize=True)
    assert figures["sequences"] >= 4


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_three_hundred_days(days, capsys):
    """In parts: RELEVO_TEST_DAYS=60, and another --hypothesis-seed for each."""
    started, wanted = time.monotonic(), int(os.environ.get("RELEVO_TEST_DAYS", "300"))
    figures = days(wanted, 15)
    with capsys.disabled():
        told = ", ".join(f"{name} {n}" for name, n in figures.most_common())
        print(f"\n  {wanted} days in {time.monotonic() - started:.0f} s: {told}")  # noqa: T201
    assert figures["sequences"] >= wanted
