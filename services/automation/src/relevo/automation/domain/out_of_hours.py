"""The answer that an inbox gives out of hours: to whom, in which language, and when it says that we are back. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import UUID, uuid5

from relevo.contracts.conversation import MessageCreated
from relevo.contracts.snapshots import BusinessHours, ConversationSnapshot
from relevo.kernel.business_time import zone
from relevo.kernel.variables import filled

Language = Literal["es", "en"]

VARIABLES: Final = ("next_opening", "contact.name")
"""What the texts may name, as {{next_opening}} or {{contact.name|amigo}}."""
DEFAULT_TEXTS: Final[Mapping[Language, str]] = {
    "es": "Gracias por escribirnos. Ahora estamos fuera de nuestro horario de atención: volvemos {{next_opening}} "
    "y te responderemos entonces.",
    "en": "Thank you for writing. We are outside our opening hours now: we are back {{next_opening}} "
    "and will answer you then.",
}
NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""Stands for the next opening of a calendar that does not open again."""

_NAMESPACE: Final = UUID("c1f1c0c4-0f0b-5b0e-9a3e-6a3a5b7f9d21")
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
class Setting:
    """What an inbox answers out of hours; an empty text is the one of `DEFAULT_TEXTS`."""

    account_id: str
    inbox_id: str
    enabled: bool = False
    text_es: str = ""
    text_en: str = ""
    version: int = 0

    def text(self, language: Language) -> str:
        """The text in a language, with its variables."""
        return (self.text_es if language == "es" else self.text_en) or DEFAULT_TEXTS[language]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to give, unless this closed period has had one: ``at`` the customer wrote, and until ``opens_at`` none follows."""

    setting: Setting
    conversation: ConversationSnapshot
    hours: BusinessHours
    at: datetime

    @property
    def opens_at(self) -> datetime:
        """When we are back; NEVER where that is not known."""
        return self.hours.opens_at or NEVER

    @property
    def actor(self) -> str:
        """Who the message is said to be from: the inbox's own rule."""
        return f"rule:{self.setting.inbox_id}"

    def command_id(self) -> str:
        """The envelope id of its command: of one closed period's answer always the same."""
        return str(uuid5(_NAMESPACE, f"{self.conversation.id}/{self.opens_at.isoformat()}"))

    def message(self, account_language: Language, now: datetime) -> str:
        """What it says to this customer at this moment."""
        language = language_of(self.conversation, account_language)
        values = {
            "next_opening": next_opening(self.hours, now, language),
            "contact.name": self.conversation.contact.name,
        }
        return filled(self.setting.text(language), values)


def answer_to(event: MessageCreated, setting: Setting | None, at: datetime, now: datetime) -> Answer | None:
    """The answer to a customer's message of this moment, None where there is none to give.

    None to what no person wrote (two machines would thank each other for ever), to somebody who is blocked, in a
    conversation that is not open (a bot has it, or it is closed), in business hours or where no calendar counts, and
    none when it has become business hours since.
    """
    conversation, hours = event.conversation, event.business_hours
    if (
        setting is None
        or not setting.enabled
        or event.message.kind != "incoming"
        or not event.human
        or conversation.contact.blocked
        or conversation.archived
        or conversation.status != "open"
        or hours is None
        or hours.open
    ):
        return None
    answer = Answer(setting, conversation, hours, at)
    return answer if answer.opens_at > now else None


def language_of(conversation: ConversationSnapshot, account_language: Language) -> Language:
    """The customer's language where it is one of ours, else the account's."""
    tag = (conversation.language or conversation.contact.language or "").lower().replace("_", "-").partition("-")[0]
    if tag == "es":
        return "es"
    return "en" if tag == "en" else account_language


def next_opening(hours: BusinessHours, now: datetime, language: Language) -> str:
    """When we are back, in words that follow a verb, by the clock of the calendar's time zone."""
    return moment_in_words(hours.opens_at, hours.time_zone, now, language)


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
