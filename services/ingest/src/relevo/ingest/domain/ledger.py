"""Which events of a batch are new: dedup keys, body hashes, and the verdict over what the ledger already holds."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from relevo.contracts.envelope import Envelope
from relevo.contracts.inbound import InboundMessage, InboundStatus
from relevo.contracts.ingest import InboxState
from relevo.ingest.domain.parsing import Event
from relevo.kernel.identity import sender_key

_SENDERS = uuid5(NAMESPACE_URL, "urn:relevo:ingest:sender")


class Place(NamedTuple):
    """The row of an event in the ledger. Sorts in the order in which rows are locked."""

    inbox_id: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Arrival:
    """A valid event of a known inbox, at the gate since ``at``. ``cause`` is the message it came with, if any."""

    inbox: InboxState
    event: Event
    sender_key: str
    place: Place
    body_hash: bytes
    at: datetime
    actor: str = "system"
    cause: Envelope | None = None


class Verdict(StrEnum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    """The same key as an earlier event but another body: the first stands."""


def arrival(
    inbox: InboxState, event: Event, *, at: datetime, actor: str = "system", cause: Envelope | None = None
) -> Arrival:
    """An event with its keys."""
    return Arrival(
        inbox=inbox,
        event=event,
        sender_key=sender_key(event.sender.id),
        place=Place(inbox.id, dedup_key(event)),
        body_hash=body_hash(event),
        at=at,
        actor=actor,
        cause=cause,
    )


def dedup_key(event: Event) -> bytes:
    """16 bytes that are the same for every delivery of one event within its inbox, for ever.

    A message is its external id; a status is its external id and the status, for each is reported once. Never change
    what goes in: the ledger holds years of these.
    """
    match event:
        case InboundMessage():
            return _digest("message", event.external_id)
        case InboundStatus():
            return _digest("status", event.external_id, event.status)


def body_hash(event: Event) -> bytes:
    """16 bytes over what the event says.

    Left out: ``raw``, the sender's profile (all but the id), which a provider's retry may bring renewed, and what an
    adapter makes of it (``automatic``).
    """
    said = event.model_dump(mode="json", exclude={"raw": True, "sender": True, "automatic": True})
    said["sender"] = event.sender.id
    return blake2b(json.dumps(said, sort_keys=True, separators=(",", ":")).encode(), digest_size=16).digest()


def sender_entity(inbox_id: str, key: str) -> str:
    """The entity of all events of one sender of one inbox: a stable UUID.

    Account and entity decide the partition, so that the events of one sender stay in order.
    """
    return str(uuid5(_SENDERS, f"{UUID(inbox_id)}/{key}"))


def _digest(*parts: str) -> bytes:
    # Each part with its length: ("ab", "c") and ("a", "bc") are two keys.
    state = blake2b(digest_size=16)
    for part in parts:
        data = part.encode()
        state.update(len(data).to_bytes(4, "big"))
        state.update(data)
    return state.digest()


def firsts(arrivals: Sequence[Arrival]) -> dict[Place, Arrival]:
    """The first arrival of each key, in the order in which ledger rows are to be locked."""
    found: dict[Place, Arrival] = {}
    for one in arrivals:
        found.setdefault(one.place, one)
    return dict(sorted(found.items()))


def judge(arrivals: Sequence[Arrival], claimed: Collection[Place], known: Mapping[Place, bytes]) -> list[Verdict]:
    """One verdict per arrival.

    ``claimed`` are the keys that this batch put into the ledger; ``known`` the body hashes that the ledger held
    already for the others.
    """
    stands = {place: one.body_hash for place, one in firsts(arrivals).items() if place in claimed} | dict(known)
    waiting = set(claimed)
    verdicts = []
    for one in arrivals:
        if one.place in waiting:
            waiting.discard(one.place)
            verdicts.append(Verdict.ACCEPTED)
        elif stands[one.place] == one.body_hash:
            verdicts.append(Verdict.DUPLICATE)
        else:
            verdicts.append(Verdict.CONFLICT)
    return verdicts
