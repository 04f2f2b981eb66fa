"""How lists are asked for: filters, a standing view, an order; in a query and, kept, in a saved view."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from relevo.chassis import directory
from relevo.chassis.auth import Principal
from relevo.chassis.database import Tx
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.snapshots import ConversationStatus, Priority, Stage
from relevo.conversation import labels, searching
from relevo.conversation.filters import UNRESOLVED_STATUSES, Filters, Standing, within_channels
from relevo.conversation.lists import Sort
from relevo.kernel.text import clean

MAX_LIST: Final = 20


def label_of(value: str) -> str:
    """A label as it is stored. Raises PydanticCustomError for one that is empty."""
    label = " ".join(clean(value).split())
    if not label:
        es, en = "Una etiqueta no puede estar vacía.", "A label cannot be empty."
        raise PydanticCustomError("empty_label", "{en}", {"es": es, "en": en})
    return label


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Plain = Annotated[str, AfterValidator(lambda value: value.replace("\0", ""))]
"""Text that is looked for: a database takes no NUL."""
Label = Annotated[str, StringConstraints(max_length=60), AfterValidator(label_of)]
Moment = Annotated[datetime, AfterValidator(_aware)]


class Asked(BaseModel):
    """What conversations are asked for; all of it together. Without a time zone, times are UTC."""

    model_config = ConfigDict(extra="ignore")

    view: Standing | None = Field(
        default=None,
        description="A standing view. Without `status`, `stage` and `archived` it holds unresolved conversations only.",
    )
    status: list[ConversationStatus] = Field(default=[], max_length=MAX_LIST)
    stage: list[Stage] = Field(default=[], max_length=MAX_LIST)
    channel: list[Plain] = Field(default=[], max_length=MAX_LIST)
    inbox: list[UUID] = Field(default=[], max_length=MAX_LIST)
    assignee: UUID | Literal["me", "none"] | None = Field(default=None, description="An id, `me` or `none`.")
    team: UUID | Literal["none"] | None = Field(default=None, description="An id or `none`.")
    label: list[Label] = Field(default=[], max_length=MAX_LIST, description="All of them.")
    priority: list[Priority] = Field(default=[], max_length=MAX_LIST)
    participant: UUID | Literal["me"] | None = Field(default=None, description="An id or `me`.")
    contact: UUID | None = None
    source: Plain | None = Field(
        default=None, max_length=512, description="The channel's own id of the person; needs one `inbox`."
    )
    text: Plain | None = Field(
        default=None,
        max_length=200,
        description="Words of messages, notes or subjects, as in a search; of the newest thousand that have them.",
    )
    archived: bool | None = Field(default=None, description="True: only archived ones. They are in no other list.")
    created_from: Moment | None = None
    created_before: Moment | None = None
    active_from: Moment | None = Field(default=None, description="Of the last activity.")
    active_before: Moment | None = None
    sort: Sort = Field(
        default="activity",
        description=(
            "`activity`: the latest first; `created`: the newest first; `waiting`: who waits longest first, then those who"
            " do not; `priority`: urgent first, those without one last, the latest activity first among equals."
        ),
    )


def filters_of(asked: Asked, who: Principal) -> Filters:
    """The same for this principal. Raises Problem 422 when it cannot be meant."""
    me = who.viewer.agent_id
    for name, value in (("assignee", asked.assignee), ("participant", asked.participant)):
        if value == "me" and me is None:
            raise _not_an_agent(name)
    if asked.source is not None and len(asked.inbox) != 1:
        raise Problem(
            422,
            "source_needs_inbox",
            es="El identificador del canal solo dice algo dentro de una bandeja: indica también `inbox`.",
            en="A channel's id means something within an inbox only: give `inbox` too.",
            errors=(FieldError("/query/inbox", es="Falta.", en="It is missing."),),
        )
    found = Filters(
        status=tuple(asked.status),
        stage=tuple(asked.stage),
        channel=tuple(asked.channel),
        inbox_ids=tuple(map(str, asked.inbox)),
        assignee_id=me if asked.assignee == "me" else _id(asked.assignee),
        unassigned=asked.assignee == "none",
        team_id=_id(asked.team),
        no_team=asked.team == "none",
        labels=tuple(asked.label),
        priority=tuple(asked.priority),
        participant_id=me if asked.participant == "me" else _id(asked.participant),
        contact_id=_id(asked.contact),
        source_id=asked.source,
        archived=asked.archived,
        created=(asked.created_from, asked.created_before),
        active=(asked.active_from, asked.active_before),
    )
    return found if asked.view is None else _narrowed(found, asked.view, who)


async def resolved_filters(tx: Tx, asked: Asked, who: Principal) -> Filters:
    """The same, with the keys of the labels, the inboxes of the channels, and the conversations that the text names.

    Raises Problem 422.
    """
    found = filters_of(asked, who)
    if found.labels:
        found = replace(found, labels=tuple(await labels.keys(tx, who.account_id, found.labels)))
    if found.channel:
        inboxes = await directory.account_inboxes(tx, who.account_id)
        found = within_channels(found, {inbox.id: inbox.channel for inbox in inboxes})
    if found.among is not None or not (asked.text and asked.text.strip()):
        return found
    return replace(found, among=await searching.conversations_of(tx, who.viewer, clean(asked.text)))


def _narrowed(filters: Filters, view: Standing, who: Principal) -> Filters:
    """What is within a standing view."""
    me = who.viewer.agent_id
    if me is None and view in {"mine", "mentions", "participating"}:
        raise _not_an_agent("view")
    more: dict[str, Any] = {}
    if not (filters.status or filters.stage or filters.archived):
        more["status"] = UNRESOLVED_STATUSES
    match view:
        case "mine":
            more["assignee_id"] = me
        case "unassigned":
            more["unassigned"] = True
        case "participating":
            more["participant_id"] = me
        case "mentions":
            more["mentioned"] = (f"agent:{me}", *(f"team:{team}" for team in sorted(who.viewer.team_ids)))
        case "unattended":
            more["unattended"] = True
        case "all":
            pass
    return replace(filters, **more)


def _not_an_agent(name: str) -> Problem:
    return Problem(
        422,
        "not_an_agent",
        es="Esta clave no representa a ningún agente: indica un id en lugar de «me».",
        en="This key stands for no agent: give an id instead of `me`.",
        errors=(FieldError(f"/query/{name}", es="Usa el id de un agente.", en="Use an agent's id."),),
    )


def _id(value: UUID | str | None) -> str | None:
    return str(value) if isinstance(value, UUID) else None
