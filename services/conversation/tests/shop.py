"""An account that works in two replicas of the service, and what must hold of all that it holds.

Nothing here knows how the service comes to its answers: what is compared are the answers of the one replica and of
the other, lists and details, counts and what is counted, the events in the outbox and on the stream.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from relevo.chassis import timers
from relevo.chassis.bus import until
from relevo.contracts.assignment import ConversationAssigned, Reason
from relevo.contracts.base import Model
from relevo.contracts.catalogue import decode
from relevo.contracts.conversation import ConversationEvent
from relevo.contracts.identity import TeamState
from relevo.contracts.permissions import ConversationScope
from relevo.conversation import due
from relevo.conversation.domain import activity

from .stories import UNREDACTED, folds

SECRET = "esto es privado"
"""What every note says, and nothing that leaves."""


@dataclass
class Expected:
    """What a conversation must be like."""

    contact_id: str
    inbox_id: str
    source_id: str
    status: str = "open"
    archived: bool = False
    priority: str | None = None
    labels: set[str] = field(default_factory=set)
    participants: set[str] = field(default_factory=set)
    assignee_id: str | None = None
    version: int = 0
    erased: bool = False
    until: Any = None

    @property
    def unresolved(self) -> bool:
        return self.status != "resolved"


class Shop:
    """The account: an administrator, agents who see less, two inboxes, and whoever writes to them."""

    def __init__(self, desk: Any, replicas: list[Any]) -> None:
        self.desk = desk
        self.world = desk.world
        self.replicas = replicas
        self.asked = 0
        self.inboxes = [self.world.inbox, self.world.make_inbox("telegram", reopen="new_after_resolved")]
        self.expected: dict[str, Expected] = {}
        self.gone: set[str] = set()
        self.said: dict[str, tuple[str, str]] = {}
        """Notes that are not deleted: conversation and text."""
        self.by_rules: set[str] = set()
        """Notes that no person wrote: nobody may write them anew."""
        self.seen: dict[tuple[str, str], int] = defaultdict(int)
        self.drafts: dict[tuple[str, str], str] = {}
        self.waiting: dict[str, str] = {}
        self.merges: list[tuple[str, str, str]] = []
        self.blocked: set[str] = set()
        self.people: dict[str, dict[str, str]] = {}
        self.operations: Counter[str] = Counter()

    @property
    def account(self) -> str:
        return str(self.world.account_id)

    async def open(self) -> "Shop":
        self.admin, headers = await self.desk.agent("administrator")
        self.people[self.admin] = headers
        team = self.world.account_id[:-4] + "7ea0"
        agent, headers = await self.desk.agent(teams=(team,), inboxes=(self.inboxes[0].id,))
        self.people[agent] = headers
        await self.desk.know("team", TeamState(id=team, account_id=self.account, name="Ventas", member_ids=(agent,)))
        own, headers = await self.desk.agent(scope=ConversationScope.OWN, inboxes=(self.inboxes[1].id,))
        self.people[own] = headers
        for inbox in self.inboxes:
            await self.desk.know("inbox", inbox)
        return self

    async def ask(self, method: str, path: str, body: Any = None, *, who: str = "", **more: Any) -> Any:
        """The answer of the replica whose turn it is."""
        self.asked += 1
        http = self.replicas[self.asked % len(self.replicas)].http
        headers = self.people[who or self.admin] | more.pop("headers", {})
        answer = await http.request(method, path, headers=headers, json=body, **more)
        assert answer.status_code < 500, answer.text
        return answer

    async def tell(self, data: Model, entity: str, sequence: int = 0) -> None:
        """Publish what another service would, and wait until it is handled."""
        await self.replicas[0].admin.publish(data, account=self.account, entity=entity, sequence=sequence)
        await self.settle()

    async def settle(self) -> None:
        for replica in self.replicas:
            await replica.settle()

    async def writes(self, *senders: tuple[str, int]) -> None:
        """Customers write, all at once; each is who and on which inbox."""
        for who, inbox in senders:
            message = self.world.message(who, f"hola de {who}", inbox=self.inboxes[inbox])
            await self.replicas[0].admin.publish(
                message.data, account=self.account, entity=message.envelope.entity, sequence=1
            )
        await self.settle()

    async def assign(self, id_: str, assignee: str | None, version: int) -> None:
        reason = Reason(code="manual", es="", en="")
        data = ConversationAssigned(conversation_id=id_, version=version, assignee_id=assignee, reason=reason)
        await self.tell(data, id_, version)

    async def ring(self) -> None:
        """Whatever is due by now is done; the replicas' own workers may have been first."""
        while await timers.run_due(self.replicas[0].runtime.database, due.TIMERS):
            pass

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.replicas[0].dsn, row_factory=dict_row) as connection:
            return connection.execute(query, parameters).fetchall()

    async def pages(self, path: str, who: str, limit: int = 6, **params: Any) -> list[dict[str, Any]]:
        """All items of a list, in small pages."""
        found: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            answer = await self.ask("GET", path, who=who, params={**params, **cursor, "limit": limit})
            assert answer.status_code == 200, answer.text
            found += answer.json()["items"]
            if not (following := answer.json()["next"]):
                return found
            cursor = {"cursor": following}

    async def check(self) -> None:
        """Everything that must hold, whatever was done."""
        await self.settle()
        assert await until(self.forgotten, 60), "an erasure did not come through the log"
        details = {id_: await self.detail(id_) for id_ in self.expected}
        self.check_states(details)
        stories = self.events()
        incoming = {id_: await self.check_story(id_, found, stories[id_]) for id_, found in details.items()}
        await self.check_lists(details)
        for who in self.people:
            await self.check_desk_of(who, details, incoming)
        self.check_what_leaves()
        self.check_contacts()

    async def forgotten(self) -> bool:
        """Whether whoever was erased is out of the log, too, which is gone through in parts behind the acts."""
        return not self.rows(
            "select 1 from erasures where account_id = %s and step in ('tables', 'log', 'late')", self.account
        )

    async def detail(self, id_: str) -> dict[str, Any]:
        one, other = [(await self.ask("GET", f"/conversations/{id_}")).json() for _ in self.replicas]
        assert one == other
        return dict(one)

    def check_states(self, details: dict[str, dict[str, Any]]) -> None:
        for id_, found in details.items():
            wanted = self.expected[id_]
            assert (found["status"], found["archived"]) == (wanted.status, wanted.archived), found
            assert found["contact"]["id"] == wanted.contact_id
            assert (found["priority"], found["assignee_id"]) == (wanted.priority, wanted.assignee_id)
            assert (set(found["labels"]), set(found["participant_ids"])) == (wanted.labels, wanted.participants)
            consistent(found)
        stored = {
            str(row["id"]) for row in self.rows("select id from conversations where account_id = %s", self.account)
        }
        assert stored == set(self.expected)

    def events(self) -> dict[str, list[tuple[Any, dict[str, str]]]]:
        """The events of each conversation, in the order of the outbox."""
        found = defaultdict(list)
        query = "select headers, body from outbox where subject like %s order by id"
        for row in self.rows(query, f"evt.conversation.{self.account}.%"):
            headers = json.loads(row["headers"])
            event = decode(headers["ce-type"], bytes(row["body"]))
            if isinstance(event, ConversationEvent):
                found[headers["ce-subject"]].append((event, headers))
        return found

    async def check_story(self, id_: str, found: dict[str, Any], told: list[Any]) -> list[int]:
        """The events have no gap and fold to the state; one line a change; what was said is there in order.

        Answers the numbers of the customer's messages.
        """
        erased = self.expected[id_].erased
        assert [int(headers["relevo-sequence"]) for _, headers in told] == list(range(1, len(told) + 1))
        events = [event for event, _ in told]
        folds(events)
        last = json.loads(events[-1].conversation.model_dump_json())
        bare = erased or not last["contact"]["name"]
        ignored = {"assignment_version", "contact"} | (UNREDACTED if bare else set())
        assert {k: v for k, v in last.items() if k not in ignored} == {
            k: v for k, v in found.items() if k not in ignored
        }
        messages = await self.pages(f"/conversations/{id_}/messages", self.admin, limit=20)
        numbers = [message["sequence"] for message in messages]
        assert numbers == sorted(set(numbers))
        changed = {e.conversation.sequence for e in events if activity.line_of(e)}
        assert {m["sequence"] for m in messages if m["kind"] == "activity"} == changed
        created = {e.message.sequence: e.message.kind for e in events if type(e).__name__ == "MessageCreated"}
        assert {m["sequence"]: m["kind"] for m in messages if m["kind"] != "activity"} == created
        assert found["message_count"] == len(created)
        notes = {m["id"]: m["text"] for m in messages if m["kind"] == "note" and m["deleted_at"] is None}
        if not erased:
            assert notes == {m: text for m, (of, text) in self.said.items() if of == id_}
        return [m["sequence"] for m in messages if m["kind"] == "incoming"]

    async def check_lists(self, details: dict[str, dict[str, Any]]) -> None:
        """What each person's lists have is what they see one by one, and as it is there."""
        for who in self.people:
            listed = await self.pages("/conversations", who) + await self.pages("/conversations", who, archived=True)
            shown = {row["id"]: row for row in listed}
            assert len(shown) == len(listed)
            for id_, found in details.items():
                answer = await self.ask("GET", f"/conversations/{id_}", who=who)
                assert (answer.status_code == 200) == (id_ in shown), (who, id_)
                assert id_ not in shown or shown[id_] == found
            assert shown.keys() <= details.keys()
            assert who != self.admin or shown.keys() == details.keys()
            for id_ in self.gone:
                assert (await self.ask("GET", f"/conversations/{id_}", who=who)).status_code == 404

    async def check_desk_of(self, who: str, details: dict[str, dict[str, Any]], incoming: dict[str, list[int]]) -> None:
        """Counts are those of the lists; unread is what came since this person looked; drafts are their own."""
        counts = (await self.ask("GET", "/conversations/counts", who=who)).json()
        views = {"open": "all"}
        for name, count in counts.items():
            view = views.get(name, name)
            assert count["count"] == len(await self.pages("/conversations", who, view=view)), (who, name)
        shown = {row["id"] for row in await self.pages("/conversations", who, status=["open", "pending", "snoozed"])}
        assert counts["open"]["count"] == len(shown)
        assert counts["mine"]["count"] == sum(details[id_]["assignee_id"] == who for id_ in shown)
        assert counts["unassigned"]["count"] == sum(details[id_]["assignee_id"] is None for id_ in shown)
        every = [*shown, *(row["id"] for row in await self.pages("/conversations", who, status="resolved"))]
        if every:
            answer = await self.ask("GET", "/conversations/unread", who=who, params={"id": every})
            for row in answer.json()["items"]:
                id_ = row["conversation_id"]
                assert row["unread"] == sum(n > self.seen[who, id_] for n in incoming[id_]), (who, id_)
        drafts = {d["conversation_id"]: d["text"] for d in await self.pages("/drafts", who)}
        visible = {*every, *(row["id"] for row in await self.pages("/conversations", who, archived=True))}
        assert drafts == {id_: text for (by, id_), text in self.drafts.items() if by == who and id_ in visible}

    def check_what_leaves(self) -> None:
        """Every reply leaves once, and no note does."""
        leaving = self.rows("select body from outbox where subject like %s order by id", f"outbound.{self.account}.%")
        left = [json.loads(bytes(row["body"]))["message_id"] for row in leaving]
        assert SECRET not in " ".join(bytes(row["body"]).decode() for row in leaving)
        told = [
            event.message.id
            for events in self.events().values()
            for event, _ in events
            if type(event).__name__ == "MessageCreated" and event.message.kind == "outgoing"
        ]
        assert sorted(left) == sorted(told)

    def check_contacts(self) -> None:
        """What is there is of contacts that are."""
        for table, column in (
            ("conversations", "contact_id"),
            ("contact_channels", "contact_id"),
            ("contact_notes", "contact_id"),
            ("messages", "withheld_from"),
        ):
            lost = self.rows(
                f"select {column} from {table} t where account_id = %s and {column} is not null"
                f" and not exists (select from contacts c where c.id = t.{column})",
                self.account,
            )
            assert not lost, (table, lost)

    async def check_stream(self) -> None:
        """What was published is what the outbox has, in the order of each conversation."""
        stored: dict[str, list[str]] = defaultdict(list)
        subject = f"evt.conversation.*.{self.account}.>"
        for _, headers, _ in await self.replicas[0].admin.stored("EVT_CONVERSATION", subject):
            stored[headers["ce-subject"]].append(headers["ce-id"])
        for entity, events in self.events().items():
            assert stored[entity] == [headers["ce-id"] for _, headers in events]


def consistent(found: dict[str, Any]) -> None:
    """What holds of any conversation, whatever came before."""
    status, archived = found["status"], found["archived"]
    assert not archived or status == "resolved"
    new = status in ("open", "pending") and found["first_reply_at"] is None
    stage = "archived" if archived else "closed" if status == "resolved" else "new" if new else "in_progress"
    assert found["stage"] == stage
    assert (found["resolved_at"] is not None) == (status == "resolved")
    assert found["snoozed_until"] is None or status == "snoozed"
    assert found["waiting_since"] is None or status != "resolved"
