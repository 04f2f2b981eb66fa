"""Macros: named acts that are done to a conversation in their order, by whoever clicks."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from relevo.contracts.assignment import Assign
from relevo.contracts.base import Id
from relevo.contracts.conversation import Mention, Text
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import AttributeValue, ConversationSnapshot
from relevo.conversation.domain.bulk import Act, Close, Prioritise, PutOff, Relabel

MAX_ACTS: Final = 20


class Delay(Act):
    """Snooze for so many hours or days; without either until the customer writes."""

    do: Literal["snooze"]
    hours: Annotated[int | None, Field(ge=1, le=8760)] = None
    days: Annotated[int | None, Field(ge=1, le=365)] = None

    def until(self, now: datetime) -> datetime | None:
        """When it wakes."""
        if self.hours is None and self.days is None:
            return None
        return now + timedelta(hours=self.hours or 0, days=self.days or 0)


class Say(Act):
    """Write to the customer, or a private note, which may mention agents (`agent:ID`) and teams (`team:ID`)."""

    do: Literal["message"]
    text: Annotated[Text, StringConstraints(strip_whitespace=True)]
    private: bool = False
    mentions: list[Mention] = Field(default=[], max_length=50)

    @model_validator(mode="after")
    def _mentions_in_notes(self) -> "Say":
        if self.mentions and not self.private:
            es, en = "Solo se puede mencionar a alguien en una nota privada.", "People can be mentioned only in a note."
            raise PydanticCustomError("mentions_need_a_note", "{en}", {"es": es, "en": en})
        return self


class SetValues(Act):
    """Values of the conversation's custom attributes by key; null takes one away."""

    do: Literal["attributes"]
    attributes: dict[str, AttributeValue | None] = Field(min_length=1, max_length=100)


class Give(Act):
    """Give it to oneself, to an agent, to a team, or to nobody."""

    do: Literal["assign"]
    to: Literal["me", "agent", "team", "nobody"]
    id: Id | None = None

    @model_validator(mode="after")
    def _somebody(self) -> "Give":
        if (self.id is not None) != (self.to in ("agent", "team")):
            es, en = (
                "Indica «id» para un agente o un equipo, y solo entonces.",
                "Give `id` for an agent or a team only.",
            )
            raise PydanticCustomError("id_of_agent_or_team", "{en}", {"es": es, "en": en})
        return self


MacroAct = Annotated[Close | Delay | Relabel | Prioritise | Say | SetValues | Give, Field(discriminator="do")]
MacroActs = Annotated[list[MacroAct], Field(min_length=1, max_length=MAX_ACTS)]


class RunMacro(Act):
    """Do what a macro says."""

    do: Literal["macro"]
    macro_id: UUID


class RunningMacro(RunMacro):
    """The same, with what it said when it was begun."""

    acts: MacroActs


JobAct = Annotated[Close | PutOff | Relabel | Prioritise | RunMacro, Field(discriminator="do")]
KeptAct = Annotated[Close | PutOff | Relabel | Prioritise | RunningMacro, Field(discriminator="do")]
KEPT: Final[TypeAdapter[KeptAct]] = TypeAdapter(KeptAct)
ACTS: Final[TypeAdapter[list[MacroAct]]] = TypeAdapter(MacroActs)


def permission_of(act: Any) -> Permission:
    """What is needed to do this, by macro as by hand."""
    match act:
        case Close(do="resolve"):
            return Permission.CONVERSATIONS_RESOLVE
        case Close(do="archive"):
            return Permission.CONVERSATIONS_ARCHIVE
        case Relabel():
            return Permission.CONVERSATIONS_LABEL
        case Say(private=True):
            return Permission.CONVERSATIONS_NOTE
        case Say():
            return Permission.CONVERSATIONS_REPLY
        case Give(to="me"):
            return Permission.CONVERSATIONS_ASSIGN_SELF
        case Give():
            return Permission.CONVERSATIONS_ASSIGN_OTHERS
        case _:
            return Permission.CONVERSATIONS_UPDATE


def given_to(act: Give, conversation: ConversationSnapshot, agent_id: str | None) -> Assign:
    """What assignment is asked for; what somebody decides at the same moment stands."""
    holder = {"me": agent_id, "agent": act.id}.get(act.to)
    return Assign(
        conversation_id=conversation.id,
        assignee_id=holder,
        team_id=act.id if act.to == "team" else None,
        seen_version=conversation.assignment_version,
    )
