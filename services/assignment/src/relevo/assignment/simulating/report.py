"""A simulation for people and for machines. Nothing but what was asked and what is on record decides a byte of it."""

import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Final

from relevo.assignment.domain.course import AgentTally, Measured, quantile
from relevo.assignment.domain.policy import Policy, written
from relevo.assignment.domain.simulation import ENOUGH, Draft, Drafted, Recorded

_SHOWN_DIFFERENCES: Final = 10
_WIDTH: Final = 120


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked. `limit` is in seconds."""

    account: str
    since: datetime
    until: datetime
    limit: float
    seed: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """What came out; without a draft, only how it was."""

    asked: Asked
    was: Recorded
    draft: Draft | None = None
    would: Drafted | None = None


def as_json(one: Simulation) -> str:
    """All figures; times in UTC, durations in seconds, shares from 0 to 1."""
    asked, was = one.asked, one.was
    told: dict[str, Any] = {
        "account": asked.account,
        "since": asked.since.isoformat(),
        "until": asked.until.isoformat(),
        "wait_limit": asked.limit,
        "check": {
            "automatic_decisions": was.automatic,
            "differences": [asdict(difference) for difference in was.differences],
        },
        "today": {"policy": written(was.policy), **_figures(was.measured)},
    }
    if one.draft is not None and one.would is not None:
        told["draft"] = {
            "policy": written(one.draft.policy) | {"version": None},
            "capacities": dict(one.draft.capacities),
            "skills": {agent_id: dict(levels) for agent_id, levels in one.draft.skills.items()},
            "without": sorted(one.draft.without),
            "doubled": list(one.draft.doubled),
            "seed": asked.seed,
            "fates": dict(one.would.fates),
            **_figures(one.would.measured),
        }
    return json.dumps(told, ensure_ascii=False, indent=2, sort_keys=True)


def _figures(measured: Measured) -> dict[str, Any]:
    waits = measured.waits
    return {
        "came": measured.came,
        "automatic": measured.automatic,
        "by_hand": measured.by_hand,
        "closed_unheld": measured.closed_unheld,
        "waiting": measured.waiting,
        "late": measured.late,
        "wait": {
            "mean": round(sum(waits) / len(waits), 3) if waits else None,
            **{f"p{round(share * 100)}": quantile(waits, share) for share in (0.5, 0.9, 0.95, 0.99)},
            "max": waits[-1] if waits else None,
        },
        "agents": [
            asdict(agent) | {name: round(getattr(agent, name), 4) for name in ("mean_open", "mean_units", "full")}
            for agent in measured.agents
        ],
    }


def as_text(one: Simulation) -> str:
    """A page to read."""
    asked, was = one.asked, one.was
    sides = [was.measured] if one.would is None else [was.measured, one.would.measured]
    parts = [
        f"{_moment(asked.since)} to {_moment(asked.until)} UTC, account {asked.account}",
        _check(was),
        _table(("", "today", "draft")[: 1 + len(sides)], [*_policies(one), *_rows(sides, asked.limit)]),
        _people(sides),
    ]
    if one.would is not None:
        parts.append(_how_known(one.would, asked.seed))
    return "\n\n".join(part for part in parts if part)


def _check(was: Recorded) -> str:
    if not was.differences:
        return f"Check: {was.automatic:,} automatic decisions made again from the journal, 0 differ."
    first = (
        f"Check: {was.automatic:,} automatic decisions made again from the journal, {len(was.differences):,} DIFFER."
    )
    lines = [f"{first} What follows cannot be trusted; please report it."]
    lines += [
        f"  conversation {one.conversation_id}, decision {one.version}: kept {one.kept}, again {one.again}"
        for one in was.differences[:_SHOWN_DIFFERENCES]
    ]
    return "\n".join(lines)


def _policies(one: Simulation) -> list[Sequence[str]]:
    policies = [written(policy) for policy in (one.was.policy, *([one.draft.policy] if one.draft else []))]
    # What customers are told decides nothing.
    names = [field.name for field in fields(Policy) if field.name not in ("version", "waiting_notice")]
    return [(name, *(_value(policy[name]) for policy in policies)) for name in names]


def _value(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return "; ".join(map(_value, value)) or "-"
        case dict():
            return " ".join(f"{name}={part}" for name, part in value.items() if part) or "-"
        case None:
            return "-"
        case _:
            return str(value)


def _rows(sides: Sequence[Measured], limit: float) -> list[Sequence[str]]:
    def row(name: str, of: Callable[[Measured], str]) -> Sequence[str]:
        return (name, *(of(side) for side in sides))

    def wait(share: float) -> Callable[[Measured], str]:
        return lambda side: _seconds(quantile(side.waits, share))

    return [
        row("conversations that came", lambda side: f"{side.came:,}"),
        row("  given automatically", lambda side: f"{side.automatic:,}"),
        row("  given by hand or by a rule", lambda side: f"{side.by_hand:,}"),
        row("  closed before anybody had them", lambda side: f"{side.closed_unheld:,}"),
        row("  waiting at the end", lambda side: f"{side.waiting:,}"),
        row("wait, mean", lambda side: _seconds(sum(side.waits) / len(side.waits) if side.waits else None)),
        row("wait, median", wait(0.5)),
        row("wait, p90", wait(0.9)),
        row("wait, p99", wait(0.99)),
        row("wait, longest", lambda side: _seconds(side.waits[-1] if side.waits else None)),
        row(f"waited longer than {_seconds(limit)}", lambda side: f"{side.late:,}"),
        row("  of those that came", lambda side: f"{side.late / side.came:.1%}" if side.came else "-"),
    ]


def _people(sides: Sequence[Measured]) -> str:
    names: dict[str, str] = {}
    by_side: list[dict[str, AgentTally]] = []
    for side in sides:
        by_side.append({agent.agent_id: agent for agent in side.agents})
        names |= {agent.agent_id: agent.name for agent in side.agents}
    columns: list[tuple[str, Callable[[AgentTally], str]]] = [
        ("given", lambda agent: f"{agent.given:,}"),
        ("closed", lambda agent: f"{agent.closed:,}"),
        ("mean open", lambda agent: f"{agent.mean_open:.1f}"),
        ("mean units", lambda agent: f"{agent.mean_units:.1f}"),
        ("most open", lambda agent: f"{agent.most_open:,}"),
        ("full", lambda agent: f"{agent.full:.0%}"),
    ]
    head = ["agent", *(f"{name}{draft}" for name, _ in columns for draft in ("", " (draft)")[: len(sides)])]
    rows = [
        [
            names[agent_id] or agent_id,
            *(of(side[agent_id]) if agent_id in side else "-" for _, of in columns for side in by_side),
        ]
        for agent_id in sorted(names, key=lambda agent_id: (names[agent_id], agent_id))
    ]
    return _table(head, rows) if rows else ""


def _how_known(would: Drafted, seed: int) -> str:
    fates = would.fates
    told = (
        f"In the draft {fates['as_recorded']:,} were given to the same agent at the same moment: what became of them is as recorded. "
        f"{fates['moved']:,} went to the same agent at another moment: handled as they were, from then on. "
        f"{fates['drawn']:,} went to somebody else: nobody knows how long they would have taken and what people would have done"
        f" by hand, so both are drawn from what that agent did with others in this period (from everybody's, of agents with fewer"
        f" than {ENOUGH}), with seed {seed}; as are answers to offers that nobody was made. Arrivals, statuses and rules are as they were. The mean number open and the share of"
        " time with no free slot (full) count while an agent is available or busy."
    )
    return textwrap.fill(told, _WIDTH)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 60:
        return f"{value:.3g} s" if value < 10 else f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S")
