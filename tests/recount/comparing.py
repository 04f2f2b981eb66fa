"""Every answer of the reports beside what the recount says it must be."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from fractions import Fraction
from itertools import chain, cycle
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from recount.recount import (
    DIMENSIONS,
    MEASURED,
    NOT_BY_LABEL,
    RATED,
    TIMES,
    Asked,
    Counted,
    Number,
    behind,
    bucket_of,
    distribution,
    groups,
    moment,
    pairs,
    series,
    states,
    summary,
)

BUCKETS = ("hour", "day", "week", "month")
NONE = Number(0, 0, 0, None)

Get = Callable[[str, dict[str, str]], Awaitable[Any]]
"""Asks the reports: a path below /reports and the query; answers the JSON."""


def query(asked: Asked) -> dict[str, str]:
    """The same question over HTTP."""
    found = {"since": asked.since.isoformat(), "until": asked.until.isoformat()}
    found |= {name if name == "channel" else f"{name}_id": value for name, value in asked.where.items()}
    if asked.business_hours:
        found["business_hours"] = "true"
    if asked.label is not None:
        found["label"] = asked.label
    return found


def whole(metric: str, value: float) -> int:
    """What a report shows of a metric as the recount has it: times in microseconds."""
    return round(value * 1e6) if metric in MEASURED - {RATED} else round(value)


def same(metric: str, shown: dict[str, Any], number: Number, about: str) -> None:
    """One metric of a summary or a group."""
    assert (shown["count"], whole(metric, shown["sum"])) == (number.count, number.sum), about
    if metric not in MEASURED:
        return
    assert shown["unmeasured"] == number.unmeasured, about
    told = [shown[name] for name in ("mean", "median", "p90", "p95")]
    if number.spread is None:
        assert told == [None] * 4, about
        return
    unit = 1 if metric == RATED else Fraction(1, 10**6)
    # Shown with six digits; half of the last one is rounding.
    assert [
        abs(Fraction(value) - wanted * unit) < Fraction(1, 10**6)
        for value, wanted in zip(told, number.spread, strict=True)
    ] == [True] * 4, f"{about}: {told} beside {[float(wanted * unit) for wanted in number.spread]}"


def metrics_same(shown: Sequence[dict[str, Any]], numbers: dict[str, Number], about: str) -> None:
    """Every metric that is shown, and none that is not."""
    assert numbers.keys() <= {one["metric"] for one in shown}, about
    for one in shown:
        metric = one["metric"]
        same(metric, one, numbers.get(metric, NONE), f"{about} {metric}")


def rates_same(shown: Sequence[dict[str, Any]], numbers: dict[str, Number], about: str, *, labelled: bool) -> None:
    """Every rate, divided from the same numbers; by label those of service levels are not told."""

    def count(*metrics: str) -> int:
        return sum(numbers.get(metric, NONE).count for metric in metrics)

    bots = count("bot_resolutions", "bot_handoffs", "bot_takeovers")
    wanted = {
        "bot_resolution_rate": (count("bot_resolutions"), bots),
        "bot_handoff_rate": (count("bot_handoffs"), bots),
        "survey_response_rate": (count(RATED), count("surveys_sent")),
    } | (
        {}
        if labelled
        else {
            "sla_rate": (count("sla_met"), count("sla_met", "sla_missed")),
            "offer_acceptance_rate": (
                count("offers_accepted"),
                count("offers_accepted", "offers_declined", "offers_timed_out"),
            ),
        }
    )
    assert {one["rate"]: (one["part"], one["whole"]) for one in shown} == wanted, about
    for one in shown:
        assert one["part"] == count(one["part_of"]), about
        assert one["whole"] == count(*one["whole_of"]), about
        assert one["share"] == (one["part"] / one["whole"] if one["whole"] else None), about


def questions(counted: Sequence[Counted], asked: Asked) -> Iterator[Asked]:
    """The whole account, and each agent, team, inbox, channel and label of it, and pairs of an agent and a label or team."""
    yield asked
    values = {name: sorted({getattr(one, name) for one in counted} - {None}) for name in DIMENSIONS}
    labels = sorted({label for one in counted for label in one.labels})
    for name in DIMENSIONS:
        for value in values[name]:
            yield Asked(asked.since, asked.until, where={name: value})
    for label in labels:
        yield Asked(asked.since, asked.until, label=label)
    for agent in values["agent"][:2]:
        for other in chain(values["team"], [None]):
            where = {"agent": agent} | ({"team": other} if other else {})
            yield Asked(asked.since, asked.until, label=None if other else labels[0], where=where)


def both(asked: Asked) -> Iterator[Asked]:
    """By the clock, and business hours only."""
    for business_hours in (False, True):
        yield Asked(asked.since, asked.until, business_hours, asked.label, asked.where)


async def summaries_agree(get: Get, counted: Sequence[Counted], asked: Asked) -> int:
    """Every summary of every question; how many numbers were compared."""
    compared = 0
    for one in chain.from_iterable(both(each) for each in questions(counted, asked)):
        told = await get("summary", query(one))
        shown, numbers = told["metrics"], summary(counted, one)
        metrics_same(shown, numbers, f"summary {query(one)}")
        rates_same(told["rates"], numbers, f"summary {query(one)}", labelled=one.label is not None)
        compared += len(shown)
        for metric in (RATED, "presence_seconds"):
            told = next((each["states"] for each in shown if each["metric"] == metric), {})
            count = whole if metric != RATED else lambda _, value: round(value)
            assert {state: count(metric, value) for state, value in told.items()} == states(counted, one, metric)
    return compared


async def groups_agree(get: Get, counted: Sequence[Counted], asked: Asked) -> int:
    """Every grouping; how many numbers were compared."""
    compared = 0
    for one in both(asked):
        for by in (*DIMENSIONS, "label"):
            told = (await get("groups", query(one) | {"by": by}))["groups"]
            shown = {each["key"]: each["metrics"] for each in told}
            for each in told:
                rates_same(each["rates"], groups(counted, one, by)[each["key"]], f"by {by}", labelled=by == "label")
            wanted = groups(counted, one, by)
            assert shown.keys() == wanted.keys(), by
            for key, numbers in wanted.items():
                metrics_same(shown[key], numbers, f"by {by} {key}, business hours {one.business_hours}")
                compared += len(shown[key])
    return compared


async def pairs_agree(get: Get, counted: Sequence[Counted], asked: Asked) -> int:
    """Two metrics by every two things; how many numbers were compared."""
    compared = 0
    names = (*DIMENSIONS, "label")
    for one in both(asked):
        for by, across in ((by, across) for by in names for across in names if by != across):
            for metric in ("messages_in", "first_response"):
                query_ = query(one) | {"metric": metric, "by": by, "across": across}
                shown = {(each["by_key"], each["across_key"]): each for each in (await get("pairs", query_))["pairs"]}
                wanted = pairs(counted, one, metric, by, across)
                assert shown.keys() == wanted.keys(), query_
                for key, number in wanted.items():
                    told = shown[key]
                    assert (told["count"], whole(metric, told["sum"])) == (number.count, number.sum), (query_, key)
                    assert told["unmeasured"] == (number.unmeasured if metric in MEASURED else 0), (query_, key)
                compared += len(wanted)
    return compared


async def distributions_agree(get: Get, counted: Sequence[Counted], asked: Asked) -> int:
    """Every time of the clock or of business, in spans; how many numbers were compared."""
    compared = 0
    edges = (60, 600, 3600, 14_400)
    for one in both(asked):
        for metric in sorted(TIMES):
            for by in (None, *DIMENSIONS):
                more = {"metric": metric, "edges": list(edges)} | ({"by": by} if by else {})
                told = (await get("distribution", query(one) | more))["groups"]
                wanted = distribution(counted, one, metric, [edge * 10**6 for edge in edges], by)
                nothing = {} if by else {None: [0] * 5}
                assert {each["key"]: each["counts"] for each in told} == (wanted or nothing), (metric, by)
                compared += len(told)
    return compared


async def series_agree(get: Get, counted: Sequence[Counted], asked: Asked, zones: Sequence[str]) -> int:
    """Every metric by hour, day, week and month of these zones; how many numbers were compared."""
    compared = 0
    label = next(label for one in counted for label in one.labels)
    for one in chain(both(asked), both(Asked(asked.since, asked.until, label=label))):
        for metric in sorted({each.metric for each in counted} - (NOT_BY_LABEL if one.label else set())):
            for bucket in BUCKETS:
                for tz in zones:
                    zone = ZoneInfo(tz)
                    told = await get("series", query(one) | {"metric": metric, "bucket": bucket, "tz": tz})
                    starts = [moment(point["start"]) for point in told["points"]]
                    assert starts[0] == asked.since
                    keys = [bucket_of(start, bucket, zone) for start in starts]
                    assert len(set(keys)) == len(keys), f"{bucket} {tz}"
                    shown = {
                        key: (point["count"], whole(metric, point["sum"]))
                        for key, point in zip(keys, told["points"], strict=True)
                        if point["count"]
                    }
                    assert shown == series(counted, one, metric, bucket, zone), f"{metric} by {bucket}, {tz}"
                    compared += len(keys)
    return compared


async def weeks_agree(get: Get, counted: Sequence[Counted], asked: Asked, zones: Sequence[str]) -> int:
    """Heat maps of times, messages and presence, in one zone after another, and how long each hour was; how many numbers."""
    minutes = [asked.since + timedelta(minutes=n) for n in range((asked.until - asked.since) // timedelta(minutes=1))]
    bucket = "weekday and hour"
    walked = {tz: Counter(bucket_of(minute, bucket, ZoneInfo(tz)) for minute in minutes) for tz in zones}
    compared = 0
    for metric, tz in zip(sorted({*TIMES, "messages_in", "presence_seconds"}), cycle(zones), strict=False):
        for one in both(asked) if metric in TIMES else (asked,):
            told = (await get("heatmap", query(one) | {"metric": metric, "tz": tz}))["cells"]
            cells = {(cell["weekday"], cell["hour"]): cell for cell in told}
            assert {key: cell["hours"] * 60 for key, cell in cells.items() if cell["hours"]} == pytest.approx(
                walked[tz]
            )
            shown = {key: (cell["count"], whole(metric, cell["sum"])) for key, cell in cells.items() if cell["count"]}
            assert shown == series(counted, one, metric, bucket, ZoneInfo(tz)), f"{metric} by {bucket}, {tz}"
            compared += len(told)
    return compared


async def conversations_agree(get: Get, counted: Sequence[Counted], asked: Asked) -> int:
    """The conversations behind every metric, and behind those of a label; how many there were."""
    compared = 0
    label = next(label for one in counted for label in one.labels)
    for metric in sorted({each.metric for each in counted} - {"presence_seconds"}):
        wanted = (
            asked if metric in NOT_BY_LABEL or metric not in TIMES else Asked(asked.since, asked.until, label=label)
        )
        told = await get("conversations", query(wanted) | {"metric": metric, "limit": "200"})
        assert told["next"] is None
        shown = [
            (one["conversation_id"], moment(one["last_at"]), one["count"], whole(metric, one["sum"]))
            for one in told["items"]
        ]
        assert shown == behind(counted, wanted, metric), f"conversations behind {metric}"
        compared += len(shown)
    return compared


async def earlier_agree(get: Get, counted: Sequence[Counted], asked: Asked) -> int:
    """The second half of a period beside the first; how many numbers were compared."""
    length = (asked.until - asked.since) // 2
    half = Asked(asked.until - length, asked.until)
    told = (await get("summary", query(half) | {"compare": "true"}))["previous"]
    first = Asked(moment(told["since"]), moment(told["until"]))
    assert (first.since, first.until) == (half.since - length, half.since)
    metrics_same(told["metrics"], summary(counted, first), "the half before")
    return len(told["metrics"])


async def reports_agree(get: Get, counted: Sequence[Counted], asked: Asked, zones: Sequence[str]) -> int:
    """Every report is what the recount says; how many numbers were compared."""
    assert (asked.until - asked.since) % timedelta(minutes=1) == timedelta()
    return (
        await summaries_agree(get, counted, asked)
        + await groups_agree(get, counted, asked)
        + await pairs_agree(get, counted, asked)
        + await distributions_agree(get, counted, asked)
        + await series_agree(get, counted, asked, zones)
        + await weeks_agree(get, counted, asked, zones)
        + await conversations_agree(get, counted, asked)
        + await earlier_agree(get, counted, asked)
    )
