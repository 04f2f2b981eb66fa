"""Past conversations of another system: what a line of a file says, what is wrong with it, and what it becomes here.

A line is one whole conversation that is over. It becomes a resolved or archived one whose messages have the numbers
from 1 on in the order of their times; the event that tells of the import has the number after the last of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from relevo.contracts.base import Time
from relevo.contracts.conversation import ConversationImported
from relevo.contracts.inbound import MAX_ATTACHMENTS, MAX_TEXT, Attachment
from relevo.contracts.ingest import InboxState
from relevo.contracts.snapshots import ContactSnapshot, ConversationSnapshot, MessageSnapshot, Priority
from relevo.conversation.domain.attributes import Unfit
from relevo.conversation.domain.contacts_import import KEYS, Fault
from relevo.conversation.domain.profile import READERS, phone_reader, read_label
from relevo.conversation.domain.properties import MAX_LABELS
from relevo.conversation.domain.reach import address_of
from relevo.conversation.domain.state import stage_of
from relevo.kernel.text import clean

MAX_MESSAGES: Final = 5000
"""Messages of a conversation."""
MAX_FAULTS: Final = 20
"""Faults of a line that are told: who wrote a thousand messages wrongly wrote them all wrongly."""
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _line(value: str) -> str:
    return " ".join(clean(value).split())


def _said(value: str) -> str:
    return clean(value).strip()


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Author(_Part):
    """Who of the team wrote it: an agent by their e-mail, else a name that is shown as it is."""

    email: Annotated[str, StringConstraints(max_length=254)] | None = None
    name: Annotated[str, StringConstraints(max_length=200), AfterValidator(_line)] = ""


class PastFile(_Part):
    """A file by its address; it is not fetched."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]", max_length=4096)]
    name: Annotated[str, StringConstraints(max_length=512), AfterValidator(_line)] = ""
    content_type: Annotated[str, StringConstraints(max_length=255, pattern=r"^[\x21-\x7e ]*$")] = ""
    size: Annotated[int, Field(ge=0, lt=2**53)] | None = None


class PastMessage(_Part):
    """Something that was said: by the customer, to them, or a private note of the team."""

    kind: Literal["incoming", "outgoing", "note"]
    at: Time
    text: Annotated[str, StringConstraints(max_length=MAX_TEXT), AfterValidator(_said)] = ""
    author: Author = Author()
    automatic: bool = False
    external_id: Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_line)] | None = None
    attachments: Annotated[tuple[PastFile, ...], Field(max_length=MAX_ATTACHMENTS)] = ()


class PastContact(_Part):
    """Who the customer was: found by identifier, else e-mail, else phone; else new. Nothing of a known one changes."""

    identifier: str | None = None
    email: str | None = None
    phone: str | None = None
    name: str | None = None
    language: str | None = None


class PastConversation(_Part):
    """One line of a file: a conversation that is over."""

    external_id: Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_line)]
    inbox: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    contact: PastContact
    created_at: Time
    messages: Annotated[tuple[PastMessage, ...], Field(min_length=1, max_length=MAX_MESSAGES)]
    resolved_at: Time | None = None
    status: Literal["resolved", "archived"] = "archived"
    subject: Annotated[str, StringConstraints(max_length=998), AfterValidator(_line)] = ""
    labels: Annotated[tuple[str, ...], Field(max_length=MAX_LABELS)] = ()
    priority: Priority | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """A line without a fault: as it came, its inbox, and whose it is and its labels in normal form."""

    line: int
    raw: str
    said: PastConversation
    inbox: InboxState
    contact: Mapping[str, str]
    labels: tuple[str, ...]
    language: str | None

    @property
    def key(self) -> str:
        """What it is known by here; it tells nothing of the id itself."""
        return key_of(self.said.external_id)


@dataclass(frozen=True, slots=True)
class Imported:
    """What a line becomes."""

    event: ConversationImported
    messages: tuple[MessageSnapshot, ...]
    recipient_key: str
    external_key: str

    @property
    def state(self) -> ConversationSnapshot:
        """The conversation."""
        return self.event.conversation


def key_of(external_id: str) -> str:
    """The digest by which a conversation of another system is known again."""
    return sha256(external_id.encode()).hexdigest()


class Places:
    """The inboxes that lines may name, by id or by name. ``allowed`` None: all of them; ``region``: of bare numbers."""

    def __init__(self, inboxes: Iterable[InboxState], allowed: Sequence[str] | None, region: str | None) -> None:
        self.region = region
        self._by_name: dict[str, list[InboxState]] = {}
        for inbox in inboxes:
            if allowed is None or inbox.id in allowed:
                self._by_name.setdefault(inbox.id, []).append(inbox)
                self._by_name.setdefault(_line(inbox.name).casefold(), []).append(inbox)

    def find(self, named: str) -> InboxState | Fault:
        """The inbox of that id or name, or what is wrong with it."""
        found = self._by_name.get(named) or self._by_name.get(_line(named).casefold(), [])
        if len(found) == 1:
            return found[0]
        if found:
            return Fault(
                "/inbox",
                "Hay varias bandejas con ese nombre: pon el identificador de la que sea.",
                "Several inboxes have that name: put the id of the one that is meant.",
            )
        return Fault(
            "/inbox",
            "No existe esa bandeja: pon el nombre o el identificador de una tuya.",
            "There is no such inbox: put the name or the id of one of yours.",
        )


def taken(line: int, raw: str, said: PastConversation, places: Places, now: datetime) -> Past | tuple[Fault, ...]:
    """A line that has the right form, or everything that is wrong with what it says."""
    faults: list[Fault] = [*_wrong_times(said, now), *_wrong_messages(said)]
    if not said.external_id:
        faults.append(
            Fault(
                "/external_id",
                "No tiene ningún carácter que se vea: pon el identificador de la conversación en el otro sistema.",
                "It has no character that can be seen: put the conversation's id in the other system.",
            )
        )
    inbox = places.find(said.inbox)
    if isinstance(inbox, Fault):
        faults.append(inbox)
    contact: dict[str, str] = {}
    for name, value in said.contact.model_dump(exclude_none=True).items():
        reader = phone_reader(places.region) if name == "phone" else READERS[name]
        if read := _read(reader, value, f"/contact/{name}", faults):
            contact[name] = read
    if not any(name in contact or f"/contact/{name}" in {fault.column for fault in faults} for name in KEYS):
        faults.append(
            Fault(
                "/contact",
                "No dice de quién es: pon un identificador, un correo o un teléfono.",
                "It does not say whose it is: put an identifier, an e-mail address or a telephone number.",
            )
        )
    labels = [_read(read_label, label, f"/labels/{n}", faults) for n, label in enumerate(said.labels)]
    language = _read(READERS["language"], said.language, "/language", faults) if said.language else None
    if faults or isinstance(inbox, Fault):
        return tuple(faults[:MAX_FAULTS])
    return Past(line, raw, said, inbox, contact, tuple(dict.fromkeys(filter(None, labels))), language)


def _read(reader: Callable[[str], str], value: str, pointer: str, faults: list[Fault]) -> str | None:
    if not value.strip():
        return None
    try:
        return reader(value)
    except Unfit as unfit:
        faults.append(Fault(pointer, unfit.es, unfit.en))
        return None


def _wrong_times(said: PastConversation, now: datetime) -> Iterator[Fault]:
    times = [("/created_at", said.created_at)]
    if said.resolved_at is not None:
        times.append(("/resolved_at", said.resolved_at))
    for pointer, at in (*times, *((f"/messages/{n}/at", message.at) for n, message in enumerate(said.messages))):
        if at > now:
            yield Fault(
                pointer,
                "Está en el futuro: una conversación pasada ya ha terminado. Corrige la hora o su zona.",
                "It is in the future: a past conversation is over. Mend the time, or its zone.",
            )
        elif at < EARLIEST:
            yield Fault(pointer, "Es anterior a 1970: corrige la fecha.", "It is before 1970: mend the date.")
        elif at < said.created_at:
            yield Fault(
                pointer,
                "Es anterior al comienzo de la conversación: corrige una de las dos horas.",
                "It is before the conversation's start: mend one of the two times.",
            )


def _wrong_messages(said: PastConversation) -> Iterator[Fault]:
    known: dict[str, int] = {}
    for n, message in enumerate(said.messages):
        if not message.text and not message.attachments:
            yield Fault(
                f"/messages/{n}/text",
                "El mensaje no dice nada: pon su texto o sus archivos, o quítalo.",
                "The message says nothing: put its text or its files, or take it out.",
            )
        if message.external_id and known.setdefault(message.external_id, n) != n:
            yield Fault(
                f"/messages/{n}/external_id",
                f"Ya lo tiene el mensaje {known[message.external_id]} de esta conversación: cada uno lleva el suyo.",
                f"Message {known[message.external_id]} of this conversation has it already: each has its own.",
            )


def twice(pointer: str, line: int) -> Fault:
    """A conversation that an earlier line of the same file has."""
    return Fault(
        pointer,
        f"La línea {line} de este archivo ya trae la conversación con ese identificador: deja una.",
        f"Line {line} of this file has the conversation of that id already: keep one.",
    )


@dataclass(frozen=True, slots=True)
class Here:
    """What a line meets here: its number, its contact and where that one writes from, its labels' keys, the agents.

    ``agents`` are id and name, by e-mail in lower case.
    """

    id: str
    number: int
    contact: ContactSnapshot
    known_source: str | None
    labels: tuple[str, ...]
    agents: Mapping[str, tuple[str, str]]
    import_id: str


def become(past: Past, here: Here, make_id: Callable[[], str], recipient_key: Callable[[str], str]) -> Imported:
    """The conversation that a line becomes, with its messages, and the event that tells of it."""
    said, inbox = past.said, past.inbox
    ordered = sorted(said.messages, key=lambda message: message.at)
    messages = tuple(_message(one, n, here, make_id) for n, one in enumerate(ordered, 1))
    last = max(said.created_at, ordered[-1].at)
    resolved_at = said.resolved_at or last
    first_reply = next((one.at for one in ordered if one.kind == "outgoing" and not one.automatic), None)
    archived = said.status == "archived"
    # Without an address nobody can be written to there; a customer who writes begins a conversation of their own.
    source = here.known_source or address_of(inbox, here.contact) or f"import-{here.id}"
    state = ConversationSnapshot(
        id=here.id,
        account_id=inbox.account_id,
        number=here.number,
        inbox_id=inbox.id,
        channel=inbox.channel,
        contact=here.contact,
        source_id=source,
        status="resolved",
        stage=stage_of("resolved", archived=archived, first_reply_at=first_reply),
        archived=archived,
        priority=said.priority,
        subject=said.subject,
        language=past.language or here.contact.language,
        labels=here.labels,
        owner_id=here.contact.owner_id,
        created_at=said.created_at,
        opened_at=said.created_at,
        resolved_at=resolved_at,
        first_reply_at=first_reply,
        last_activity_at=max(last, resolved_at),
        message_count=len(messages),
        historic=True,
        sequence=len(messages) + 1,
    )
    event = ConversationImported(conversation=state, import_id=here.import_id)
    return Imported(event, messages, recipient_key(source), past.key)


def _message(one: PastMessage, number: int, here: Here, make_id: Callable[[], str]) -> MessageSnapshot:
    if one.kind == "incoming":
        author, name = f"contact:{here.contact.id}", one.author.name or here.contact.name
    elif one.author.email and (agent := here.agents.get(one.author.email.strip().lower())):
        author, name = f"agent:{agent[0]}", agent[1]
    else:
        author, name = "system", one.author.name or (one.author.email or "").strip()
    values: dict[str, Any] = {"status": "received" if one.kind == "incoming" else "sent"}
    return MessageSnapshot(
        id=make_id(),
        conversation_id=here.id,
        kind=one.kind,
        sequence=number,
        text=one.text,
        author=author,
        author_name=name,
        external_id=one.external_id or None,
        attachments=tuple(Attachment(**file.model_dump()) for file in one.attachments),
        occurred_at=one.at,
        created_at=one.at,
        **values,
    )
