"""HTTP: rules, what they did, and a check of conditions before they are kept."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from relevo.automation import own_times, schedules, store
from relevo.automation.domain.actions import ACTIONS, ANYWHERE, Action, Actions, Wait
from relevo.automation.domain.reviews import Absence
from relevo.automation.domain.rules import Outcome
from relevo.automation.domain.schedules import Schedule
from relevo.automation.domain.triggers import FIELDS, WITHOUT_CONVERSATION, Trigger
from relevo.automation.labels import keyed
from relevo.automation.references import action_faults
from relevo.chassis import directory, paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, etag, matches, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem, from_conditions, invalid_fields
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.permissions import Permission
from relevo.kernel.conditions import Condition, ConditionError, explain, parse
from relevo.kernel.text import clean_json

router = APIRouter(tags=["rules"])

Manager = Annotated[Principal, Depends(require(Permission.AUTOMATIONS_MANAGE))]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
InboxIds = Annotated[tuple[UUID, ...], Field(max_length=200)]
Position = Annotated[int, Field(ge=0, le=1_000_000)]


class _Body(BaseModel):
    """What conditions and actions say is stored as JSON values, whose texts no other model cleans."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, value: Any) -> Any:
        return clean_json(value)


class NewRule(_Body):
    """A rule to be made. Rules of one event are judged in the order of `position`, all over the same state."""

    name: Name
    trigger: Trigger
    conditions: Any = Field(default_factory=lambda: {"all": []}, description="Condition tree; `all` of nothing holds.")
    actions: Actions
    inbox_ids: InboxIds = Field((), description="Only in these inboxes; empty: in all.")
    on_automated: bool = Field(default=False, description="Also on messages that no person wrote.")
    enabled: bool = True
    position: Position = 0
    schedule: Schedule | None = Field(None, description="Of the trigger `schedule`: when, and which conversations.")
    absence: Absence | None = Field(
        None, description="Of the trigger `nobody_available`: whose, and which conversations."
    )

    def stored(self, rule_id: str, who: Principal, at: datetime) -> store.StoredRule:
        """The rule as it is kept, but for the keys of its labels. Raises Problem 422 for conditions that cannot be used."""
        return store.StoredRule(
            id=rule_id,
            account_id=who.account_id,
            name=self.name,
            trigger=self.trigger,
            conditions=condition_of(self.conditions, self.trigger).to_json(),
            actions=_dumped(self.actions),
            inbox_ids=tuple(map(str, self.inbox_ids)),
            on_automated=self.on_automated,
            enabled=self.enabled,
            position=self.position,
            version=1,
            created_at=at,
            updated_at=at,
            updated_by=who.actor,
            schedule=own_times.kept(self.schedule, "schedule", self.trigger),
            absence=own_times.kept(self.absence, "absence", self.trigger),
        )


class RuleChange(_Body):
    """What shall change; what is not there stays."""

    name: Name | None = None
    trigger: Trigger | None = None
    conditions: Any = None
    actions: Actions | None = None
    inbox_ids: InboxIds | None = None
    on_automated: bool | None = None
    enabled: bool | None = None
    position: Position | None = None
    schedule: Schedule | None = None
    absence: Absence | None = None


class RuleOut(BaseModel):
    """A rule. ``next_at``: when its schedule comes next; none without one, and while it is off."""

    id: str
    name: str
    trigger: Trigger
    conditions: Any
    actions: list[Action]
    inbox_ids: list[str]
    on_automated: bool
    enabled: bool
    position: int
    version: int
    created_at: Time
    updated_at: Time
    updated_by: str
    schedule: Schedule | None
    absence: Absence | None
    next_at: Time | None = None


class ExecutionOut(BaseModel):
    """A rule that matched an event. `waiting`: some of it is done later; `moot`: that will not be, since something came first.

    Held back as a whole: `depth_limit`, because rules had set each other off; `already_waiting`, because it waits there;
    `rate_limit`, because it fired there too often within the hour.
    """

    id: str
    rule_id: str
    rule_version: int
    rule_name: str
    event_id: str
    event_type: str
    conversation_id: str | None
    outcome: Outcome
    actions: list[str]
    created_at: Time


class CheckIn(_Body):
    """Conditions and, by field name, the facts to judge them by."""

    trigger: Trigger
    conditions: Any
    sample: dict[str, Any] = Field(default_factory=dict, max_length=100)


class LeafOut(BaseModel):
    """One comparison: where it stands in the tree, the fact it met, and whether it held."""

    path: str
    field: str
    operator: str
    actual: Any
    outcome: bool


class CheckOut(BaseModel):
    """Whether the conditions hold, and why."""

    outcome: bool
    leaves: list[LeafOut]


@router.get("/rules")
async def list_rules(who: Manager, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[RuleOut]:
    """The account's rules, in their order."""
    after: tuple[int, str] | None = paging.decode(cursor, int, UUID) if cursor else None
    async with db.begin() as tx:
        rules = await store.list_rules(tx, who.account_id, after=after, limit=limit + 1)
        known = await schedules.zones(tx, [who.account_id])
    return paging.page(rules, limit, lambda rule: (rule.position, rule.id), lambda rule: _out(rule, known))


@router.post("/rules", status_code=201)
async def create_rule(body: NewRule, who: Manager, db: Db, once: Idempotency, response: Response) -> RuleOut:
    """Make a rule; it counts from the next event on."""
    rule = body.stored(new_id(), who, now())
    async with db.begin() as tx:
        await once.start(tx)
        await _check_references(tx, rule, body.actions)
        rule = await keyed(tx, rule)
        await store.insert_rule(tx, rule)
        await own_times.follow(tx, rule)
        answer = await once.finish(tx, _out(rule, await schedules.zones(tx, [who.account_id])))
    tag(response, rule.version)
    return answer


@router.get("/rules/{rule_id}")
async def read_rule(rule_id: UUID, who: Manager, db: Db, response: Response) -> RuleOut:
    """One rule."""
    async with db.begin() as tx:
        rule = await store.read_rule(tx, who.account_id, str(rule_id))
        known = await schedules.zones(tx, [who.account_id])
    if rule is None:
        raise not_found()
    tag(response, rule.version)
    return _out(rule, known)


@router.patch("/rules/{rule_id}")
async def change_rule(
    rule_id: UUID, body: RuleChange, who: Manager, db: Db, response: Response, *, if_match: IfMatch = None
) -> RuleOut:
    """Change a rule. A new version begins; what the old one did stays on record under its number."""
    async with db.begin() as tx:
        before = await _locked(tx, who, rule_id, if_match)
        trigger = body.trigger or before.trigger
        given = body.model_fields_set
        condition = condition_of(body.conditions if "conditions" in given else before.conditions, trigger)
        rule = replace(
            before,
            name=body.name or before.name,
            trigger=trigger,
            conditions=condition.to_json(),
            actions=before.actions if body.actions is None else _dumped(body.actions),
            inbox_ids=before.inbox_ids if body.inbox_ids is None else tuple(map(str, body.inbox_ids)),
            on_automated=before.on_automated if body.on_automated is None else body.on_automated,
            enabled=before.enabled if body.enabled is None else body.enabled,
            position=before.position if body.position is None else body.position,
            version=before.version + 1,
            updated_at=now(),
            updated_by=who.actor,
            schedule=_changed(body, before, "schedule", trigger),
            absence=_changed(body, before, "absence", trigger),
        )
        # Only what is given is looked up: a rule whose agent has left can still be renamed or switched off.
        await _check_references(
            tx, replace(rule, inbox_ids=rule.inbox_ids if body.inbox_ids else ()), body.actions or ()
        )
        rule = await keyed(tx, rule)
        await store.update_rule(tx, rule)
        await own_times.follow(tx, rule)
        known = await schedules.zones(tx, [who.account_id])
    tag(response, rule.version)
    return _out(rule, known)


@router.delete("/rules/{rule_id}", status_code=204)
async def delete_rule(rule_id: UUID, who: Manager, db: Db, *, if_match: IfMatch = None) -> None:
    """Remove a rule; what it did stays on record."""
    async with db.begin() as tx:
        await _locked(tx, who, rule_id, if_match)
        await store.delete_rule(tx, who.account_id, str(rule_id))
        await own_times.forget(tx, str(rule_id))


@router.post("/rules/check")
async def check_conditions(body: CheckIn, who: Manager) -> CheckOut:  # noqa: ARG001  (who: the permission)
    """Judge conditions by facts of your own, and see which comparison held; keeps nothing."""
    condition = condition_of(body.conditions, body.trigger)
    explained = explain(condition, {"now": now(), **body.sample})
    return CheckOut(
        outcome=explained.outcome,
        leaves=[
            LeafOut(
                path=leaf.path,
                field=leaf.leaf.field,
                operator=leaf.leaf.operator,
                actual=leaf.actual,
                outcome=leaf.outcome,
            )
            for leaf in explained.leaves
        ],
    )


@router.get("/rule-executions")
async def list_executions(
    who: Manager,
    db: Db,
    *,
    conversation_id: UUID | None = None,
    rule_id: UUID | None = None,
    outcome: Outcome | None = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ExecutionOut]:
    """What rules did, the latest first: of a conversation, of a rule, with an outcome, from a moment on and before one."""
    after: tuple[datetime, str] | None = paging.decode(cursor, datetime, UUID) if cursor else None
    async with db.begin() as tx:
        rows = await store.list_executions(
            tx,
            who.account_id,
            conversation_id=str(conversation_id) if conversation_id else None,
            rule_id=str(rule_id) if rule_id else None,
            outcome=outcome,
            since=since,
            until=until,
            after=after,
            limit=limit + 1,
        )
    return paging.page(
        rows,
        limit,
        lambda row: (row.created_at.isoformat(), row.id),
        lambda row: ExecutionOut.model_validate(row, from_attributes=True),
    )


def _dumped(actions: tuple[Action, ...]) -> Any:
    return ACTIONS.dump_python(actions, mode="json")


def _out(rule: store.StoredRule, known: Mapping[str, ZoneInfo]) -> RuleOut:
    out = RuleOut.model_validate(rule, from_attributes=True)
    return out.model_copy(update={"next_at": schedules.next_of(rule, known, now())})


def _changed(body: RuleChange, before: store.StoredRule, name: str, trigger: Trigger) -> Any:
    of = own_times.TRIGGER_OF[name]
    if name in body.model_fields_set or (trigger == of) != (before.trigger == of):
        return own_times.kept(getattr(body, name), name, trigger)
    return getattr(before, name)


def condition_of(raw: Any, trigger: Trigger, pointer: str = "/conditions") -> Condition:
    """Conditions ready to be judged. Raises Problem 422 naming each fault, at its place."""
    try:
        return parse(raw, FIELDS[trigger])
    except ConditionError as refused:
        raise invalid_fields(from_conditions(refused, pointer)) from None


def not_found() -> Problem:
    """There is no such rule."""
    return Problem(404, "rule_not_found", es="No existe esa regla.", en="There is no such rule.")


async def _locked(tx: Tx, who: Principal, rule_id: UUID, if_match: str | None) -> store.StoredRule:
    if if_match is None:
        raise Problem(
            428,
            "if_match_required",
            es="Falta If-Match: envía el ETag de la regla que has leído, para no pisar cambios de otros.",
            en="If-Match is missing: send the ETag of the rule that you read, so that nobody's change is lost.",
        )
    rule = await store.read_rule(tx, who.account_id, str(rule_id), lock=True)
    if rule is None:
        raise not_found()
    if not matches(if_match, rule.version):
        raise Problem(
            412,
            "rule_changed",
            es="La regla ha cambiado entretanto: mira su estado actual y repite tu cambio.",
            en="The rule has changed in the meantime: look at its present state and make your change again.",
            headers={"ETag": etag(rule.version)},
            extra={"current": json.loads(_out(rule, {}).model_dump_json())},
        )
    return rule


async def _check_references(tx: Tx, rule: store.StoredRule, actions: tuple[Action, ...]) -> None:
    """Refuse inboxes, agents, teams and webhooks that the account does not have, and actions that the trigger cannot have."""
    errors = []
    if rule.inbox_ids:
        known = {inbox.id for inbox in await directory.account_inboxes(tx, rule.account_id)}
        errors += [
            FieldError(f"/inbox_ids/{at}", es="No existe esa bandeja de entrada.", en="There is no such inbox.")
            for at, inbox_id in enumerate(rule.inbox_ids)
            if inbox_id not in known
        ]
    if rule.trigger in WITHOUT_CONVERSATION:
        errors += [
            FieldError(
                f"/actions/{at}/type",
                es="Este disparador no es de ninguna conversación: solo valen «email_team», «webhook» y «wait».",
                en="This trigger is of no conversation: only `email_team`, `webhook` and `wait` will do.",
            )
            for at, action in enumerate(ACTIONS.validate_python(rule.actions))
            if not isinstance(action, (*ANYWHERE, Wait))
        ]
    errors += await action_faults(tx, rule.account_id, actions)
    team = (rule.absence or {}).get("team_id")
    if team is not None and team not in {one.id for one in await directory.teams(tx, rule.account_id)}:
        errors.append(FieldError("/absence/team_id", es="No existe ese equipo.", en="There is no such team."))
    if errors:
        raise invalid_fields(errors)
