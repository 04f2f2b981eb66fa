"""The answer that an inbox gives out of hours: to whom, in which language, and when it says that we are back. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid5

from relevo.automation.domain.inbox_answers import InboxAnswer, Language, answerable, language_of, moment_in_words
from relevo.contracts.conversation import MessageCreated
from relevo.contracts.snapshots import BusinessHours, ConversationSnapshot
from relevo.kernel.variables import filled

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


@dataclass(frozen=True, slots=True)
class Setting(InboxAnswer):
    """What an inbox answers out of hours."""

    defaults = DEFAULT_TEXTS
    variables = VARIABLES


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

    None where no inbox answers by itself (see `answerable`), in business hours or where no calendar counts, and none when
    it has become business hours since.
    """
    hours = event.business_hours
    if setting is None or not setting.enabled or not answerable(event) or hours is None or hours.open:
        return None
    answer = Answer(setting, event.conversation, hours, at)
    return answer if answer.opens_at > now else None


def next_opening(hours: BusinessHours, now: datetime, language: Language) -> str:
    """When we are back, in words that follow a verb, by the clock of the calendar's time zone."""
    return moment_in_words(hours.opens_at, hours.time_zone, now, language)
