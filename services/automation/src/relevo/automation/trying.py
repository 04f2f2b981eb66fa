"""Rules tried on what really happened: which events of the last days they would fire on, and why. Orders nothing.

Reads the stream through the chassis' history reader, for one account or one conversation, so that the broker leaves the rest
out. It reaches back as far as the stream does.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from relevo.automation.domain.rules import Execution, Rule, RuleSet, evaluate
from relevo.automation.domain.triggers import FIELDS, TRIGGERS_OF, Occurrence, Trigger, occurrence
from relevo.automation.domain.why import Verdict, verdict
from relevo.chassis import Runtime
from relevo.contracts.base import Model
from relevo.contracts.conversation import ConversationEvent, ConversationReviewed
from relevo.contracts.envelope import Envelope
from relevo.contracts.streams import EVT_CONVERSATION
from relevo.kernel.access import ConversationFacts, Viewer, may_see

STREAM: Final = EVT_CONVERSATION
TRIED: Final[frozenset[Trigger]] = frozenset(FIELDS) - {
    "sla_warned",
    "sla_breached",
    "schedule",
    "nobody_available",
}
"""The triggers that this stream tells of as they happen: service levels are told elsewhere, of a rule's own times only its own."""
MOST_READ: Final = 20_000
"""Events of one page: it ends behind them, or after MOST_SECONDS, and says where to go on."""
MOST_SECONDS: Final = 10.0
_BREATHE: Final = 20


@dataclass(frozen=True, slots=True)
class Place:
    """How far a trial has come: a partition, and a sequence of the stream in it."""

    p: int = 0
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """An event that a rule would fire on, and what it would do. ``seen``: whether who asks may see its conversation."""

    envelope: Envelope
    execution: Execution
    seen: bool


@dataclass(slots=True)
class Tried:
    """A page of a trial. ``next`` None: it is through."""

    read: int = 0
    matches: list[Match] = field(default_factory=list)
    next: Place | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """An event of a conversation, and what a rule says to it."""

    envelope: Envelope
    event: Occurrence
    verdict: Verdict


async def try_out(
    runtime: Runtime, rule: Rule, viewer: Viewer, *, since: datetime, place: Place, limit: int, depth_limit: int
) -> Tried:
    """Judge the account's events from a moment on, one page of them. One page at a time in a process."""
    rules, found = RuleSet(1, [rule]), Tried()
    async with runtime.extra.setdefault("trying", asyncio.Semaphore(1)):
        ends = time.monotonic() + MOST_SECONDS
        for p in range(max(place.p, 0), STREAM.partitions):
            after = place.seq if p == place.p else 0
            async with aclosing(_events(runtime, p, viewer.account_id, after=after, since=since)) as events:
                async for seq, envelope, data in events:
                    found.read += 1
                    if envelope.time >= since and (event := occurrence(envelope, data)) is not None:
                        for execution in evaluate(rules, event, depth_limit=depth_limit):
                            found.matches.append(Match(envelope, execution, _seen(viewer, data)))
                    if found.read >= MOST_READ or len(found.matches) >= limit or time.monotonic() > ends:
                        found.next = Place(p, seq)
                        return found
    return found


async def explain(
    runtime: Runtime, rule: Rule, viewer: Viewer, conversation_id: str, *, since: datetime, limit: int, depth_limit: int
) -> list[Explained]:
    """What a rule said, or would have said, to each event of a conversation, the latest first.

    Empty where there is none that who asks may see. Events that are no trigger at all, and other rules' times, are left out.
    """
    p = STREAM.partition_of(account=viewer.account_id, entity=conversation_id)
    found: list[Explained] = []
    seen = False
    async with aclosing(_events(runtime, p, viewer.account_id, entity=conversation_id, since=since)) as events:
        async for _, envelope, data in events:
            seen = _seen(viewer, data)
            event = occurrence(envelope, data)
            if event is not None and event.of_rule in {None, rule.id}:
                found.append(Explained(envelope, event, verdict(rule, event, depth_limit=depth_limit)))
                del found[:-limit]
    return list(reversed(found)) if seen else []


async def _events(
    runtime: Runtime, p: int, account: str, *, since: datetime, after: int = 0, entity: str | None = None
) -> AsyncGenerator[tuple[int, Envelope, Model], None]:
    at = None if after else since
    number = 0
    told = runtime.history.since(STREAM, p, account=account, entity=entity, at=at, after=max(after, 0))
    async with aclosing(told) as batches:
        async for batch in batches:
            for received in batch:
                number += 1
                if number % _BREATHE == 0:
                    await asyncio.sleep(0)  # judging is all computing: leases and other work must get their turn
                if received.type in TRIGGERS_OF:
                    yield received.seq, received.envelope, received.data


def _seen(viewer: Viewer, data: Model) -> bool:
    if not isinstance(data, ConversationEvent | ConversationReviewed):
        return True  # of a contact: whoever may manage rules may know that one changed
    return may_see(viewer, ConversationFacts.of(viewer.account_id, data.conversation.access))
