"""HTTP: my status, the roster, another's status, the history."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from relevo.chassis import directory, paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db, Rt
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Id, Time, now
from relevo.contracts.permissions import Permission
from relevo.contracts.presence import PresenceCause, RoutingState
from relevo.presence import changes
from relevo.presence.api.moments import Moment
from relevo.presence.changes import Step, published
from relevo.presence.domain.precedence import Choice
from relevo.presence.domain.reasons import reason
from relevo.presence.domain.status import Agent, Chosen, PutOff, newcomer
from relevo.presence.problems import no_status
from relevo.presence.settings import limits_of
from relevo.presence.store import rules, statuses

router = APIRouter(tags=["presence"])

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR_RANGE = 2**57
"""Microseconds since the epoch, up to the year 6500: whatever a forged cursor says is a moment."""


class ChoiceIn(BaseModel):
    """A status to set, until a moment or until changed: one of the routing states, or a named status."""

    state: RoutingState | None = Field(default=None, description="Left out when `status_id` is given.")
    status_id: Id | None = Field(default=None, description="A named status of the account.")
    until: Time | None = Field(default=None, description="When the choice ends by itself (RFC 3339).")


class StatusOut(BaseModel):
    """Effective status of an agent, since when and why; `chosen` is what was set by hand."""

    agent_id: Id
    name: str
    state: RoutingState
    label_id: Id | None = Field(default=None, description="The named status, where one is in force.")
    label: str | None = None
    since: Time | None = Field(description="Null: nothing is known of this agent yet.")
    cause: PresenceCause
    reason: str = Field(description="Why, in words.")
    chosen: RoutingState | None = None
    until: Time | None = None
    connected: bool = False
    in_shift: bool | None = Field(default=None, description="Null: no shift is planned.")
    overdue: bool = Field(default=False, description="In a named status for longer than it is meant to last.")


class Roster(BaseModel):
    """The status of everybody in the account, by name."""

    items: list[StatusOut]


class IntervalOut(BaseModel):
    """One interval of one state; `to_at` null: it is the present one."""

    agent_id: Id
    state: RoutingState
    label_id: Id | None
    in_shift: bool | None
    cause: PresenceCause
    actor: str
    from_at: Time
    to_at: Time | None


ReadMe = Annotated[Principal, Depends(require(Permission.PRESENCE_SELF))]
ReadAll = Annotated[Principal, Depends(require(Permission.PRESENCE_READ))]
Anyone = Annotated[Principal, Depends(require())]
Supervisor = Annotated[Principal, Depends(require(Permission.PRESENCE_OTHERS))]


@router.put("/presence/me")
async def set_mine(body: ChoiceIn, who: ReadMe, db: Db, rt: Rt) -> StatusOut:
    """Set my status. Where no socket is connected the call counts as a sign of life for a working day."""
    agent_id = _me(who)
    return await _choose(body, who, agent_id, name=who.name, db=db, rt=rt)


@router.get("/presence/me")
async def get_mine(who: ReadMe, db: Db) -> StatusOut:
    """My effective status."""
    agent_id = _me(who)
    async with db.begin() as tx:
        agent = await statuses.read(tx, who.account_id, agent_id) or newcomer(agent_id, who.account_id, now())
        return await _shown(tx, agent, who.name, who)


@router.post("/presence/me/break/put-off")
async def put_off_break(who: ReadMe, db: Db, rt: Rt) -> StatusOut:
    """Put the break off that was announced to me; only once."""
    agent_id = _me(who)
    async with db.begin() as tx:
        before = await statuses.read(tx, who.account_id, agent_id)
        if before is None or before.warned_at is None or before.put_off:
            raise Problem(
                409,
                "no_break_to_put_off",
                es="No hay ningún descanso anunciado que se pueda aplazar.",
                en="No break was announced that could be put off.",
            )
        step = Step(who.account_id, agent_id, PutOff())
        agent = (await changes.apply(tx, [step], now(), limits_of(rt.settings)))[agent_id]
        return await _shown(tx, agent, who.name, who)


@router.get("/presence")
async def get_roster(who: ReadAll, db: Db) -> Roster:
    """The status of every agent of the account."""
    moment = now()
    async with db.begin() as tx:
        known = await statuses.roster(tx, who.account_id, moment)
        agents = await directory.agents(tx, who.account_id)
        named = {row["id"]: row for row in await rules.named(tx, who.account_id, also_removed=True)}
    items = []
    for agent in sorted(agents, key=lambda agent: (agent.name.casefold(), agent.id)):
        if not agent.active:
            continue
        row = known.get(agent.id) or {"agent_id": agent.id, "state": "offline", "since": None, "cause": "initial"}
        label = named.get(row.get("label_id"))
        told = label["name"] if label else None
        items.append(
            StatusOut(
                **row,
                name=agent.name,
                label=told,
                reason=reason(row["cause"], who.language, label=told),
                overdue=_overdue(label, row["since"], moment),
            )
        )
    return Roster(items=items)


@router.get("/presence/history")
async def get_history(
    *,
    who: Anyone,
    db: Db,
    agent_id: Annotated[Id, Query(description="Whose history; another's needs presence.others.")],
    since: Annotated[Time | None, Query(description="From here on; a week before `until` by default.")] = None,
    until: Annotated[Moment | None, Query(description="Up to here, exclusive; now by default.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[IntervalOut]:
    """The intervals of one agent that touch the period, oldest first: without gaps, without overlaps."""
    if agent_id != who.id and not who.can(Permission.PRESENCE_OTHERS):
        raise Problem(
            403,
            "forbidden",
            es="Ver el historial de otra persona requiere el permiso presence.others.",
            en="To see somebody else's history you need the permission presence.others.",
        )
    end = until or now()
    begin = since or end - timedelta(days=7)
    if begin >= end:
        raise Problem(
            422,
            "bad_period",
            es="El periodo está vacío: `since` debe ser anterior a `until`.",
            en="The period is empty: `since` must be before `until`.",
            errors=[FieldError("/query/since", es="Debe ser anterior a until.", en="Must be before until.")],
        )
    after = _EPOCH + timedelta(microseconds=paging.decode(cursor, int)[0] % _CURSOR_RANGE) if cursor else None
    async with db.begin() as tx:
        await _known(tx, who.account_id, agent_id)
        rows = await statuses.history(
            tx, who.account_id, agent_id, since=begin, until=end, after=after, limit=limit + 1
        )
    return paging.page(rows, limit, _place, lambda row: IntervalOut(**row))


@router.put("/presence/{agent_id}")
async def set_others(agent_id: Id, body: ChoiceIn, who: Supervisor, db: Db, rt: Rt) -> StatusOut:
    """Set somebody's status for them. It cannot make an agent who is not there available: no sign of life is theirs."""
    async with db.begin() as tx:
        name = await _known(tx, who.account_id, agent_id)
    return await _choose(body, who, agent_id, name=name, db=db, rt=rt)


async def _choose(body: ChoiceIn, who: Principal, agent_id: str, *, name: str, db: Db, rt: Rt) -> StatusOut:
    moment = now()
    if (body.state is None) == (body.status_id is None):
        raise Problem(
            422,
            "state_or_status",
            es="Indica `state` o `status_id`, uno de los dos.",
            en="Give `state` or `status_id`, one of the two.",
            errors=[FieldError("/state", es="Uno de los dos.", en="One of the two.")],
        )
    if body.until is not None and body.until <= moment:
        raise Problem(
            422,
            "until_in_the_past",
            es="`until` ya ha pasado: indica un momento futuro.",
            en="`until` has passed already: give a moment in the future.",
            errors=[FieldError("/until", es="Debe estar en el futuro.", en="Must be in the future.")],
        )
    mine = agent_id == who.id
    async with db.begin() as tx:
        state = body.state
        if body.status_id is not None:
            named = {row["id"]: row["state"] for row in await rules.named(tx, who.account_id)}
            state = named.get(body.status_id)
        if state is None:
            raise no_status()
        cause: PresenceCause = "manual" if mine else "supervisor"
        choice = Choice(state, body.until, who.actor, cause, moment, body.status_id)
        step = Step(who.account_id, agent_id, Chosen(choice, alive=mine))
        agent = (await changes.apply(tx, [step], moment, limits_of(rt.settings)))[agent_id]
        return await _shown(tx, agent, name, who)


async def _shown(tx: Tx, agent: Agent, name: str, who: Principal) -> StatusOut:
    moment = now()
    settings = await rules.settings_of(tx, {agent.id: agent.account_id})
    named = {row["id"]: row for row in await rules.named(tx, agent.account_id, also_removed=True)}
    status = published(agent, settings[agent.id], {id_: row["name"] for id_, row in named.items()}, moment)
    known = status.model_dump(exclude={"open", "limit"})
    if agent.cause == "initial" and not agent.sequence:
        known["since"] = None
    return StatusOut(
        **known,
        name=name,
        reason=reason(status.cause, who.language, open_=status.open, limit=status.limit, label=status.label),
        overdue=_overdue(named.get(status.label_id or ""), status.since, moment),
    )


def _overdue(label: Mapping[str, Any] | None, since: datetime | None, moment: datetime) -> bool:
    if label is None or since is None or label["longest_minutes"] is None:
        return False
    return moment - since > timedelta(minutes=label["longest_minutes"])


def _me(who: Principal) -> str:
    if who.kind != "agent":
        raise Problem(
            403,
            "not_an_agent",
            es="Una clave de API no tiene estado propio: usa /presence/{agent_id}.",
            en="An API key has no status of its own: use /presence/{agent_id}.",
        )
    return who.id


async def _known(tx: Tx, account_id: str, agent_id: str) -> str:
    """The agent's name. Raises Problem 404 when the account has no such agent."""
    agent = next((agent for agent in await directory.agents(tx, account_id) if agent.id == agent_id), None)
    if agent is None or not agent.active:
        raise Problem(404, "agent_not_found", es="No existe esa persona.", en="There is no such agent.")
    return agent.name


def _place(row: Mapping[str, Any]) -> tuple[int]:
    return ((row["from_at"] - _EPOCH) // timedelta(microseconds=1),)
