"""Effective status: the precedence table, and that intervals tile time whatever comes in."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.kernel.business_time import Calendar
from relevo.presence.domain import precedence
from relevo.presence.domain.precedence import Choice
from relevo.presence.domain.rules import Label, Rules
from relevo.presence.domain.status import (
    HTTP,
    Agent,
    Beat,
    Chosen,
    Directory,
    Input,
    Left,
    Limits,
    Loaded,
    Looked,
    PutOff,
    Setting,
    SignedOut,
    apply,
    deadline,
    effective,
    newcomer,
    tick,
)

T0 = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
LIMITS = Limits()
STATES = ("available", "busy", "away", "offline")


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def manual(state, until=None, cause="manual", actor="agent:a", made=0.0):
    return Choice(state, until, actor, cause, at(made))


def agent(**fields) -> Agent:
    return replace(newcomer("a", "acc", T0), **fields)


def test_the_table_says_what_the_function_does_for_every_combination():
    rows = precedence.table()
    assert len(rows) == len(precedence.ROWS)
    assert sum(many for _, many, _ in rows) == sum(1 for _ in precedence.combinations())


def test_a_table_in_another_order_is_found_wrong(monkeypatch):
    rows = list(precedence.ROWS)
    rows[4], rows[5] = rows[5], rows[4]
    monkeypatch.setattr(precedence, "ROWS", tuple(rows))
    with pytest.raises(AssertionError, match="does not hold"):
        precedence.table()


def run(someone: Agent, *steps: tuple[float, Input]) -> Agent:
    for seconds, step in steps:
        someone, _ = apply(someone, step, at(seconds), LIMITS)
    return someone


def test_connected_agent_is_available_until_the_grace_after_the_last_heartbeat():
    someone = run(agent(), (1, Beat("d", at(1))), (16, Beat("d", at(16))))
    assert (someone.state, someone.cause) == ("available", "connected")
    assert deadline(someone, at(16)) == at(61)
    still, change = tick(someone, at(60.9), at(60.9), LIMITS)
    assert change is None
    gone, change = tick(still, at(61), at(61), LIMITS)
    assert (gone.state, gone.cause, gone.since) == ("offline", "expired", at(61))
    assert change is not None
    assert change.before.since == at(1)


def test_a_second_device_keeps_the_agent_there():
    someone = run(agent(), (1, Beat("d", at(1))), (2, Beat("e", at(2))), (3, Left("d", at(3), signed_out=False)))
    assert tick(someone, at(20), at(20), LIMITS)[0].state == "available"


def test_a_reload_does_not_flap_and_a_closed_tab_leaves_soon():
    someone = run(agent(), (1, Beat("d", at(1))), (2, Left("d", at(2))))
    assert someone.state == "available"
    back = run(someone, (4, Beat("d", at(4))))
    assert tick(back, at(8), at(8), LIMITS)[0].state == "available"
    gone, _ = tick(someone, at(7), at(7), LIMITS)
    assert (gone.state, gone.cause) == ("offline", "disconnected")


def test_signing_out_is_at_once_and_a_heartbeat_sent_before_does_not_undo_it():
    someone = run(agent(), (1, Beat("d", at(1))), (5, Left("d", at(5), signed_out=True)), (6, Beat("d", at(4))))
    assert (someone.state, someone.cause, someone.since) == ("offline", "sign_out", at(5))
    assert run(someone, (7, Beat("d", at(7)))).state == "available"


def test_heartbeats_from_a_backlog_do_not_connect():
    assert run(agent(), (100, Beat("d", at(50)))).state == "offline"


def test_heartbeats_from_the_future_last_no_longer_than_the_grace():
    assert deadline(run(agent(), (1, Beat("d", at(9999)))), at(1)) == at(46)


def test_an_expiry_noticed_late_is_put_off_once():
    someone = run(agent(), (1, Beat("d", at(1))))
    held, change = tick(someone, at(600), at(46), LIMITS)
    assert change is None
    assert deadline(held, at(600)) == at(645)
    assert tick(held, at(645), at(645), LIMITS)[0].state == "offline"


def test_a_choice_by_http_counts_as_connected_for_a_working_day():
    someone = run(agent(), (1, Chosen(manual("available"), alive=True)))
    assert (someone.state, someone.cause) == ("available", "manual")
    assert deadline(someone, at(1)) == at(1) + LIMITS.http_grace
    assert run(someone, (2, SignedOut())).cause == "sign_out"


def test_sockets_take_over_from_http():
    someone = run(agent(), (1, Chosen(manual("busy"), alive=True)), (2, Beat("d", at(2))))
    assert [name for name, _ in someone.devices] == ["d"]
    again = run(someone, (3, Chosen(manual("away"), alive=True)))
    assert HTTP not in dict(again.devices)
    gone, _ = tick(again, at(47), at(47), LIMITS)
    assert (gone.state, gone.cause) == ("offline", "expired")
    back = run(gone, (90, Beat("d", at(90))))
    assert (back.state, back.cause) == ("away", "manual"), "a choice outlives the connection"


def test_a_supervisor_cannot_make_an_absent_agent_available():
    someone = run(agent(), (1, Chosen(manual("available", cause="supervisor", actor="agent:s"), alive=False)))
    assert someone.state == "offline"
    sent_home = run(
        agent(), (1, Beat("d", at(1))), (2, Chosen(manual("offline", cause="supervisor", actor="agent:s"), alive=False))
    )
    assert (sent_home.state, sent_home.cause, sent_home.actor) == ("offline", "supervisor", "agent:s")


def test_a_choice_with_an_end_lapses():
    someone = run(agent(), (1, Beat("d", at(1))), (2, Chosen(manual("busy", at(10)), alive=True)))
    assert deadline(someone, at(2)) == at(10)
    after, _ = tick(someone, at(10), at(10), LIMITS)
    assert (after.state, after.cause, after.choice) == ("available", "connected", None)


def test_a_removed_agent_is_offline_whatever_comes():
    someone = run(agent(), (1, Beat("d", at(1))), (2, Directory(active=False)), (3, Beat("d", at(3))))
    assert (someone.state, someone.cause) == ("offline", "removed")
    assert run(someone, (4, Directory(active=True)), (5, Beat("d", at(5)))).state == "available"


BREAK = Label("rest", "away")
OFFICE = Calendar.parse(
    # Madrid's clocks go forward in the night of T0: 02:00 is 03:00.
    {"time_zone": "Europe/Madrid", "weekly": {"saturday": [["22:00", "03:30"]], "sunday": [["09:00", "14:00"]]}}
)


def test_a_shift_past_midnight_ends_on_time_in_the_night_of_the_clock_change():
    setting = Setting(Rules(at_shift_end="offline"), (OFFICE,))
    someone, _ = apply(agent(), Beat("d", at(1), at(1)), at(1), LIMITS, setting)
    assert (someone.state, someone.in_shift) == ("available", True)
    end = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)  # 03:30 in summer time: an hour of work less
    assert someone.shift.until == end
    there = replace(someone, devices=(("d", end + timedelta(hours=9)),))
    home, change = tick(there, end, end, LIMITS, setting)
    assert (home.state, home.cause, home.in_shift, change.after.since) == ("offline", "shift_over", False, end)
    stays, _ = apply(home, Chosen(replace(manual("available"), at=end), alive=True), end, LIMITS, setting)
    assert (stays.state, stays.in_shift) == ("available", False), "overtime is one's own choice"
    morning = datetime(2026, 3, 29, 7, 0, tzinfo=UTC)
    back, _ = tick(home, morning, morning, LIMITS, setting)
    assert (back.state, back.in_shift) == ("available", True)


def test_a_shift_that_ends_keeps_people_where_the_account_says_so():
    setting = Setting(calendars=(OFFICE,))
    someone = replace(agent(), devices=(("d", at(90_000)),))
    someone, _ = tick(someone, at(1), at(1), LIMITS, setting)
    over, change = tick(someone, at(4000), at(4000), LIMITS, setting)
    assert (over.state, over.in_shift) == ("available", False)
    assert change.before.in_shift


def test_too_many_conversations_make_busy_until_fewer_than_the_lower_limit():
    setting = Setting(Rules(busy_at=8, back_below=6))
    someone, _ = apply(agent(), Beat("d", at(1)), at(1), LIMITS, setting)
    states = []
    for number in (7, 8, 7, 6, 5, 7, 9):
        someone, _ = apply(someone, Loaded(number, 10), at(2), LIMITS, setting)
        states.append(someone.state)
    assert states == ["available", "busy", "busy", "busy", "available", "available", "busy"]
    told = effective(someone, setting, at(2))
    assert (told.cause, told.open, told.limit) == ("capacity", 9, 8)
    full = Setting(Rules(busy_when_full=True))
    assert apply(agent(devices=(("d", at(99)),)), Loaded(10, 10), at(2), LIMITS, full)[0].cause == "capacity"


def test_nobody_at_the_keyboard_is_away_until_somebody_is():
    setting = Setting(Rules(away_after=timedelta(minutes=10)))
    someone, _ = apply(agent(), Beat("d", at(1), at(1)), at(1), LIMITS, setting)
    someone, _ = apply(someone, Beat("d", at(590), at(1)), at(590), LIMITS, setting)
    assert deadline(someone, at(590), setting) == at(601)
    idle, _ = tick(someone, at(601), at(601), LIMITS, setting)
    assert (idle.state, idle.cause) == ("away", "idle")
    assert deadline(idle, at(601), setting) == at(635)
    assert apply(idle, Beat("d", at(602), at(602)), at(602), LIMITS, setting)[0].state == "available"
    mute, _ = apply(agent(), Beat("d", at(1)), at(1), LIMITS, setting)
    assert tick(replace(mute, devices=(("d", at(9999)),)), at(5000), at(5000), LIMITS, setting)[0].state == "available"


def test_a_break_is_announced_may_be_put_off_once_and_ends_by_the_agent_s_word():
    rules = Rules(rest_after_received=2, rest=BREAK, warning=timedelta(seconds=60), put_off=timedelta(seconds=300))
    setting = Setting(rules)
    someone, _ = tick(agent(devices=(("d", at(9999)),)), T0, T0, LIMITS, setting)
    someone, _ = apply(someone, Loaded(1, 9, 1), at(1), LIMITS, setting)
    assert someone.warned_at is None
    someone, _ = apply(someone, Loaded(1, 9, 1), at(2), LIMITS, setting)
    assert (someone.state, someone.warned_at, deadline(someone, at(2), setting)) == ("available", at(2), at(62))
    someone, _ = apply(someone, PutOff(), at(3), LIMITS, setting)
    someone, _ = apply(someone, PutOff(), at(4), LIMITS, setting)
    assert deadline(someone, at(4), setting) == at(362)
    resting, _ = tick(someone, at(362), at(362), LIMITS, setting)
    assert (resting.state, resting.label, resting.cause) == ("away", "rest", "break")
    back, _ = apply(resting, Chosen(manual("available"), alive=True), at(400), LIMITS, setting)
    assert (back.state, back.received, back.working_since) == ("available", 0, at(400))


def test_saying_available_again_is_no_break():
    setting = Setting(Rules(rest_after_received=9, rest=BREAK))
    someone, _ = tick(agent(devices=(("d", at(9999)),)), T0, T0, LIMITS, setting)
    someone, _ = apply(someone, Loaded(1, 9, 1), at(1), LIMITS, setting)
    someone, _ = apply(someone, Chosen(manual("available"), alive=True), at(2), LIMITS, setting)
    assert someone.received == 1


def test_a_long_session_asks_for_a_break_and_signing_in_again_begins_anew():
    setting = Setting(Rules(rest_after=timedelta(hours=4), rest=BREAK, warning=timedelta()))
    someone, _ = apply(agent(), Beat("d", at(1)), at(1), LIMITS, setting)
    someone = replace(someone, devices=(("d", at(99_999)),))
    assert deadline(someone, at(1), setting) == at(1) + timedelta(hours=4)
    resting, _ = tick(someone, at(14_401), at(14_401), LIMITS, setting)
    assert resting.cause == "break"
    out, _ = apply(resting, Left("d", at(15_000), signed_out=True), at(15_000), LIMITS, setting)
    again, _ = apply(out, Beat("d", at(16_000)), at(16_000), LIMITS, setting)
    assert (again.state, again.working_since) == ("available", at(16_000))


def test_a_named_status_is_an_interval_of_its_own():
    someone = agent(devices=(("d", at(9999)),))
    lunch = replace(manual("away"), label="lunch")
    someone, _ = apply(someone, Chosen(lunch, alive=True), at(1), LIMITS)
    training, change = apply(someone, Chosen(replace(lunch, label="training"), alive=True), at(2), LIMITS)
    assert (change.before.label, training.label) == ("lunch", "training")


settings = st.builds(
    Setting,
    st.builds(
        Rules,
        busy_at=st.none() | st.integers(1, 4),
        busy_when_full=st.booleans(),
        back_below=st.none() | st.integers(1, 4),
        away_after=st.none() | st.integers(1, 200).map(lambda n: timedelta(seconds=n)),
        rest_after_received=st.none() | st.integers(1, 3),
        rest_after=st.none() | st.integers(1, 300).map(lambda n: timedelta(seconds=n)),
        rest=st.none() | st.just(BREAK) | st.just(Label("rest", "offline")),
        warning=st.integers(0, 60).map(lambda n: timedelta(seconds=n)),
        at_shift_end=st.sampled_from(["stay", "offline"]),
    ),
    st.sampled_from(
        [
            (),
            (OFFICE,),
            (Calendar.parse({"time_zone": "America/Bogota", "weekly": {"saturday": [["19:30", "19:33"]]}}), OFFICE),
            (
                Calendar.parse(
                    {"time_zone": "Europe/Madrid", "weekly": {"sunday": [["01:31", "01:33"], ["01:34", "02:30"]]}}
                ),
            ),
        ]
    ),
)
inputs = st.one_of(
    st.builds(
        lambda state, until, sup, alive: Chosen(
            manual(state, None if until is None else at(until), "supervisor" if sup else "manual"), alive
        ),
        st.sampled_from(STATES),
        st.none() | st.integers(0, 400),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        lambda d, s, acted: Beat(d, at(s), None if acted is None else at(acted)),
        st.sampled_from("de"),
        st.integers(-100, 500),
        st.none() | st.integers(-100, 500),
    ),
    st.builds(Loaded, st.integers(0, 5), st.none() | st.integers(1, 5), st.integers(0, 2)),
    st.just(PutOff()),
    st.just(Looked()),
    st.builds(lambda d, s, out: Left(d, at(s), out), st.sampled_from("de"), st.integers(-100, 500), st.booleans()),
    st.just(SignedOut()),
    st.builds(Directory, st.booleans()),
    st.just(None),
)


@given(st.lists(st.tuples(inputs, st.integers(-5, 60)), max_size=60), settings)
def test_intervals_tile_time(steps, setting):
    """Whatever comes, in whatever order, with a clock that may even step back."""
    now = T0
    someone = newcomer("a", "acc", T0)
    history = [(_shown(someone), someone.since, None)]
    for step, seconds in steps:
        now += timedelta(seconds=seconds)
        if step is None:
            someone, change = tick(someone, now, now, LIMITS, setting)
        else:
            someone, change = apply(someone, step, now, LIMITS, setting)
        if change:
            assert _shown(change.before) != _shown(change.after)
            assert change.after.sequence == change.before.sequence + 1
            history[-1] = (*history[-1][:2], change.after.since)
            history.append((_shown(change.after), change.after.since, None))
        assert (_shown(someone), someone.since) == history[-1][:2]
        assert effective(someone, setting, now).state == someone.state
        following = deadline(someone, now, setting)
        assert following is None or following > now, "nothing that is over is waited for"
    for (shown, begin, end), (following, start, _) in itertools.pairwise(history):
        assert begin < end == start
        assert shown != following
    assert [end for *_, end in history].count(None) == 1
    assert someone.sequence == len(history) - 1


def _shown(someone: Agent):
    return someone.state, someone.label, someone.in_shift


@given(st.lists(st.tuples(inputs, st.integers(0, 60)), max_size=40), settings)
def test_between_deadlines_time_alone_changes_nothing(steps, setting):
    now = T0
    someone = newcomer("a", "acc", T0)
    for step, seconds in steps:
        now += timedelta(seconds=seconds)
        if step is None:
            someone, _ = tick(someone, now, now, LIMITS, setting)
        else:
            someone, _ = apply(someone, step, now, LIMITS, setting)
        following = deadline(someone, now, setting)
        moment = following - timedelta(microseconds=1) if following else now + timedelta(days=400)
        later, change = tick(someone, moment, moment, LIMITS, setting)
        assert change is None
        assert later.warned_at == someone.warned_at, "an agent is warned on time"


@given(st.integers(0, 10_000), settings, st.integers(0, 29))
def test_heartbeats_that_are_late_by_less_than_the_grace_never_flap(start, setting, late):
    """One device, beats every 15 s of which each may come late: connected throughout."""
    setting = Setting(calendars=setting.calendars)
    someone, _ = apply(agent(), Beat("d", at(start)), at(start), LIMITS, setting)
    now = at(start)
    beats = [
        (beat + (late if number % 3 else 0), beat) for number, beat in enumerate(range(start + 15, start + 300, 15))
    ]
    for arrives, beat in sorted(beats):
        while (following := deadline(someone, now, setting)) is not None and following <= at(arrives):
            now = following
            someone, _ = tick(someone, now, now, LIMITS, setting)
            assert someone.state == "available"
        now = at(arrives)
        someone, _ = apply(someone, Beat("d", at(beat)), now, LIMITS, setting)
        assert someone.state == "available"
