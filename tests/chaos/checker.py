"""The judge of a chaos run. It imports nothing of Relevo and believes none of its counters.

It keeps the ledger of what was acknowledged to the adapter and to the agents, and compares that with what the
databases, the streams and the HTTP interface hold once all is quiet. Databases are read in read-only transactions,
streams through consumers that acknowledge nothing.
"""

import asyncio
import json
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nats
import psycopg
from nats.aio.client import Client

SHOWN = 5
"""Examples given of one kind of fault."""
QUIET_LOOKS = 3
"""Looks, a second apart, at which nothing moved: then all is quiet."""


@dataclass(frozen=True)
class Where:
    """How to reach what is judged; plain values."""

    account: str
    inbox: str
    edge_url: str
    api_token: str = field(repr=False)
    nats_url: str
    reader_creds: Path
    """A bus user who may make consumers on every stream; replies go to its own inbox prefix."""
    reader_inbox: str
    databases: Mapping[str, str] = field(repr=False)
    """Service → DSN."""
    status_file: Path


@dataclass
class Promised:
    """Markers of what was sent, noted before, and of what was acknowledged."""

    tried: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)


@dataclass
class Ledger:
    """What was promised. An external id is noted as tried before it is sent, and as taken when it was acknowledged."""

    tried: dict[str, tuple[str, int]] = field(default_factory=dict)
    """External id → sender, number within the sender, from 1."""
    taken: set[str] = field(default_factory=set)
    acknowledged_at: list[float] = field(default_factory=list)
    """When each was acknowledged, by the monotonic clock; ascending."""
    elsewhere: dict[str, str] = field(default_factory=dict)
    """Senders of another inbox than the judged account's first one → that inbox."""
    triggering: set[str] = field(default_factory=set)
    """External ids of the messages that a rule must act on, once."""
    replies: set[str] = field(default_factory=set)
    """Ids of agents' messages that HTTP answered with success."""
    hooked_replies: set[str] = field(default_factory=set)
    """Those of `replies` that leave by a webhook instead of the adapter."""
    handed: Counter[str] = field(default_factory=Counter)
    """Message id → how often the adapter was handed it."""
    hooked: Counter[str] = field(default_factory=Counter)
    """Message id → how often the webhook was called with it."""
    mailed: Counter[str] = field(default_factory=Counter)
    """Message-ID (the part before the @) → how often the mail server took it."""
    faulty: Promised = field(default_factory=Promised)
    """Bodies that no event can have: each belongs in quarantine once."""
    poison: Promised = field(default_factory=Promised)
    """Ids of commands that no handler can take: each belongs in the dead letters once."""

    def took(self, external: str) -> None:
        """It was acknowledged, just now."""
        self.taken.add(external)
        self.acknowledged_at.append(time.monotonic())

    def rate(self, since: float, until: float) -> float:
        """Messages acknowledged in a second, between two moments of the monotonic clock."""
        times = self.acknowledged_at
        return (bisect_left(times, until) - bisect_left(times, since)) / (until - since)


@dataclass
class Verdict:
    """``faults`` by kind, each with examples; empty: nothing lost, doubled or out of order."""

    figures: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def blame(self, kind: str, things: Iterable[object]) -> None:
        found = [str(thing) for thing in things]
        self.figures[kind] = self.figures.get(kind, 0) + len(found)
        if found:
            self.faults.setdefault(kind, []).extend(found[:SHOWN])

    def text(self) -> str:
        lines = [f"  {name:<34} {value}" for name, value in self.figures.items()]
        lines += [f"  ✗ {kind}: {example}" for kind, examples in self.faults.items() for example in examples]
        return "\n".join(lines)


@dataclass(frozen=True)
class Stored:
    """One message of a stream."""

    seq: int
    subject: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers.get("ce-id", "")

    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


class Streams:
    """Reads whole streams, in order."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def _ask(self, subject: str, request: Mapping[str, Any]) -> dict[str, Any]:
        reply = await self._client.request(subject, json.dumps(request).encode(), timeout=30)
        answer: dict[str, Any] = json.loads(reply.data)
        if error := answer.get("error"):
            raise RuntimeError(f"{subject}: {error}")
        return answer

    async def names(self) -> list[str]:
        return sorted((await self._ask("$JS.API.STREAM.NAMES", {}))["streams"])

    async def ends(self) -> dict[str, int]:
        """The last sequence of every stream."""
        return {
            name: (await self._ask(f"$JS.API.STREAM.INFO.{name}", {}))["state"]["last_seq"]
            for name in await self.names()
        }

    async def read(self, stream: str, *, bodies: bool = True) -> AsyncIterator[Stored]:
        """Everything the stream holds now, oldest first."""
        config = {
            "ack_policy": "none",
            "deliver_policy": "all",
            "mem_storage": True,
            "inactive_threshold": 60_000_000_000,
            "headers_only": not bodies,
        }
        made = await self._ask(f"$JS.API.CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
        left = made["num_pending"]
        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox)
        try:
            while left > 0:
                wanted = min(left, 500)
                request = {"batch": wanted, "expires": 5_000_000_000}
                await self._client.publish(
                    f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{made['name']}", json.dumps(request).encode(), reply=inbox
                )
                for _ in range(wanted):
                    got = await subscription.next_msg(timeout=30)
                    if not got.reply:
                        raise RuntimeError(f"{stream}: {got.headers}")
                    left -= 1
                    yield Stored(int(got.reply.split(".")[-4]), got.subject, got.headers or {}, got.data)
        finally:
            await subscription.unsubscribe()


@asynccontextmanager
async def streams(where: Where) -> AsyncIterator[Streams]:
    client = await nats.connect(
        where.nats_url, user_credentials=str(where.reader_creds), inbox_prefix=where.reader_inbox
    )
    try:
        yield Streams(client)
    finally:
        await client.close()


def rows(where: Where, service: str, statement: str, *parameters: Any) -> list[Any]:
    options = "-c default_transaction_read_only=on -c timezone=UTC"
    with psycopg.connect(where.databases[service], options=options) as connection:
        return connection.execute(statement, parameters).fetchall()


async def quiet(where: Where, ledger: Ledger, seconds: float) -> float:
    """Wait until everything runs, nothing waits and nothing moves; answers how long that took.

    Returns at the deadline too: what is missing then is lost.
    """
    began = time.monotonic()
    still = 0
    before: object = None
    while time.monotonic() - began < seconds and still < QUIET_LOOKS:
        await asyncio.sleep(1)
        try:
            async with streams(where) as bus:
                ends = await bus.ends()
            waiting = sum(rows(where, service, statement)[0][0] for service, statement in _waiting(where))
            written = "select count(*) from messages where account_id = %s and kind <> 'activity'"
            stored = rows(where, "conversation", written, where.account)
            # Ingest died with one in hand: the broker brings it again after half a minute.
            aside = sum(rows(where, service, "select count(*) from dead_letters")[0][0] for service in where.databases)
            listed = rows(where, "ingest", "select count(*) from dead_letters_seen")[0][0]
        except (psycopg.Error, OSError, TimeoutError, RuntimeError, nats.errors.Error):
            still = 0
            continue
        now = (ends, stored)
        # What the adapter's end had fetched when the bus went away comes again after half a minute, too; and what channels
        # had in hand for a webhook when it died.
        handed = ledger.replies - ledger.hooked_replies <= ledger.handed.keys()
        handed = handed and ledger.hooked_replies <= ledger.hooked.keys()
        complete = stored[0][0] >= len(ledger.taken) + len(ledger.replies) and listed >= aside and handed
        calm = now == before and not waiting and complete and _all_ready(where)
        still = still + 1 if calm else 0
        before = now
    return time.monotonic() - began


def _waiting(where: Where) -> list[tuple[str, str]]:
    """Service and the statement that counts what it still has to do."""
    return [
        *((service, "select count(*) from outbox where stream_seq is null") for service in where.databases),
        ("assignment", "select count(*) from journal where done_at is null"),
        ("channels", "select count(*) from deliveries where state = 'waiting'"),
        ("channels", "select count(*) from reports"),
        ("notification", "select count(*) from mails where state = 'waiting'"),
    ]


def _all_ready(where: Where) -> bool:
    status = json.loads(where.status_file.read_text())
    return all(item["ready"] for item in (*status["servers"], *status["services"]))


async def judge(where: Where, ledger: Ledger, *, read_back: int | None = None) -> Verdict:
    """Compare. ``read_back``: how many senders' conversations are read over HTTP too (None: all)."""
    verdict = Verdict()
    verdict.figures |= {"tried": len(ledger.tried), "acknowledged": len(ledger.taken), "replies": len(ledger.replies)}
    _messages(where, ledger, verdict)
    _decisions(where, verdict)
    _rules(where, ledger, verdict)
    _presence(where, verdict)
    _told(where, ledger, verdict)
    _aside(where, ledger, verdict)
    async with streams(where) as bus:
        await _streams(where, ledger, bus, verdict)
    await _over_http(where, ledger, verdict, read_back)
    return verdict


def _messages(where: Where, ledger: Ledger, verdict: Verdict) -> None:
    """Every acknowledged message is there once, in one conversation of its sender, in its order."""
    found = rows(
        where,
        "conversation",
        """
        select m.external_id, m.id::text, c.id::text, c.source_id, m.sequence
        from messages m join conversations c on c.id = m.conversation_id
        where m.account_id = %s and m.kind = 'incoming' order by c.id, m.sequence
        """,
        where.account,
    )
    verdict.figures["stored"] = len(found)
    times = Counter(row[0] for row in found)
    verdict.blame("lost", sorted(ledger.taken - times.keys()))
    verdict.blame("doubled", [external for external, n in times.items() if n > 1])
    verdict.blame("from nowhere", [external for external in times if external not in ledger.tried])
    homes: dict[str, set[str]] = defaultdict(set)
    last: dict[str, int] = {}
    wrong, disorder = [], []
    for external, _, conversation, source, sequence in found:
        sender, number = ledger.tried.get(external, (source, 0))
        homes[sender].add(conversation)
        if sender != source:
            wrong.append(f"{external} of {sender} is with {source}")
        if number <= last.get(conversation, 0):
            disorder.append(f"{external} (number {number}) is behind number {last[conversation]} at {sequence}")
        last[conversation] = max(number, last.get(conversation, 0))
    verdict.blame("with another sender", wrong)
    verdict.blame("out of order", disorder)
    verdict.blame("senders with two conversations", [sender for sender, ids in homes.items() if len(ids) > 1])
    written = {row[0] for row in rows(where, "conversation", "select id::text from messages where kind = 'outgoing'")}
    verdict.blame("replies lost", sorted(ledger.replies - written))


def _decisions(where: Where, verdict: Verdict) -> None:
    """Replay who held what, input by input: nobody ever above capacity, each decision follows the one before."""
    capacity = {
        row[0]: row[1]
        for row in rows(
            where,
            "assignment",
            """
            select a.agent_id::text, coalesce(a.capacity, cast(p.policy ->> 'default_capacity' as int), 10)
            from agents a join pools p using (account_id) where a.account_id = %s
            """,
            where.account,
        )
    }
    inputs = rows(
        where,
        "assignment",
        """
        select run, id, kind, payload->>'conversation_id' from journal
        where account_id = %s and kind in ('closed', 'reopened') and run is not null
        """,
        where.account,
    )
    decided = rows(
        where,
        "assignment",
        """
        select run, journal_id, conversation_id::text, version, kind, mode, assignee_id::text, from_assignee_id::text
        from decisions where account_id = %s order by run, journal_id, id
        """,
        where.account,
    )
    steps: list[tuple[tuple[int, int, int, int], Any]] = [
        ((run, number, 0, 0), (kind, c)) for run, number, kind, c in inputs
    ]
    # One input may free a place and fill it again: the decisions of an input in the order in which they were taken.
    steps += [((row[0], row[1], 1, number), row) for number, row in enumerate(decided)]
    holder: dict[str, str] = {}
    closed: set[str] = set()
    last: dict[str, tuple[int, str | None]] = {}
    loads: Counter[str] = Counter()
    most: Counter[str] = Counter()
    above, broken = [], []
    for _, step in sorted(steps, key=lambda one: one[0]):
        if len(step) == 2:
            kind, conversation = step
            (closed.add if kind == "closed" else closed.discard)(conversation)
            if (gone := holder.pop(conversation, None)) is not None:
                loads[gone] -= 1
            continue
        _, _, conversation, version, kind, mode, assignee, previous = step
        before = last.get(conversation, (0, None))
        if version != before[0] + 1:
            broken.append(f"{conversation}: version {version} follows {before[0]}")
        if previous != before[1] and previous is not None:
            broken.append(f"{conversation} version {version}: taken from {previous}, but {before[1]} had it")
        last[conversation] = (version, assignee)
        if (gone := holder.pop(conversation, None)) is not None:
            loads[gone] -= 1
        if kind == "assigned" and conversation not in closed:  # a closed one may change hands, and takes no place
            holder[conversation] = assignee
            loads[assignee] += 1
            most[assignee] = max(most[assignee], loads[assignee])
            if mode == "automatic" and loads[assignee] > capacity[assignee]:
                above.append(f"{assignee} held {loads[assignee]} of {capacity[assignee]} with {conversation}")
    verdict.figures["decisions"] = len(decided)
    verdict.figures["most held"] = max(most.values(), default=0)
    verdict.blame("above capacity", above)
    verdict.blame("decisions out of their chain", broken)
    held = dict(
        rows(
            where,
            "assignment",
            """
            select assignee_id::text, count(*) from conversations_held
            where account_id = %s and state = 'assigned' group by 1
            """,
            where.account,
        )
    )
    noted = rows(where, "assignment", "select agent_id::text, load from agents where account_id = %s", where.account)
    verdict.blame("loads that are not what is held", [a for a, load in noted if load != held.get(a, 0)])
    free = [agent for agent, limit in capacity.items() if held.get(agent, 0) < limit]
    present = {
        row[0]
        for row in rows(
            where,
            "assignment",
            "select agent_id::text from agents where account_id = %s and state = 'available' and active",
            where.account,
        )
    }
    queued = rows(
        where,
        "assignment",
        "select conversation_id::text from conversations_held where account_id = %s and state = 'queued'",
        where.account,
    )
    idle = present.intersection(free)
    verdict.figures["in the queue"] = len(queued)
    verdict.blame("waiting although somebody is free", [row[0] for row in queued] if idle else [])
    unresolved = rows(
        where,
        "conversation",
        "select id::text, assignee_id::text from conversations where account_id = %s and status <> 'resolved'",
        where.account,
    )
    now = {c: assignee for c, (_, assignee) in last.items()}
    verdict.blame("stranded", [c for c, _ in unresolved if c not in last])
    verdict.blame("assignee not as decided", [c for c, assignee in unresolved if c in now and now[c] != assignee])


def _rules(where: Where, ledger: Ledger, verdict: Verdict) -> None:
    """The rule acted once on every message that it is for, and on no other."""
    triggered = Counter(
        row[0]
        for row in rows(
            where, "automation", "select event_id::text from executions where account_id = %s", where.account
        )
    )
    outcomes = rows(
        where,
        "automation",
        "select outcome, count(*) from executions where account_id = %s group by 1",
        where.account,
    )
    stored = {
        row[0]
        for row in rows(
            where,
            "conversation",
            "select external_id from messages where account_id = %s and kind = 'incoming'",
            where.account,
        )
    }
    due = len(ledger.triggering & stored)
    verdict.figures["rules executed"] = triggered.total()
    verdict.blame("rules executed twice", [event for event, n in triggered.items() if n > 1])
    verdict.blame(
        "rules that differ", [f"{triggered.total()} of {due}: {outcomes}"] if triggered.total() != due else []
    )
    labelled = rows(
        where,
        "conversation",
        """
        select distinct c.source_id from conversations c join messages m on m.conversation_id = c.id
        where c.account_id = %s and m.external_id = any(%s) and c.labels = '{}'
        """,
        where.account,
        sorted(ledger.triggering),
    )
    verdict.blame("labels that a rule should have put on", [row[0] for row in labelled])


def _presence(where: Where, verdict: Verdict) -> None:
    """The intervals of every agent follow each other without a gap, and one is open: the present state."""
    history = rows(
        where,
        "presence",
        """
        select agent_id::text, from_at, to_at, state from status_history where account_id = %s
        order by agent_id, from_at
        """,
        where.account,
    )
    now = dict(
        rows(where, "presence", "select agent_id::text, state from agent_status where account_id = %s", where.account)
    )
    broken = []
    ended: dict[str, Any] = {}
    last: dict[str, str] = {}
    for agent, begun, end, state in history:
        if agent in ended and ended[agent] != begun:
            broken.append(f"{agent}: an interval ends at {ended[agent]}, the next begins at {begun}")
        ended[agent], last[agent] = end, state
    broken += [f"{agent}: the last interval ended at {end}" for agent, end in ended.items() if end is not None]
    broken += [
        f"{agent} is {state}, the history says {last.get(agent)}"
        for agent, state in now.items()
        if agent in last and last[agent] != state
    ]
    verdict.figures["presence intervals"] = len(history)
    verdict.blame("intervals with gaps", broken)
    known = dict(
        rows(where, "assignment", "select agent_id::text, state from agents where account_id = %s", where.account)
    )
    verdict.blame(
        "presence that assignment sees otherwise",
        [f"{agent}: {state}, not {known[agent]}" for agent, state in now.items() if known.get(agent, state) != state],
    )


def _told(where: Where, ledger: Ledger, verdict: Verdict) -> None:
    """E-mails and webhooks went out, each at least once; in the list of notifications each stands once."""
    mails = rows(where, "notification", "select id::text, state from mails where account_id = %s", where.account)
    verdict.figures["e-mails"] = len(mails)
    verdict.blame("e-mails not sent", [f"{mail}: {state}" for mail, state in mails if state != "sent"])
    verdict.blame("e-mails no server got", [mail for mail, _ in mails if mail not in ledger.mailed])
    verdict.figures["e-mails sent again"] = sum(n - 1 for n in ledger.mailed.values())
    verdict.figures["webhooks"] = len(ledger.hooked)
    verdict.figures["webhooks called again"] = sum(n - 1 for n in ledger.hooked.values())
    verdict.blame("replies no webhook got", sorted(ledger.hooked_replies - ledger.hooked.keys()))


def _aside(where: Where, ledger: Ledger, verdict: Verdict) -> None:
    """What cannot be handled was put aside, once, and nothing else was given up on."""
    dead: Counter[str] = Counter()
    letters = set()
    for service in where.databases:
        for letter, message, error in rows(
            where, service, "select id::text, headers->>'ce-id', error from dead_letters"
        ):
            if message in ledger.poison.tried:
                dead[message] += 1
                letters.add(letter)
            else:
                verdict.blame("dead letters", [f"{service}: {error}"])
    verdict.figures["dead letters wanted"] = len(ledger.poison.taken)
    verdict.blame("dead letters", [])
    verdict.blame("poison not put aside", sorted(ledger.poison.taken - dead.keys()))
    verdict.blame("poison put aside twice", [message for message, n in dead.items() if n > 1])
    listed = {row[0] for row in rows(where, "ingest", "select id::text from dead_letters_seen")}
    verdict.blame("dead letters not listed", sorted(letters - listed))
    kept = Counter(
        (reason, body)
        for reason, body in rows(
            where,
            "ingest",
            "select reason, convert_from(body, 'utf-8') from quarantine where account_id = %s",
            where.account,
        )
    )
    bodies = Counter(body for _, body in kept.elements())
    verdict.figures["quarantined as wanted"] = len(ledger.faulty.taken)
    verdict.blame("quarantined", [(reason, body) for reason, body in kept if body not in ledger.faulty.tried])
    verdict.blame("faulty and not in quarantine", sorted(ledger.faulty.taken - bodies.keys()))
    verdict.blame("quarantined twice", [body for body, n in bodies.items() if n > 1])


class Listener:
    """Looks at the messages of one stream as they pass, and says at the end what is wrong with them."""

    bodies = True

    def __init__(self, where: Where, ledger: Ledger) -> None:
        self.where = where
        self.ledger = ledger

    def hear(self, message: Stored) -> None:
        """One message of the judged account, in the stream's order."""

    def conclude(self, verdict: Verdict) -> None:
        """After the last one."""


class Accepted(Listener):
    """EVT_INGEST: ingest accepted each event once."""

    def __init__(self, where: Where, ledger: Ledger) -> None:
        super().__init__(where, ledger)
        self.times: Counter[str] = Counter()

    def hear(self, message: Stored) -> None:
        if message.subject.endswith(".message_received"):
            self.times[message.json()["external_id"]] += 1

    def conclude(self, verdict: Verdict) -> None:
        verdict.blame("accepted twice", [external for external, n in self.times.items() if n > 1])
        verdict.blame("never accepted", sorted(self.ledger.taken - self.times.keys()))


class Stories(Listener):
    """EVT_CONVERSATION: the story of every conversation and contact counts 1, 2, 3… in the stream's own order."""

    bodies = False

    def __init__(self, where: Where, ledger: Ledger) -> None:
        super().__init__(where, ledger)
        self.count: Counter[str] = Counter()
        self.gaps: list[str] = []

    def hear(self, message: Stored) -> None:
        entity, number = message.headers["ce-subject"], int(message.headers.get("relevo-sequence", "0"))
        self.count[entity] += 1
        if number != self.count[entity]:
            self.gaps.append(f"{entity}: number {number} where {self.count[entity]} was due (sequence {message.seq})")
            self.count[entity] = number

    def conclude(self, verdict: Verdict) -> None:
        verdict.blame("gaps in stories", self.gaps)


class Facts(Listener):
    """METRICS: what is measured is what is stored; facts on the stream, in the database, and the deltas agree."""

    def __init__(self, where: Where, ledger: Ledger) -> None:
        super().__init__(where, ledger)
        self.metrics: dict[str, str] = {}
        self.again: list[str] = []
        self.deltas: Counter[str] = Counter()

    def hear(self, message: Stored) -> None:
        body = message.json()
        if "fact_id" in body:
            if body["fact_id"] in self.metrics:
                self.again.append(body["fact_id"])
            self.metrics[body["fact_id"]] = body["metric"]
        elif "minute" in body:
            self.deltas[body["metric"]] += body["count"]

    def conclude(self, verdict: Verdict) -> None:
        account = self.where.account
        counted = Counter(self.metrics.values())
        verdict.figures["facts"] = len(self.metrics)
        verdict.blame("facts twice", self.again)
        kept = {
            row[0]
            for row in rows(self.where, "reporting", "select fact_id::text from facts where account_id = %s", account)
        }
        verdict.blame("facts not in the database", self.metrics.keys() - kept)
        verdict.blame("facts not on the stream", kept - self.metrics.keys())
        _compare(verdict, "deltas that do not add up", counted, self.deltas)
        minutes = "select metric, sum(count)::int from rollup_minute where account_id = %s group by 1"
        _compare(verdict, "roll-ups that differ", counted, dict(rows(self.where, "reporting", minutes, account)))
        kinds = """
            select kind, count(*) from messages where account_id = %s and conversation_id is not null group by 1
        """
        stored = dict(rows(self.where, "conversation", kinds, account))
        opened = rows(self.where, "conversation", "select count(*) from conversations where account_id = %s", account)
        happened = {
            "messages_in": stored.get("incoming", 0),
            "messages_out": stored.get("outgoing", 0),
            "conversations_opened": opened[0][0],
        }
        _compare(verdict, "metrics that differ", happened, counted)


def _compare(verdict: Verdict, kind: str, wanted: Mapping[str, int], found: Mapping[str, int]) -> None:
    verdict.blame(
        kind, [f"{name}: {found.get(name, 0)} of {n}" for name, n in wanted.items() if found.get(name, 0) != n]
    )


class Outbound(Listener):
    """OUTBOUND: every reply was sent out once, and the adapter was handed it (perhaps again, after a fault)."""

    def __init__(self, where: Where, ledger: Ledger) -> None:
        super().__init__(where, ledger)
        self.times: Counter[str] = Counter()

    def hear(self, message: Stored) -> None:
        self.times[message.json()["message_id"]] += 1

    def conclude(self, verdict: Verdict) -> None:
        verdict.blame("replies not sent out", sorted(self.ledger.replies - self.times.keys()))
        verdict.blame("replies sent out twice", [m for m, n in self.times.items() if n > 1])
        by_adapter = self.ledger.replies - self.ledger.hooked_replies
        verdict.blame("replies not handed over", sorted(by_adapter - self.ledger.handed.keys()))
        verdict.figures["handed over again"] = sum(n - 1 for n in self.ledger.handed.values())


class Decided(Listener):
    """EVT_ASSIGNMENT: what was decided was said, and nothing else."""

    def __init__(self, where: Where, ledger: Ledger) -> None:
        super().__init__(where, ledger)
        self.told: set[str] = set()

    def hear(self, message: Stored) -> None:
        self.told.add(message.json()["decision_id"])

    def conclude(self, verdict: Verdict) -> None:
        statement = "select id::text from decisions where account_id = %s"
        decided = {row[0] for row in rows(self.where, "assignment", statement, self.where.account)}
        verdict.blame("decisions untold", decided - self.told)
        verdict.blame("told but not decided", self.told - decided)


LISTENERS: Mapping[str, type[Listener]] = {
    "EVT_INGEST": Accepted,
    "EVT_CONVERSATION": Stories,
    "EVT_ASSIGNMENT": Decided,
    "METRICS": Facts,
    "OUTBOUND": Outbound,
}


WITHOUT_OUTBOX = {"INBOUND", "CMD_PRESENCE"}
"""Adapters publish there, and sockets their heartbeats, which may be lost: the next one follows."""


async def _streams(where: Where, ledger: Ledger, bus: Streams, verdict: Verdict) -> None:
    """What the services committed to say is what the streams hold, each once; and what each stream tells is right."""
    said: dict[str, Counter[str]] = defaultdict(Counter)
    waiting = []
    for service in where.databases:
        for stream, event, seq in rows(where, service, "select stream, event_id::text, stream_seq from outbox"):
            said[stream][event] += 1
            if seq is None:
                waiting.append(f"{service}: {event} for {stream}")
    verdict.blame("never published", waiting)
    total = 0
    for stream in await bus.names():
        if stream in WITHOUT_OUTBOX:
            continue
        listener = LISTENERS.get(stream, Listener)(where, ledger)
        held: Counter[str] = Counter()
        async for message in bus.read(stream, bodies=stream in LISTENERS and listener.bodies):
            if message.subject.startswith("fence."):
                continue  # said to the broker alone
            held[message.id] += 1
            if where.account in message.subject:
                listener.hear(message)
        listener.conclude(verdict)
        total += held.total()
        verdict.blame("published twice", [f"{stream}: {event}" for event, n in held.items() if n > 1])
        verdict.blame("not in the stream", [f"{stream}: {event}" for event in said[stream] if event not in held])
        verdict.blame("not in an outbox", [f"{stream}: {event}" for event in held if event not in said[stream]])
    verdict.figures["events published"] = total


async def _over_http(where: Where, ledger: Ledger, verdict: Verdict, read_back: int | None) -> None:
    """The public interface shows the same: the report's totals, and conversations read message by message."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for external in sorted(ledger.taken, key=lambda one: ledger.tried[one]):
        wanted[ledger.tried[external][0]].append(external)
    senders = sorted(wanted)[:: max(1, len(wanted) // read_back)] if read_back else sorted(wanted)
    headers = {"Authorization": f"Bearer {where.api_token}"}
    differ = []
    async with httpx.AsyncClient(
        base_url=f"{where.edge_url}/api/v1", headers=headers, timeout=60, trust_env=False
    ) as client:
        report = await client.get(
            "/reports/summary", params={"since": "2000-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
        )
        shown = {metric["metric"]: metric["count"] for metric in report.raise_for_status().json()["metrics"]}
        verdict.blame(
            "report that differs",
            [f"{shown.get('messages_in')} of {verdict.figures['stored']}"]
            if shown.get("messages_in") != verdict.figures["stored"]
            else [],
        )
        for sender in senders:
            found = (
                (
                    await client.get(
                        "/conversations", params={"inbox": ledger.elsewhere.get(sender, where.inbox), "source": sender}
                    )
                )
                .raise_for_status()
                .json()["items"]
            )
            read = [m["external_id"] async for m in _pages(client, found) if m["kind"] == "incoming"]
            if [external for external in read if external in ledger.taken] != wanted[sender]:
                differ.append(f"{sender}: {len(read)} read, {len(wanted[sender])} acknowledged")
    verdict.figures["conversations read over HTTP"] = len(senders)
    verdict.blame("read over HTTP and different", differ)


async def _pages(client: httpx.AsyncClient, conversations: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for conversation in conversations:
        cursor = None
        while True:
            params = {"order": "oldest", "limit": 200} | ({"cursor": cursor} if cursor else {})
            page = (await client.get(f"/conversations/{conversation['id']}/messages", params=params)).json()
            for message in page["items"]:
                yield message
            if (cursor := page["next"]) is None:
                break
