"""The doorkeeper's decisions: who comes in at once under pressure, and who waits."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from relevo.ingest.domain.admission import OUTAGE, Admission, Lane, shares

STEP = 0.05
"""Seconds between two batches of these scenes."""


class Scene:
    """Accounts that bring messages evenly while services tell how long events wait."""

    def __init__(self, threshold: float = 0.3) -> None:
        self.admission = Admission(threshold)
        self.now = 1000.0
        self.came: Counter[str] = Counter()
        self.admitted: Counter[str] = Counter()
        self._owed: dict[str, float] = {}

    def run(self, seconds: float, rates: dict[str, float], waited: float = 0.0) -> None:
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            if waited:
                self.admission.told("conversation", waited, self.now)
            lanes = []
            for account, rate in rates.items():
                whole, self._owed[account] = divmod(self._owed.get(account, 0.0) + rate * STEP, 1)
                lanes += [Lane(0, account)] * int(whole)
            outcome = self.admission.sift(lanes, (), self.now)
            counts = Counter(lane.account for lane in lanes)
            self.admission.came(counts, self.now)
            self.came += counts
            self.admitted += Counter(lane.account for lane, at_once in zip(lanes, outcome, strict=True) if at_once)

    @property
    def deferred(self) -> Counter[str]:
        return self.came - self.admitted


QUIET = {f"quiet-{number}": 3.0 for number in range(9)}


@given(st.integers(0, 1000), st.dictionaries(st.text(max_size=3), st.integers(0, 200), max_size=12))
def test_shares_are_max_min_fair_and_leave_nothing_unused(total: int, wanted: dict[str, int]) -> None:
    found = shares(total, wanted)
    assert sum(found.values()) == min(total, sum(wanted.values()))
    most = max(found.values(), default=0)
    for account, want in wanted.items():
        assert 0 <= found[account] <= want
        assert found[account] == want or found[account] >= most - 1


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(1, 300), min_size=2), st.floats(0.31, OUTAGE - 1))
def test_who_brings_less_than_the_level_never_waits_and_nobody_gets_more(
    rates: dict[str, float], waited: float
) -> None:
    scene = Scene()
    scene.run(1, rates)
    assert not scene.deferred, "without pressure nobody waits"
    lowest, highest = math.inf, 0.0
    before = scene.admitted.copy()
    for _ in range(60):
        scene.run(STEP, rates, waited)
        if scene.admission.limits:
            lowest, highest = min(lowest, scene.admission.level), max(highest, scene.admission.level)
    for account, rate in rates.items():
        if rate < lowest * 0.9:
            assert account not in scene.deferred
        if highest:
            assert scene.admitted[account] - before[account] <= max(highest, 10) + highest * 3.1 + 1


def test_a_flood_is_cut_at_once_and_the_others_are_not_touched() -> None:
    scene = Scene()
    scene.run(5, QUIET)
    scene.run(1, QUIET | {"loud": 300})
    assert not scene.deferred
    scene.run(1, QUIET | {"loud": 300}, waited=0.8)
    assert scene.deferred["loud"] > 200
    scene.run(20, QUIET | {"loud": 300}, waited=0.8)
    assert set(scene.deferred) == {"loud"}


def test_a_flood_among_those_who_seldom_write_is_cut_too() -> None:
    scene = Scene()
    seldom = {"quiet": 0.2}
    scene.run(6, seldom)
    scene.run(4, seldom | {"loud": 300}, waited=0.8)
    assert set(scene.deferred) == {"loud"}
    assert scene.admission.level < 30


def test_what_cutting_does_not_mend_is_not_cut_to_nothing() -> None:
    scene = Scene()
    rates = {f"seldom-{number}": 0.3 for number in range(9)} | {"large": 100}
    scene.run(5, rates)
    scene.run(4, rates, waited=5)
    assert scene.admission.level > 5
    scene.run(60, rates, waited=5)
    assert scene.admission.level < 5
    assert set(scene.deferred) == {"large"}


def test_accounts_alike_do_not_wait_for_each_other() -> None:
    alike = {f"{number}": 30.0 for number in range(10)}
    scene = Scene()
    scene.run(5, alike)
    scene.run(30, alike, waited=0.8)
    assert not scene.deferred


def test_a_large_account_among_others_does_not_wait_for_everybodys_load() -> None:
    scene = Scene()
    scene.run(20, {"large": 100.0} | {f"other-{number}": 12.0 for number in range(9)}, waited=2.0)
    assert not scene.admission.limits
    assert not scene.deferred


def test_an_account_alone_never_waits() -> None:
    scene = Scene()
    scene.run(10, {"loud": 500}, waited=5)
    assert not scene.deferred
    assert not scene.admission.limits


def test_what_several_services_tell_adds_up() -> None:
    scene = Scene()
    rates = QUIET | {"loud": 300}
    scene.run(2, rates, waited=0.2)
    assert not scene.admission.limits
    scene.admission.told("reporting", 0.2, scene.now)
    assert scene.admission.limits


def test_no_threshold_no_pressure_and_an_outage_is_none() -> None:
    off, away = Scene(threshold=0), Scene()
    off.run(5, QUIET | {"loud": 300}, waited=5)
    away.run(5, QUIET | {"loud": 300}, waited=OUTAGE + 1)
    assert not off.deferred
    assert not away.deferred


def test_the_level_rises_when_pressure_ends_and_then_there_is_none() -> None:
    scene = Scene()
    scene.run(3, QUIET | {"loud": 300}, waited=0.8)
    low = scene.admission.level
    scene.run(2, QUIET | {"loud": 300})
    assert low < scene.admission.level < math.inf
    scene.run(20, QUIET)
    assert not scene.admission.limits


def test_who_follows_a_waiting_one_waits_too() -> None:
    admission = Admission(0.3)
    mine, other = Lane(1, "a"), Lane(2, "a")
    assert admission.sift([mine, other, mine], {mine}, 1.0) == [False, True, False]


def test_those_who_waited_come_in_by_equal_parts_as_the_level_allows() -> None:
    scene = Scene()
    scene.run(3, QUIET | {"loud": 300, "louder": 500}, waited=0.8)
    admission = scene.admission
    taken: Counter[str] = Counter()
    lowest, start = admission.level, scene.now
    for _ in range(10):
        scene.now += 0.2
        admission.told("conversation", 0.4, scene.now)
        found = admission.take({"loud", "louder"}, 500, scene.now)
        admission.took(found, scene.now)
        taken += Counter(found)
        lowest = min(lowest, admission.level)
    assert abs(taken["loud"] - taken["louder"]) <= 1
    assert taken["loud"] >= int(lowest * (scene.now - start)) - 1
    assert sum(Admission(0.3).take({"a", "b", "c"}, 100, 1.0).values()) == 100


def test_a_batch_that_is_too_large_comes_in_and_the_next_waits_for_it() -> None:
    scene = Scene()
    scene.run(3, QUIET | {"loud": 300}, waited=0.8)
    admission, now = scene.admission, scene.now + 1
    admission.told("conversation", 0.8, now)
    first = admission.wait_for("loud", 200, now)
    assert first == 0
    later = admission.wait_for("loud", 1, now)
    assert later >= (200 - max(admission.level, 10)) / admission.level
    assert admission.wait_for("quiet-0", 1, now) == 0
    assert Admission(0.4).wait_for("loud", 1000, 1.0) == 0
