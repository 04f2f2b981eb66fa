"""A delivery from the bus: what its subject says, and whether the body agrees."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from relevo.contracts.ingest import InboxState
from relevo.contracts.streams import INBOUND
from relevo.ingest.domain.parsing import Event, Limits, parse_event, parse_json
from relevo.ingest.domain.refusal import (
    INBOX_DISABLED,
    INBOX_UNKNOWN,
    KIND_MISMATCH,
    SENDER_KEY_MISMATCH,
    SUBJECT_INVALID,
    Refused,
)
from relevo.kernel.identity import sender_key
from relevo.kernel.text import clean


class BusMessage(Protocol):
    """A message as it came over the bus. ``time`` is when the stream stored it."""

    @property
    def subject(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def time(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class Address:
    """The tokens of a stored inbound subject. All are text that a database takes; none is checked to exist."""

    account_id: str
    inbox_id: str
    sender: str
    kind: str


def address(subject: str) -> Address:
    """Read a subject as stored, with the partition in it. One of another form gives empty tokens."""
    tokens = clean(subject).split(".")
    if len(tokens) != len(INBOUND.tokens) + 1:
        return Address("", "", "", "")
    return Address(*tokens[INBOUND.partition_at + 1 :])


def read(place: Address, body: bytes, *, now: datetime, limits: Limits) -> Event:
    """The event of a delivery, which must be the one that the subject announces. Raises Refused."""
    if not place.kind:
        raise Refused(SUBJECT_INVALID)
    event = parse_event(parse_json(body), now=now, limits=limits)
    faults = []
    if place.kind != event.kind:
        faults.append(KIND_MISMATCH)
    if place.sender != sender_key(event.sender.id):
        faults.append(SENDER_KEY_MISMATCH)
    if faults:
        raise Refused(*faults)
    return event


def open_inbox(inbox: InboxState | None, account_id: str) -> InboxState:
    """The inbox, if it may take events of this account. Raises Refused."""
    if inbox is None or inbox.account_id != account_id:
        raise Refused(INBOX_UNKNOWN)
    if not inbox.enabled:
        raise Refused(INBOX_DISABLED)
    return inbox


def is_uuid(value: str) -> bool:
    """Whether this can be the id of something that ingest made (in its one canonical form)."""
    try:
        return str(UUID(value)) == value
    except ValueError:
        return False
