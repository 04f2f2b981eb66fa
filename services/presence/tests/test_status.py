"""Effective status: the precedence table, and that intervals tile time whatever comes in."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.presence.domain.status import (
    HTTP,
    Agent,
    Beat,
    Choice,
    Chosen,
    Directory,
    Input,
    Left,
    Limits,
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


def manual(state, until=None, cause="manual", actor="agent:a"):
    return Choice(state, until, actor, cause)


def agent(**fields) -> Agent:
    return replace(newcomer("a", "acc", T0), **fields)


@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("chosen", [None, *STATES])
@pytest.mark.parametrize("lapsed", [False, True])
def test_every_combination_follows_the_table(removed, connected, chosen, lapsed):
    choice = manual(chosen, at(-1) if lapsed else at(1)) if chosen else None
    someone = agent(removed=removed, devices=(("d", at(9)),) if connected else (), choice=choice, gone="expired")
    state, cause, _ = effective(someone, T0)
    in_force = chosen is not None and not lapsed
    if removed:
        assert (state, cause) == ("offline", "removed")
    elif in_force and chosen == "offline":
        assert (state, cause) == ("offline", "manual")
    elif not connected:
        assert (state, cause) == ("offline", "expired")
    elif in_force:
        assert (state, cause) == (chosen, "manual")
    else:
        assert (state, cause) == ("available", "connected")


def run(someone: Agent, *steps: tuple[float, Input]) -> Agent:
    for seconds, step in steps:
        someone, _ = apply(someone, step, at(seconds), LIMITS)
    return someone


def test_connected_agent_is_available_until_the_grace_after_the_last_heartbeat():
    someone = run(agent(), (1, Beat("d", at(1))), (16, Beat("d", at(16))))
    assert (someone.state, someone.cause) == ("available", "connected")
    assert deadline(someone) == at(61)
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
    assert deadline(run(agent(), (1, Beat("d", at(9999))))) == at(46)


def test_an_expiry_noticed_late_is_put_off_once():
    someone = run(agent(), (1, Beat("d", at(1))))
    held, change = tick(someone, at(600), at(46), LIMITS)
    assert change is None
    assert deadline(held) == at(645)
    assert tick(held, at(645), at(645), LIMITS)[0].state == "offline"


def test_a_choice_by_http_counts_as_connected_for_a_working_day():
    someone = run(agent(), (1, Chosen(manual("available"), alive=True)))
    assert (someone.state, someone.cause) == ("available", "manual")
    assert deadline(someone) == at(1) + LIMITS.http_grace
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
    assert deadline(someone) == at(10)
    after, _ = tick(someone, at(10), at(10), LIMITS)
    assert (after.state, after.cause, after.choice) == ("available", "connected", None)


def test_a_removed_agent_is_offline_whatever_comes():
    someone = run(agent(), (1, Beat("d", at(1))), (2, Directory(active=False)), (3, Beat("d", at(3))))
    assert (someone.state, someone.cause) == ("offline", "removed")
    assert run(someone, (4, Directory(active=True)), (5, Beat("d", at(5)))).state == "available"


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
    st.builds(lambda d, s: Beat(d, at(s)), st.sampled_from("de"), st.integers(-100, 500)),
    st.builds(lambda d, s, out: Left(d, at(s), out), st.sampled_from("de"), st.integers(-100, 500), st.booleans()),
    st.just(SignedOut()),
    st.builds(Directory, st.booleans()),
    st.just(None),
)


@given(st.lists(st.tuples(inputs, st.integers(-5, 60)), max_size=60))
def test_intervals_tile_time(steps):
    """Whatever comes, in whatever order, with a clock that may even step back."""
    now = T0
    someone = newcomer("a", "acc", T0)
    history = [(someone.state, someone.since, None)]
    for step, seconds in steps:
        now += timedelta(seconds=seconds)
        someone, change = tick(someone, now, now, LIMITS) if step is None else apply(someone, step, now, LIMITS)
        if change:
            assert change.before.state != change.after.state
            assert change.after.sequence == change.before.sequence + 1
            history[-1] = (*history[-1][:2], change.after.since)
            history.append((change.after.state, change.after.since, None))
        assert (someone.state, someone.since) == history[-1][:2]
        assert effective(someone, now)[0] == someone.state
        following = deadline(someone)
        assert following is None or following > now, "nothing that is over is waited for"
    for (state, begin, end), (following, start, _) in itertools.pairwise(history):
        assert begin < end == start
        assert state != following
    assert [end for *_, end in history].count(None) == 1
    assert someone.sequence == len(history) - 1


@given(st.lists(st.tuples(inputs, st.integers(0, 60)), max_size=40))
def test_between_deadlines_time_alone_changes_nothing(steps):
    now = T0
    someone = newcomer("a", "acc", T0)
    for step, seconds in steps:
        now += timedelta(seconds=seconds)
        someone, _ = tick(someone, now, now, LIMITS) if step is None else apply(someone, step, now, LIMITS)
        following = deadline(someone)
        moment = following - timedelta(microseconds=1) if following else now + timedelta(days=400)
        assert tick(someone, moment, moment, LIMITS)[1] is None
