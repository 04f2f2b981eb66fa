"""HTTP: the routing policy."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from relevo.assignment.api import RoutingManager, RoutingReader, decided, locked_pool
from relevo.assignment.domain.held import Team
from relevo.assignment.domain.inputs import PolicyEdited
from relevo.assignment.domain.policy import (
    Days,
    HandOver,
    Lighter,
    OfferSeconds,
    Overflow,
    OwnerAbsent,
    Pace,
    Policy,
    RoutingRule,
    Seconds,
    Strategy,
    TakeBack,
    WaitingNotice,
    endless,
    written,
)
from relevo.assignment.domain.rules import FIELDS
from relevo.assignment.domain.skills import first_fault
from relevo.assignment.domain.units import Weight
from relevo.assignment.store import people, pools
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, etag, matches, tag
from relevo.chassis.http import Db, Rt
from relevo.chassis.problems import FieldError, Problem, from_conditions
from relevo.kernel.conditions import ConditionError, parse

router = APIRouter(tags=["assignment"])


class PolicyBody(BaseModel):
    """How conversations are handed out. An agent's capacity is in units; an open conversation takes one of them."""

    strategy: Strategy
    default_capacity: int = Field(ge=0, le=10_000)
    busy_as_fallback: bool = Field(description="Whether busy agents get conversations when nobody is available.")
    out_of_shift: bool = Field(
        default=False, description="Whether who is there outside of their shift gets conversations."
    )
    owner_first: bool = Field(default=True, description="Whether conversations go to their contact's owner first.")
    owner_absent: OwnerAbsent = Field(
        default="anyone", description="While the owner is not there: to anyone, or in the inbox until they are."
    )
    owner_wait_seconds: Seconds | None = Field(
        default=None, description="For how long it lies there at most, then it goes to anyone; null: until they come."
    )
    last_agent_days: Days = Field(
        default=0,
        description="Whoever has a conversation of the contact, or had the last one at most so many days ago, goes before all "
        "others who can have it; 0: nobody does.",
    )
    priority_worth_seconds: Seconds | None = Field(
        default=None,
        description="How much waiting each step of priority (low, medium, high, urgent) is worth in the queue, so that nothing waits "
        "for ever; 0: priority does not count; null: the higher priority goes first, however long others wait.",
    )
    taken_back: tuple[TakeBack, ...] = Field(
        default=(),
        max_length=4,
        description="When conversations are taken back from their holder, at most once for each cause; else they keep them.",
    )
    overflow: tuple[Overflow, ...] = Field(
        default=(),
        max_length=100,
        description="To which team (null: to anybody) goes what has waited for so long with a team (null: with none); at most "
        "one for each.",
    )
    channel_weights: dict[Annotated[str, Field(min_length=1, max_length=50)], Weight] = Field(
        default_factory=dict,
        max_length=50,
        description="How many units a conversation of a channel takes (`email`: 0.5), where that is not one.",
    )
    lighter: Lighter | None = Field(
        default=None,
        description="Once a customer has been waited for so long, the conversation takes only this share of its units; they "
        "are needed again when the customer writes.",
    )
    pace: Pace | None = Field(
        default=None,
        description="At most so many are given to an agent within any so many seconds, whatever room they have; what people "
        "decide does not count. null: as many as they have room for.",
    )
    hand_over: HandOver = Field(
        default="direct",
        description="`direct`: whose turn it is has it then and there. `offer`: they are asked first, and may decline; the "
        "contact's owner, and whoever had it before it was closed, have it at once all the same.",
    )
    offer_seconds: OfferSeconds = Field(
        default=30, description="How long an offer stands; without an answer until then it goes to the next one."
    )
    most_unanswered: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None,
        description="Who lets so many offers in a row pass gets nothing more until they change their status; null: that does not "
        "count.",
    )
    waiting_notice: WaitingNotice | None = Field(
        default=None,
        description="What customers who wait in the queue for an answer are told, after so long and every so often again; texts may name "
        "`{{place}}` and `{{minutes}}`, which nobody may know: `{{minutes|unos}}`. null: nothing.",
    )
    rules: tuple[RoutingRule, ...] = Field(
        default=(),
        max_length=50,
        description="What holds instead for the conversations that fit `when`, a condition tree: the first that fits counts.",
    )


class PolicyOut(PolicyBody):
    """The policy and its version, which is also its ETag."""

    version: int


@router.get("/routing/policy")
async def get_policy(who: RoutingReader, db: Db, response: Response) -> PolicyOut:
    """The routing policy, with its ETag."""
    async with db.begin() as tx:
        policy = await pools.policy(tx, who.account_id)
    tag(response, policy.version)
    return _policy(policy)


@router.put("/routing/policy")
async def set_policy(
    body: PolicyBody, who: RoutingManager, response: Response, *, db: Db, rt: Rt, if_match: IfMatch = None
) -> PolicyOut:
    """Change the routing policy (If-Match: its ETag). Who waits is given to whoever may take it now, at once."""
    if if_match is None:
        raise Problem(
            428,
            "if_match_missing",
            es="Falta If-Match: envía el ETag de la política que has leído.",
            en="If-Match is missing: send the ETag of the policy that you read.",
        )
    async with db.begin() as tx:
        pool = await locked_pool(tx, who.account_id)
        if not matches(if_match, pool.policy.version):
            raise Problem(
                412,
                "changed_meanwhile",
                es="La política cambió desde que la leíste: revísala y vuelve a intentarlo.",
                en="The policy changed since you read it: look at it and try again.",
                headers={"ETag": etag(pool.policy.version)},
                extra={"current": _policy(pool.policy).model_dump(mode="json")},
            )
        policy = Policy(**_fields(body), version=pool.policy.version + 1)
        await _checked(tx, who.account_id, policy)
        await decided(tx, rt, who, PolicyEdited(policy))
    tag(response, policy.version)
    return _policy(policy)


def _fields(body: PolicyBody) -> dict[str, Any]:
    return {name: getattr(body, name) for name in PolicyBody.model_fields}


def _policy(policy: Policy) -> PolicyOut:
    return PolicyOut.model_validate(written(policy))


async def _checked(tx: Tx, account_id: str, policy: Policy) -> None:
    """Raises Problem 422 when the policy contradicts itself, or names a team that is not there."""
    errors = []
    causes = [back.cause for back in policy.taken_back]
    teams = await people.teams(tx, account_id)
    for n, back in enumerate(policy.taken_back):
        place = f"/taken_back/{n}"
        if back.cause in causes[:n]:
            errors.append(FieldError(f"{place}/cause", es="Ya está: indica cada una una vez.", en="Is there already."))
        team = teams.get(back.team_id or "")
        if back.to == "team" and (team is None or team.deleted):
            errors.append(FieldError(f"{place}/team_id", es="No existe ese equipo.", en="There is no such team."))
        if back.to == "queue" and back.team_id is not None:
            errors.append(
                FieldError(
                    f"{place}/team_id",
                    es="Solo con `to: team`: quítalo o cambia `to`.",
                    en="Only with `to: team`: leave it out, or change `to`.",
                )
            )
    errors += _overflow_errors(policy.overflow, teams)
    errors += _rule_errors(policy.rules, teams)
    if errors:
        raise Problem(
            422,
            "invalid_policy",
            es="La política no puede aplicarse así: corrige los campos indicados.",
            en="The policy cannot be followed as it is: mend the fields that are named.",
            errors=errors,
        )


def _rule_errors(rules: Sequence[RoutingRule], teams: Mapping[str, Team]) -> Iterator[FieldError]:
    for n, one in enumerate(rules):
        try:
            parse(one.when, FIELDS)
        except ConditionError as refused:
            yield from from_conditions(refused, f"/rules/{n}/when")
        if one.name in [other.name for other in rules[:n]]:
            yield FieldError(
                f"/rules/{n}/name", es="Ya está: dale otro nombre.", en="Is there already: give it another name."
            )
        if one.team_id is not None and (one.team_id not in teams or teams[one.team_id].deleted):
            yield FieldError(f"/rules/{n}/team_id", es="No existe ese equipo.", en="There is no such team.")
        match first_fault(one.needs, one.rings):
            case ("needs",):
                yield FieldError(
                    f"/rules/{n}/needs",
                    es="Los anillos piden menos que algo: indica qué hace falta al principio.",
                    en="Rings ask for less than something: say what is needed at first.",
                )
            case _, ring, "after_seconds":
                yield FieldError(
                    f"/rules/{n}/rings/{ring}/after_seconds",
                    es="Debe ser más tarde que el anillo anterior.",
                    en="Must be later than the ring before it.",
                )
            case _, ring, _:
                yield FieldError(
                    f"/rules/{n}/rings/{ring}/needs",
                    es="Debe pedir menos que lo anterior: niveles más bajos, o habilidades de menos.",
                    en="Must ask for less than what is before it: lower levels, or fewer skills.",
                )


def _overflow_errors(overflow: Sequence[Overflow], teams: Mapping[str, Team]) -> Iterator[FieldError]:
    sources = [one.team_id for one in overflow]
    for n, one in enumerate(overflow):
        for name, team_id in (("team_id", one.team_id), ("to_team_id", one.to_team_id)):
            if team_id is not None and (team_id not in teams or teams[team_id].deleted):
                yield FieldError(f"/overflow/{n}/{name}", es="No existe ese equipo.", en="There is no such team.")
        if one.team_id in sources[:n]:
            yield FieldError(
                f"/overflow/{n}/team_id",
                es="Ya está: indica cada equipo una vez.",
                en="Is there already: name each once.",
            )
    if (place := endless(overflow)) is not None:
        yield FieldError(
            f"/overflow/{place}/to_team_id",
            es="Daría vueltas sin fin: elige un equipo desde el que no se vuelva a este.",
            en="It would go round for ever: choose a team from which there is no way back to this one.",
        )
