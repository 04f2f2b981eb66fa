"""The identity service: the directory, as events with full state."""

from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from relevo.contracts.accounts import RowsDropped
from relevo.contracts.base import Id, Model, Time
from relevo.contracts.permissions import ConversationScope, Permission

PLATFORM = "platform"
"""The account token of what belongs to no account (signing keys)."""


Permissions = Annotated[frozenset[Permission], PlainSerializer(sorted, return_type=list[Permission], when_used="json")]
"""A set, always written in the same order: the same state is the same text in every process."""


class AccountState(Model):
    """A tenant."""

    id: Id
    name: str
    language: Literal["es", "en"] = "es"
    time_zone: str = "Europe/Madrid"


class RoleState(Model):
    """What an agent with this role may do, and which conversations they see."""

    id: Id
    account_id: Id
    name: str
    permissions: Permissions = frozenset()
    scope: ConversationScope
    predefined: bool = False


class AgentState(Model):
    """A person of the team. ``inbox_ids`` None: every inbox. ``active`` False: invited, and not accepted yet."""

    id: Id
    account_id: Id
    name: str
    email: str
    role_id: Id
    team_ids: tuple[Id, ...] = ()
    inbox_ids: tuple[Id, ...] | None = None
    language: Literal["es", "en"] = "es"
    active: bool = True


class TeamState(Model):
    """A named set of agents. ``auto_assign``: its conversations are handed out automatically."""

    id: Id
    account_id: Id
    name: str
    description: str = ""
    member_ids: tuple[Id, ...] = ()
    auto_assign: bool = True


Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class Hours(Model):
    """Open from ``opens`` to ``closes``, as the clock on the wall reads (`09:00`, `24:00`); an end not after its start is on the next day."""

    opens: str
    closes: str


class WeekdayHours(Hours):
    """The same on every such weekday, which is the one on which they begin."""

    day: Weekday


class SpecialDay(Model):
    """A date (`2026-12-25`) with hours of its own instead of its weekday's; a holiday has none."""

    date: str
    name: str = ""
    hours: tuple[Hours, ...] = ()


class CalendarState(Model):
    """When people answer. Where one counts: its inboxes' before its teams', and ``is_default`` where there is neither.

    An inbox, a team and the account have one at most. The version is the number of the event within its entity.
    """

    id: Id
    account_id: Id
    name: str
    time_zone: str
    weekly: tuple[WeekdayHours, ...] = ()
    special_days: tuple[SpecialDay, ...] = ()
    is_default: bool = False
    team_ids: tuple[Id, ...] = ()
    inbox_ids: tuple[Id, ...] = ()


class KeyState(Model):
    """A secret's public half: services compare its SHA-256, nobody can read the key itself.

    ``kind`` api: acts with ``permissions`` on the HTTP interface; adapter: may publish for ``inbox_id``; bot: answers
    in the conversations of ``inbox_id`` that bots have.
    """

    id: Id
    account_id: Id
    kind: Literal["api", "adapter", "bot"]
    name: str
    sha256: str
    permissions: Permissions = frozenset()
    scope: ConversationScope = ConversationScope.NONE
    inbox_id: Id | None = None
    agent_id: Id | None = None
    expires_at: Time | None = None


class SigningKeyState(Model):
    """A public key (PEM, Ed25519) that access tokens are verified with."""

    id: Id
    public_pem: str
    not_after: Time | None = None


class AccountChanged(Model):
    """An account was made or edited."""

    account: AccountState
    deleted: bool = False


class RoleChanged(Model):
    """A role was made, edited or removed."""

    role: RoleState
    deleted: bool = False


class AgentChanged(Model):
    """An agent was invited, edited or removed; a removed one is dead everywhere at once."""

    agent: AgentState
    deleted: bool = False


class TeamChanged(Model):
    """A team was made, edited or removed."""

    team: TeamState
    deleted: bool = False


class CalendarChanged(Model):
    """A business calendar was made, edited or removed."""

    calendar: CalendarState
    deleted: bool = False


class KeyChanged(Model):
    """An API or adapter key was issued or revoked."""

    key: KeyState
    deleted: bool = False


class SigningKeyChanged(Model):
    """A token-signing key was published or retired."""

    signing_key: SigningKeyState
    deleted: bool = False


class DroppedPart(Model):
    """What one service held of an account that is gone, in numbers, and when it held nothing any more."""

    service: str
    tables: tuple[RowsDropped, ...] = ()
    log: int = Field(0, description="rows of its log, in the outbox and in archived segments")
    messages: int = Field(0, description="messages of streams")
    files: int = 0
    done_at: Time


class AccountDeleted(Model):
    """The certificate of an account that is gone: nothing of it is held any more. It is of the platform, and stays."""

    certificate_id: Id
    account_id: Id
    asked_at: Time
    closed_at: Time = Field(description="when its time of grace ended, and everybody was shut out")
    done_at: Time
    parts: tuple[DroppedPart, ...]


class SessionRevoked(Model):
    """A session ended before its tokens did: tokens that name it are refused until ``until``."""

    session_id: Id
    agent_id: Id
    account_id: Id
    until: Time = Field(description="when the last token of the session expires by itself")
