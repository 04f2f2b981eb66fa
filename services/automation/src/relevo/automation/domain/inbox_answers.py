"""Answers that an inbox gives by itself: what they all have, which messages get one, and how they say it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final, Literal

from relevo.contracts.conversation import MessageCreated
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.kernel.business_time import zone

Language = Literal["es", "en"]

_DAYS: Final = (
    ("lunes", "Monday"),
    ("martes", "Tuesday"),
    ("miércoles", "Wednesday"),
    ("jueves", "Thursday"),
    ("viernes", "Friday"),
    ("sábado", "Saturday"),
    ("domingo", "Sunday"),
)
_MONTHS: Final = (
    ("enero", "January"),
    ("febrero", "February"),
    ("marzo", "March"),
    ("abril", "April"),
    ("mayo", "May"),
    ("junio", "June"),
    ("julio", "July"),
    ("agosto", "August"),
    ("septiembre", "September"),
    ("octubre", "October"),
    ("noviembre", "November"),
    ("diciembre", "December"),
)


@dataclass(frozen=True, slots=True)
class InboxAnswer:
    """What an inbox answers by itself, of one kind; an empty text is the one of ``defaults``."""

    defaults: ClassVar[Mapping[Language, str]]
    variables: ClassVar[tuple[str, ...]]
    """What the texts may name."""

    account_id: str
    inbox_id: str
    enabled: bool = False
    text_es: str = ""
    text_en: str = ""
    version: int = 0

    @property
    def actor(self) -> str:
        """Who the answer is said to be from: the inbox's own rule."""
        return f"rule:{self.inbox_id}"

    def text(self, language: Language) -> str:
        """The text in a language, with its variables."""
        return (self.text_es if language == "es" else self.text_en) or self.defaults[language]


def answerable(event: MessageCreated) -> bool:
    """Whether an inbox may answer a message by itself.

    Not what no person wrote (two machines would thank each other for ever), nor somebody who is blocked, nor in a
    conversation that is not open (a bot has it, or it is closed).
    """
    conversation = event.conversation
    return (
        event.message.kind == "incoming"
        and event.human
        and not conversation.contact.blocked
        and not conversation.archived
        and conversation.status == "open"
    )


def language_of(conversation: ConversationSnapshot, account_language: Language) -> Language:
    """The customer's language where it is one of ours, else the account's."""
    tag = (conversation.language or conversation.contact.language or "").lower().replace("_", "-").partition("-")[0]
    if tag == "es":
        return "es"
    return "en" if tag == "en" else account_language


def moment_in_words(at: datetime | None, time_zone: str, now: datetime, language: Language) -> str:
    """A moment to come, in words that follow a verb, by the clock of a time zone; None: one that is not known."""
    if at is None:
        return "lo antes posible" if language == "es" else "as soon as possible"
    there, today = at.astimezone(zone(time_zone)), now.astimezone(zone(time_zone)).date()
    clock = f"{there:%H:%M}"
    if there.date() == today:
        return f"hoy a las {clock}" if language == "es" else f"today at {clock}"
    if there.date() == today + timedelta(days=1):
        return f"mañana a las {clock}" if language == "es" else f"tomorrow at {clock}"
    day, month = _DAYS[there.weekday()], _MONTHS[there.month - 1]
    if language == "es":
        year = f" de {there.year}" if there.year != today.year else ""
        return f"el {day[0]} {there.day} de {month[0]}{year} a las {clock}"
    year = f" {there.year}" if there.year != today.year else ""
    return f"on {day[1]} {there.day} {month[1]}{year} at {clock}"
