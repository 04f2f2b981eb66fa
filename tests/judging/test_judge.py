"""The judge judges rightly what is written down by hand: nothing wrong, and each fault by itself."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from judging import judge as the_judge
from judging.judge import Event, judge, lines

T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Log:
    """Events that are told at a moment, and happened a little before."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.versions: dict[str, int] = {}
        self.holders: dict[str, str | None] = {}

    def __call__(self, second: float, type_: str, **data: Any) -> None:
        at = T0 + timedelta(seconds=second)
        happened = at - timedelta(milliseconds=2)
        self.events.append(Event("S", len(self.events) + 1, at, type_, happened, "evt.s.0.account.x.y", data))

    def status(self, second: float, agent: str, state: str = "available", **more: Any) -> None:
        self(second, "status_changed", status={"agent_id": agent, "state": state, **more})

    def opened(self, second: float, one: str, priority: str | None = None) -> None:
        self(second, "conversation_opened", conversation={"id": one, "priority": priority})

    def resolved(self, second: float, one: str) -> None:
        self(second, "conversation_resolved", conversation={"id": one})

    def decided(self, second: float, one: str, to: str | None, code: str = "round_robin", **more: Any) -> None:
        kind = "conversation_assigned" if to else "conversation_queued"
        self.versions[one] = self.versions.get(one, 0) + 1
        given = {
            "conversation_id": one,
            "inbox_id": "i",
            "team_id": None,
            "version": self.versions[one],
            "assignee_id": to,
            "from_assignee_id": self.holders.get(one),
            "mode": "automatic",
            "reason": {"code": code},
            "queued_at": None if to else (T0 + timedelta(seconds=second)).isoformat(),
        }
        self.holders[one] = to
        self(second, kind, **given | more)

    def wait(self, second: float, one: str, priority: str | None = None, **more: Any) -> None:
        self.opened(second, one, priority)
        self.decided(second + 0.001, one, None, **more)

    def said(self, second: float, one: str, since: str | None) -> None:
        """The customer waits since then, or, once somebody has answered, does not any more."""
        self(second, "message_created", conversation={"id": one, "waiting_since": since})

    def faults(self, capacity: int = 1, until: float | None = None, **more: Any) -> set[str]:
        end = None if until is None else T0 + timedelta(seconds=until)
        return set(judge(self.events, capacity=capacity, until=end, **more)[0].faults)


@pytest.fixture
def log() -> Log:
    return Log()


def test_who_has_their_pace_is_not_idle_and_gets_no_more_until_it_has_passed(log: Log) -> None:
    log.status(0, "ana")
    for second, one in enumerate(("c1", "c2", "c3")):
        log.opened(second, one)
        log.decided(second + 0.01, one, "ana")
    log.wait(3, "c4")
    log.status(10, "bea", "away")
    log.status(12.1, "bea", "offline")
    assert log.faults(9, until=12.2, pace=(3, 10)) == set()
    assert log.faults(9, until=14, pace=(3, 10)) == {"idle"}
    assert log.faults(9, until=12.2) == {"idle"}
    log.decided(9.9, "c4", "ana")
    assert log.faults(9, until=13, pace=(3, 10)) == {"too fast"}
    assert log.faults(9, until=13, pace=(4, 10)) == {"idle"}


def test_what_needs_a_skill_goes_to_who_has_it_and_to_others_once_less_will_do(log: Log) -> None:
    ladder: list[Any] = [(0, {"pt": 3}), (5, {"pt": 1}), (9, {})]
    can: dict[str, Any] = {"skills": {"ana": {"pt": 2}, "bea": {}}, "ladders": [ladder]}
    log.status(0, "ana")
    log.status(0, "bea")
    log.wait(1, "c1", needs={"pt": 3})
    assert log.faults(1, until=5.9, **can) == set(), "nobody can take it, so nobody is idle"
    log.decided(6.05, "c1", None, "widened", needs={"pt": 1}, queued_at=(T0 + timedelta(seconds=1)).isoformat())
    assert log.faults(1, until=6.9, **can) == set()
    assert log.faults(1, until=7.5, **can) == {"idle"}
    log.decided(6.1, "c1", "ana", needs={"pt": 1})
    log.wait(21, "c2", needs={"pt": 3})
    assert log.faults(1, until=23, **can) == set()


def test_less_is_needed_when_its_time_has_come_and_not_before(log: Log) -> None:
    can: dict[str, Any] = {"skills": {"bea": {}}, "ladders": [[(0, {"pt": 3}), (5, {"pt": 1}), (9, {})]]}
    log.status(0, "bea", "away")
    log.wait(1, "c1", needs={"pt": 3})
    log.status(6.9, "bea", "busy")
    assert log.faults(1, **can) == set()
    log.status(7.1, "bea", "away")
    assert log.faults(1, **can) == {"rings"}
    log.wait(21, "c2", needs={"pt": 3})
    log.decided(22, "c2", None, "widened", needs={}, queued_at=(T0 + timedelta(seconds=21)).isoformat())
    assert log.faults(1, **can | {"ladders": [[(0, {"pt": 3}), (30, {})]]}) == {"rings"}
    log.decided(22.1, "c2", "bea", needs={"pt": 1})
    assert log.faults(1, skills={"bea": {}}) == {"unskilled"}


def test_a_day_without_fault(log: Log) -> None:
    log.wait(0, "c1")
    log.wait(1, "c2", "urgent")
    log.status(2, "ana")
    log.decided(2.05, "c2", "ana")
    log.resolved(3, "c2")
    log.decided(3.05, "c1", "ana")
    log.decided(4, "c1", "bea", "manual", mode="manual")
    verdict, one = judge(log.events, capacity=1)
    assert not verdict.faults
    assert [(some.told - some.since).total_seconds() for some in one.brought] == [pytest.approx(0.052)]
    assert verdict.figures["given by turn out of the queue"] == 2


def test_over_capacity(log: Log) -> None:
    log.status(0, "ana")
    for n in range(2):
        log.opened(1 + n, f"c{n}")
        log.decided(1.1 + n, f"c{n}", "ana")
    assert log.faults(1) == {"over capacity"}
    assert log.faults(2) == set()


def test_by_hand_anybody_may_hold_any_number(log: Log) -> None:
    for n in range(2):
        log.opened(1 + n, f"c{n}")
        log.decided(1.1 + n, f"c{n}", "ana", "manual", mode="manual")
    assert log.faults(1) == set()


@pytest.mark.parametrize(("weight", "faults"), [(50, set()), (51, {"over capacity"}), (100, {"over capacity"})])
def test_units_that_a_channel_takes(log: Log, weight: int, faults: set[str]) -> None:
    log.status(0, "ana")
    for n in range(2):
        log.opened(1 + n, f"c{n}")
        log.decided(1.1 + n, f"c{n}", "ana", channel="email")
    assert set(judge(log.events, capacity=1, weights={"email": weight})[0].faults) == faults


def test_what_does_not_fit_may_be_overtaken_and_who_has_no_room_for_it_is_not_idle(log: Log) -> None:
    log.status(0, "ana")
    log.opened(0.1, "c0")
    log.decided(0.2, "c0", "ana", channel="email")
    log.wait(1, "chat", channel="web")
    log.wait(2, "mail", channel="email")
    log.decided(2.5, "mail", "ana", channel="email")
    end = T0 + timedelta(seconds=9)
    assert not judge(log.events, capacity=1, weights={"email": 50}, until=end)[0].faults
    assert set(judge(log.events, capacity=2, weights={"email": 50}, until=end)[0].faults) == {"idle"}
    assert "out of order" in judge(log.events, capacity=2, until=end)[0].faults


@pytest.mark.parametrize(
    ("second", "again", "faults"), [(14, None, set()), (6, None, {"over capacity"}), (14, 9, {"over capacity"})]
)
def test_what_waits_for_its_customer_weighs_less_in_its_time(
    log: Log, second: float, again: float | None, faults: set[str]
) -> None:
    log.status(0, "ana")
    log.opened(0.1, "c0")
    log.decided(0.2, "c0", "ana")
    log.said(1, "c0", T0.isoformat())
    log.said(2, "c0", None)
    if again is not None:
        log.said(again, "c0", T0.isoformat())
    log.opened(second, "c1")
    log.decided(second + 0.1, "c1", "ana")
    assert set(judge(log.events, capacity=1, lighter=(10, 0))[0].faults) == faults


def test_whose_conversations_wait_for_customers_is_idle_beside_a_queue(log: Log) -> None:
    log.status(0, "ana")
    log.opened(0.1, "c0")
    log.decided(0.2, "c0", "ana")
    log.said(1, "c0", T0.isoformat())
    log.said(2, "c0", None)
    log.wait(3, "c1")
    log.status(14, "eva", "away")
    for end, faults in ((11, set()), (20, {"idle"})):
        found = judge(log.events, capacity=1, lighter=(10, 0), until=T0 + timedelta(seconds=end))[0]
        assert set(found.faults) == faults


@pytest.mark.parametrize("more", [{"version": 1}, {"from_assignee_id": None}])
def test_two_holders(log: Log, more: dict[str, Any]) -> None:
    log.opened(0, "c")
    log.decided(1, "c", "ana")
    log.decided(2, "c", "bea", "manual", mode="manual", **more)
    assert log.faults(5) == {"two holders"}


@pytest.mark.parametrize(("second", "faults"), [(1.9, set()), (2.2, {"idle"})])
def test_idle_beside_a_queue(log: Log, second: float, faults: set[str]) -> None:
    log.wait(0, "c")
    log.status(1, "ana")
    log.decided(second, "c", "ana")
    assert log.faults() == faults


def test_idle_to_the_end(log: Log) -> None:
    log.wait(0, "c")
    log.status(1, "ana")
    assert log.faults(until=1.5) == set()
    assert log.faults(until=9) == {"idle"}


def test_who_is_away_outside_of_their_shift_full_or_of_another_inbox_is_not_idle(log: Log) -> None:
    log(0, "agent_changed", agent={"id": "dan", "inbox_ids": ["j"], "team_ids": []})
    log(0, "agent_changed", agent={"id": "gone", "active": False, "inbox_ids": None, "team_ids": []})
    log.status(0.1, "full")
    log.opened(0.2, "c0")
    log.decided(0.3, "c0", "full")
    log.wait(1, "c")
    log.status(1.1, "away", "away")
    log.status(1.2, "off", in_shift=False)
    log.status(1.3, "dan")
    log.status(1.4, "gone")
    assert log.faults(until=9) == set()


@pytest.mark.parametrize(("first", "second"), [(None, None), ("high", "low"), ("urgent", None)])
def test_out_of_order(log: Log, first: str | None, second: str | None) -> None:
    log.wait(0, "early", first)
    log.wait(1, "late", second)
    log.status(2, "ana")
    log.decided(2.1, "late", "ana")
    assert log.faults() == {"out of order"}


def test_what_is_of_higher_priority_may_come_later(log: Log) -> None:
    log.wait(0, "early", "low")
    log.wait(1, "late", "high")
    log.status(2, "ana")
    log.decided(2.1, "late", "ana")
    assert log.faults() == set()


def test_what_was_told_of_only_after_it_is_no_fault(log: Log) -> None:
    log.wait(0, "late")
    log.status(2, "ana")
    log.decided(2.1, "late", "ana")
    log.opened(2.1, "early")
    log.decided(2.11, "early", None, queued_at=(T0 - timedelta(seconds=9)).isoformat())
    assert log.faults() == set()


@pytest.mark.parametrize(("worth", "faults"), [(None, {"out of order"}), (1, set()), (0, set()), (2, {"out of order"})])
def test_waiting_may_weigh_against_priority(log: Log, worth: float | None, faults: set[str]) -> None:
    log.wait(0, "early", "low")
    log.wait(1.5, "late")
    log.status(2, "ana")
    log.decided(2.1, "early", "ana")
    assert set(judge(log.events, capacity=1, priority_worth=worth)[0].faults) == faults


@pytest.mark.parametrize(("second", "faults"), [(7, set()), (4, {"left behind"}), (None, {"left behind"})])
def test_left_behind_or_taken_too_early(log: Log, second: float | None, faults: set[str]) -> None:
    log.opened(0, "c")
    log.decided(0.1, "c", "ana")
    log.status(1, "ana", "offline", since=(T0 + timedelta(seconds=1)).isoformat())
    if second is not None:
        log.decided(second, "c", None, "holder_offline")
    verdict, _ = judge(log.events, capacity=1, until=T0 + timedelta(seconds=9), taken_back={"offline": 5})
    assert set(verdict.faults) == faults


def test_what_was_given_by_hand_to_who_is_gone_has_its_own_time(log: Log) -> None:
    log.status(1, "ana", "away", since=T0.isoformat())
    log.opened(8, "c")
    log.decided(9, "c", "ana", "manual", mode="manual")
    assert not judge(log.events, capacity=1, until=T0 + timedelta(seconds=12), taken_back={"away": 5})[0].faults


def test_a_file_is_judged_alone_and_nothing_of_relevo_is_needed(log: Log, tmp_path: Path) -> None:
    source = Path(the_judge.__file__)
    assert "relevo" not in source.read_text().lower().replace("nothing of relevo", "")
    log.wait(0, "early")
    log.wait(1, "late")
    log.status(2, "ana")
    log.decided(2.1, "late", "ana")
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(lines(log.events)))
    assert [Event.of(json.loads(line)) for line in file.read_text().splitlines()] == log.events
    run = [sys.executable, "-I", str(source), str(file), "--capacity", "1"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (done.returncode, "out of order" in done.stdout) == (1, True), done.stdout + done.stderr
