from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.contracts.base import new_id
from relevo.contracts.metrics import Fact
from relevo.reporting.domain.rollup import BadPeriod, deltas, floor, pieces, resolution, starts

_ZONES = st.sampled_from(
    ["UTC", "Europe/Madrid", "America/Havana", "America/Santiago", "Asia/Kathmandu", "Australia/Lord_Howe", "Asia/Gaza"]
).map(ZoneInfo)
_EPOCH = datetime(2015, 1, 1, tzinfo=UTC)
_MOMENTS = st.integers(0, 15 * 366 * 1440).map(lambda minutes: _EPOCH + timedelta(minutes=minutes))


@given(_MOMENTS, st.integers(1, 80 * 1440), _ZONES, st.sampled_from(["day", "week", "month"]))
def test_buckets_begin_where_the_local_date_does(since: datetime, minutes: int, zone: ZoneInfo, bucket) -> None:
    until = since + timedelta(minutes=minutes)
    edges = starts(since, until, bucket, zone)
    assert edges[0] == since
    assert edges == sorted(set(edges))
    assert edges[-1] < until
    key = {
        "day": lambda local: local.date(),
        "week": lambda local: local.isocalendar()[:2],
        "month": lambda local: (local.year, local.month),
    }[bucket]
    # Brute force: the minutes at which the local day (week, month) becomes another one.
    found = [since]
    step = timedelta(minutes=30)  # every offset and every change of these zones is a multiple of 15 or 30 minutes
    at = since - timedelta(minutes=since.minute % 15)
    while (at := at + step / 2) < until:
        if at > since and key(at.astimezone(zone)) > key((at - step / 2).astimezone(zone)):
            found.append(at)
    assert edges == found


@given(_MOMENTS, st.integers(1, 5000), _ZONES)
def test_hours_are_hours_of_the_time_line(since: datetime, minutes: int, zone: ZoneInfo) -> None:
    edges = starts(since, since + timedelta(minutes=minutes), "hour", zone)
    assert all(later - earlier <= timedelta(hours=1) for earlier, later in pairwise(edges))
    assert all(b - a == timedelta(hours=1) for a, b in pairwise(edges[1:]))


def test_a_day_of_a_clock_change_is_shorter_or_longer() -> None:
    madrid = ZoneInfo("Europe/Madrid")
    since = datetime(2026, 3, 28, 23, tzinfo=UTC)
    edges = starts(since, since + timedelta(days=2), "day", madrid)
    assert edges[1] - edges[0] == timedelta(hours=23)


def test_too_many_buckets_are_refused() -> None:
    with pytest.raises(BadPeriod, match="shorter"):
        starts(datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), "hour", ZoneInfo("UTC"))


def test_the_coarsest_rollup_that_fits() -> None:
    day = datetime(2026, 1, 1, tzinfo=UTC)
    assert resolution([day, datetime(2026, 2, 1, tzinfo=UTC)]) == "month"
    assert resolution([day, day + timedelta(days=1)]) == "day"
    assert resolution([day, day + timedelta(hours=1)]) == "hour"
    assert resolution([day, day + timedelta(minutes=45)]) == "minute"


@given(_MOMENTS, st.integers(0, 10**6), st.integers(0, 900 * 86_400 * 10**6))
def test_a_period_is_cut_into_few_pieces_without_gap_or_overlap(since: datetime, micro: int, length: int) -> None:
    since += timedelta(microseconds=micro)
    until = since + timedelta(microseconds=length)
    found = pieces(since, until)
    assert len(found) <= 9
    assert [piece.since for piece in found] == [since, *(piece.until for piece in found[:-1])][: len(found)]
    assert not found or found[-1].until == until
    for piece in found:
        assert piece.since < piece.until
        if piece.resolution is None:
            # The end of one minute and the beginning of the next one, at most.
            assert piece.until - piece.since < timedelta(minutes=2)
        else:
            assert floor(piece.since, piece.resolution) == piece.since
            assert floor(piece.until, piece.resolution) == piece.until


def test_whole_months_are_taken_as_months() -> None:
    found = pieces(datetime(2025, 1, 2, 5, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC))
    assert [piece.resolution for piece in found] == ["hour", "day", "month"]
    assert (found[-1].since, found[-1].until) == (
        datetime(2025, 2, 1, tzinfo=UTC),
        datetime(2026, 3, 1, tzinfo=UTC),
    )


_FACTS = st.lists(
    st.builds(
        lambda metric, micro, at: Fact(
            fact_id=new_id(),
            metric=metric,
            unit="seconds",
            value=micro / 1e6,
            at=at,
            cause_event_id=new_id(),
        ),
        st.sampled_from(["reply_time", "resolution"]),
        st.integers(0, 10**13),
        st.integers(0, 180_000_000).map(lambda micro: _EPOCH + timedelta(microseconds=micro)),
    ),
    max_size=20,
)


@given(_FACTS, st.randoms())
def test_deltas_add_up_exactly_in_any_order(facts: list[Fact], random) -> None:
    shuffled = facts[:]
    random.shuffle(shuffled)
    found = deltas(facts)
    assert deltas(shuffled) == found
    assert sum(delta.count for delta in found) == len(facts)
    assert sum(round(delta.sum * 1e6) for delta in found) == sum(round(fact.value * 1e6) for fact in facts)
    assert all(delta.minute.second == delta.minute.microsecond == 0 for delta in found)
