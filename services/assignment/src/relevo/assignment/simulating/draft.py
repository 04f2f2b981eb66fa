"""A draft, as a JSON file tells it: what it names is otherwise, everything else is as it was when the period began."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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
)
from relevo.assignment.domain.rules import FIELDS
from relevo.assignment.domain.simulation import Draft
from relevo.assignment.domain.skills import Level, SkillName, first_fault
from relevo.assignment.domain.units import Weight
from relevo.assignment.simulating.journal import CannotSimulate
from relevo.kernel.conditions import ConditionError, parse

_Slots = Annotated[int, Field(ge=0, le=10_000)]


class DraftFile(BaseModel):
    """The policy's fields, as PUT /routing/policy takes them, and people, by id or by their whole name."""

    model_config = ConfigDict(extra="forbid")

    strategy: Strategy | None = None
    default_capacity: _Slots | None = None
    busy_as_fallback: bool | None = None
    out_of_shift: bool | None = None
    owner_first: bool | None = None
    owner_absent: OwnerAbsent | None = None
    owner_wait_seconds: Seconds | None = None
    last_agent_days: Days | None = None
    priority_worth_seconds: Seconds | None = None
    taken_back: tuple[TakeBack, ...] | None = None
    overflow: tuple[Overflow, ...] | None = None
    channel_weights: dict[str, Weight] | None = None
    lighter: Lighter | None = None
    pace: Pace | None = None
    hand_over: HandOver | None = None
    offer_seconds: OfferSeconds | None = None
    most_unanswered: Annotated[int, Field(ge=1, le=100)] | None = None
    rules: tuple[RoutingRule, ...] | None = None
    capacities: dict[str, _Slots | None] = {}
    """Agents' own capacities, in units; null: the policy's."""
    skills: dict[str, Annotated[dict[SkillName, Level], Field(max_length=50)]] = {}
    """All that these agents can."""
    without: list[str] = []
    """Agents who are not at work."""
    doubled: list[str] = []
    """Agents of whom there is one more, there when they are."""


def read(text: str | bytes, policy: Policy, names: Mapping[str, str]) -> Draft:
    """The draft on top of the policy in force. Raises CannotSimulate naming field, reason and mend."""
    try:
        given = DraftFile.model_validate_json(text)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors())
        raise CannotSimulate(
            f"the draft cannot be used: {faults}. Its fields: {', '.join(DraftFile.model_fields)}"
        ) from error
    people = ("capacities", "skills", "without", "doubled")
    changes = {name: value for name, value in given if name not in people and value is not None}
    # What a policy may be without.
    changes |= {
        name: getattr(given, name)
        for name in {"lighter", "pace", "owner_wait_seconds", "priority_worth_seconds", "most_unanswered"}
        & given.model_fields_set
    }
    drafted = replace(policy, **changes)
    for n, rule in enumerate(drafted.rules):
        try:
            parse(rule.when, FIELDS)
        except ConditionError as refused:
            raise CannotSimulate(f"rules.{n}.when: {refused}") from refused
        if (fault := first_fault(rule.needs, rule.rings)) is not None:
            first = "rings ask for less than something: say what is needed at first"
            why = first if fault == ("needs",) else "each ring comes later and needs less"
            raise CannotSimulate(f"rules.{n}.{'.'.join(map(str, fault))}: {why}")
    return Draft(
        policy=drafted,
        capacities={_agent(who, names, "capacities"): slots for who, slots in given.capacities.items()},
        skills={_agent(who, names, "skills"): levels for who, levels in given.skills.items()},
        without=frozenset(_agent(who, names, "without") for who in given.without),
        doubled=tuple(sorted({_agent(who, names, "doubled") for who in given.doubled})),
    )


def _agent(who: str, names: Mapping[str, str], field: str) -> str:
    if who in names:
        return who
    found = sorted(agent_id for agent_id, name in names.items() if name == who)
    if len(found) == 1:
        return found[0]
    if found:
        raise CannotSimulate(f"{field}: {len(found)} agents are called {who}: name one by id ({', '.join(found)})")
    raise CannotSimulate(f"{field}: there is no agent {who}: name one by id, or by the whole name")
