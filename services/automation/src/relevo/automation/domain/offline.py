"""The answer that an inbox gives while nobody of its team is there: to whom, and when it says that somebody is back. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from relevo.automation.domain.inbox_answers import InboxAnswer, Language, answerable, language_of, moment_in_words
from relevo.contracts.conversation import MessageCreated
from relevo.contracts.presence import RoutingState
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.kernel.variables import filled

VARIABLES: Final = ("back", "contact.name")
"""What the texts may name, as {{back}} or {{contact.name|amigo}}."""
DEFAULT_TEXTS: Final[Mapping[Language, str]] = {
    "es": "Gracias por escribirnos. En este momento no hay nadie del equipo disponible: te responderemos {{back}}.",
    "en": "Thank you for writing. Nobody of our team is available at the moment: we will answer you {{back}}.",
}
QUIET: Final = timedelta(hours=1)
"""How long a conversation gets no second such answer, though somebody was there in between."""

_NAMESPACE: Final = UUID("0f7a7b0e-6f8e-5d5c-9f43-7f4d6a1f2b11")


def is_there(state: RoutingState, in_shift: bool | None) -> bool:
    """Whether somebody with this status answers customers: also who is busy does, in the end; who is off shift does not."""
    return state in ("available", "busy") and in_shift is not False


@dataclass(frozen=True, slots=True)
class Setting(InboxAnswer):
    """What an inbox answers while nobody is there. ``holder``: also when only the one who has the conversation is not."""

    defaults = DEFAULT_TEXTS
    variables = VARIABLES

    holder: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Who could answer: the inbox's agents, of the team if there is one, and whoever has it; with ``only`` that agent alone."""

    account_id: str
    inbox_id: str
    team_id: str | None = None
    holder_id: str | None = None
    only: bool = False


@dataclass(frozen=True, slots=True)
class Attendance:
    """Whether anybody of a group is there; if not, since when (None: nobody ever was), and when the first of them is expected."""

    somebody: bool = False
    gone_since: datetime | None = None
    back_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A customer's message that is answered if nobody of ``group`` is there."""

    setting: Setting
    conversation: ConversationSnapshot
    message_id: str
    group: Group

    def command_id(self) -> str:
        """The envelope id of the answer's command: of one message's answer always the same."""
        return str(uuid5(_NAMESPACE, self.message_id))

    def answer(self, found: Attendance, account_language: Language, time_zone: str, now: datetime) -> str:
        """What it says to this customer at this moment."""
        language = language_of(self.conversation, account_language)
        values = {
            "back": moment_in_words(found.back_at, time_zone, now, language),
            "contact.name": self.conversation.contact.name,
        }
        return filled(self.setting.text(language), values)


def question_of(
    event: MessageCreated, setting: Setting | None, *, inbox_team: str | None, told_closed: bool
) -> Question | None:
    """Whom a customer's message asks after, None where it gets no answer of this kind whoever is there.

    None where no inbox answers by itself (see `answerable`) and, with ``told_closed``, out of hours: the inbox answers
    that with another text.
    """
    conversation, hours = event.conversation, event.business_hours
    closed = hours is not None and not hours.open
    if setting is None or not setting.enabled or not answerable(event) or (told_closed and closed):
        return None
    holder = conversation.assignee_id
    group = Group(
        setting.account_id,
        conversation.inbox_id,
        conversation.team_id or inbox_team,
        holder,
        only=setting.holder and holder is not None,
    )
    return Question(setting, conversation, event.message.id, group)
