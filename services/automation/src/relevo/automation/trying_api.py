"""HTTP: rules tried on what really happened. Nothing is ordered, nothing is kept."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from relevo.automation import store, trying
from relevo.automation.api import Manager, NewRule, condition_of, not_found
from relevo.automation.domain.actions import Order, Pause, PostStep, Step
from relevo.automation.domain.rules import Outcome, Rule
from relevo.automation.domain.why import Judged, Why
from relevo.automation.labels import keyed
from relevo.automation.settings import Settings
from relevo.automation.trying import Match, Place
from relevo.chassis import paging
from relevo.chassis.auth import Principal
from relevo.chassis.history import HistoryUnavailable
from relevo.chassis.http import Db, Rt
from relevo.chassis.problems import FieldError, Problem, invalid_fields, unavailable
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.catalogue import BY_MODEL

router = APIRouter(tags=["rules"])

Days = Annotated[float, Field(gt=0, le=30)]


class Trial(BaseModel):
    """A rule that there is, or a draft of one, and how far to look back."""

    model_config = ConfigDict(extra="forbid")

    rule_id: UUID | None = None
    draft: NewRule | None = None
    days: Days = 7
    limit: Annotated[int, Field(ge=1, le=500)] = 100
    cursor: str | None = Field(default=None, description="`next` of the page before.")


class WouldDo(BaseModel):
    """One thing that it would do: a command by its type, a post to a webhook, or a wait."""

    does: str
    data: dict[str, Any]


class WouldFire(BaseModel):
    """An event that it would have fired on."""

    event_id: str
    event_type: str
    at: Time
    conversation_id: str | None
    outcome: Outcome
    would: list[WouldDo]


class TrialOut(BaseModel):
    """One page of a trial. ``matched`` counts also those of conversations that one does not see, which are not shown.

    With ``next`` it goes on: give it as `cursor`. ``known_since``: nothing older is there to be tried on.
    """

    since: Time
    known_since: Time | None
    read: int
    matched: int
    items: list[WouldFire]
    next: str | None


class NodeOut(BaseModel):
    """One node of the conditions: whether it held, in words, and of a comparison the fact that it met."""

    path: str
    kind: str
    outcome: bool
    es: str
    en: str
    field: str | None = None
    actual: Any = None
    children: list["NodeOut"] = []


class WhyOut(BaseModel):
    """What the rule said, or would have said, to one event of the conversation."""

    event_id: str
    event_type: str
    at: Time
    why: Why
    es: str
    en: str
    conditions: NodeOut | None


class WhyList(BaseModel):
    """By event, the latest first. ``known_since``: nothing older is there to be asked about."""

    rule_version: int
    known_since: Time | None
    items: list[WhyOut]


@router.post("/rules/dry-run")
async def try_rule(body: Trial, who: Manager, db: Db, rt: Rt) -> TrialOut:
    """Which events of the last days a rule, or a draft, would have fired on, and what it would have done. It does none of it."""
    rule = await _rule(body, who, db)
    place = Place(*paging.decode(body.cursor, int, int)) if body.cursor else Place()
    since = now() - timedelta(days=body.days)
    try:
        known = await rt.history.known_since(trying.STREAM)
        tried = await trying.try_out(
            rt, rule, who.viewer, since=since, place=place, limit=body.limit, depth_limit=_depth_limit(rt)
        )
    except HistoryUnavailable:
        raise _away() from None
    return TrialOut(
        since=since,
        known_since=known,
        read=tried.read,
        matched=len(tried.matches),
        items=[_would(one) for one in tried.matches if one.seen],
        next=paging.encode(tried.next.p, tried.next.seq) if tried.next else None,
    )


@router.get("/rules/{rule_id}/why")
async def explain_rule(
    rule_id: UUID,
    who: Manager,
    db: Db,
    rt: Rt,
    *,
    conversation_id: UUID,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> WhyList:
    """Why a rule did or did not fire in a conversation: its present version on each event, every condition in words."""
    async with db.begin() as tx:
        stored = await store.read_rule(tx, who.account_id, str(rule_id))
    if stored is None:
        raise not_found()
    rule = _compiled(stored)
    try:
        known = await rt.history.known_since(trying.STREAM)
        found = await trying.explain(
            rt,
            rule,
            who.viewer,
            str(conversation_id),
            since=known or now(),
            limit=limit,
            depth_limit=_depth_limit(rt),
        )
    except HistoryUnavailable:
        raise _away() from None
    if not found:
        raise Problem(
            404,
            "nothing_to_explain",
            es="No hay nada que explicar: esa conversación no existe, no la ves, o no le ha pasado nada desde que hay memoria.",
            en="There is nothing to explain: there is no such conversation, you do not see it, or nothing happened to it that is still known.",
        )
    items = [
        WhyOut(
            event_id=one.envelope.id,
            event_type=one.envelope.type,
            at=one.envelope.time,
            why=one.verdict.why,
            es=one.verdict.es,
            en=one.verdict.en,
            conditions=_node(one.verdict.tree) if one.verdict.tree else None,
        )
        for one in found
    ]
    return WhyList(rule_version=rule.version, known_since=known, items=items)


async def _rule(body: Trial, who: Principal, db: Db) -> Rule:
    if (body.rule_id is None) == (body.draft is None):
        es, en = "Indica «rule_id» o «draft», uno de los dos.", "Give `rule_id` or `draft`, one of them."
        raise invalid_fields([FieldError("/rule_id", es=es, en=en)])
    async with db.begin() as tx:
        if body.draft is not None:
            condition_of(body.draft.conditions, body.draft.trigger, "/draft/conditions")
            stored = await keyed(tx, body.draft.stored(new_id(), who, now()))
        else:
            found = await store.read_rule(tx, who.account_id, str(body.rule_id))
            if found is None:
                raise not_found()
            stored = found
    if stored.trigger not in trying.TRIED:
        at = "/draft/trigger" if body.draft else "/rule_id"
        es = "Los niveles de servicio, los horarios y las ausencias no se pueden ensayar: elige otro disparador."
        en = "Service levels, schedules and absences cannot be tried: choose another trigger."
        raise invalid_fields([FieldError(at, es=es, en=en)])
    return _compiled(stored)


def _compiled(stored: store.StoredRule) -> Rule:
    try:
        return stored.compiled()
    except store.UNUSABLE:
        raise Problem(
            409,
            "rule_unusable",
            es="Esta regla es de una versión anterior y ya no se puede usar: guárdala de nuevo.",
            en="This rule is of an older version and cannot be used any more: save it anew.",
        ) from None


def _depth_limit(rt: Rt) -> int:
    settings = rt.settings
    assert isinstance(settings, Settings)
    return settings.rule_depth_limit


def _away() -> Problem:
    return unavailable(
        es="El historial no está disponible ahora: inténtalo de nuevo en un momento.",
        en="The history is not available right now: try again in a moment.",
    )


def _would(match: Match) -> WouldFire:
    execution = match.execution
    return WouldFire(
        event_id=match.envelope.id,
        event_type=match.envelope.type,
        at=match.envelope.time,
        conversation_id=execution.event.subject.conversation_id,
        outcome=execution.outcome,
        would=[_step(step) for step in execution.steps],
    )


def _step(step: Step) -> WouldDo:
    match step:
        case Order():
            return WouldDo(does=BY_MODEL[type(step.command)].name, data=step.command.model_dump(mode="json"))
        case PostStep():
            return WouldDo(does="webhook", data={"endpoint_id": step.endpoint_id})
        case Pause():
            return WouldDo(does="wait", data=step.wait.model_dump(mode="json", exclude={"type"}))


def _node(node: Judged) -> NodeOut:
    return NodeOut(
        path=node.path,
        kind=node.kind,
        outcome=node.outcome,
        es=node.es,
        en=node.en,
        field=node.field,
        actual=list(node.actual) if isinstance(node.actual, tuple) else node.actual,
        children=[_node(child) for child in node.children],
    )
