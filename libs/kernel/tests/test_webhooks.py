"""Outgoing webhooks, decided: signatures as others compute them, and when there is another attempt."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.kernel.webhooks import Health, Outcome, Patience, answered, decide, secret, signature

AT = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
PATIENCE = Patience()
WELL = Health(0, None, AT)


def test_the_published_example_is_signed_as_published() -> None:
    """The example of the Standard Webhooks libraries."""
    found = signature(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_secret_signs() -> None:
    one, two = secret(bytes(32)), secret(b"x" * 32)
    assert signature([one, two], "i", 1, b"b").split(" ") == [signature([given], "i", 1, b"b") for given in (one, two)]


@pytest.mark.parametrize(
    ("status", "told", "wait"),
    [(429, "60", 60), (503, "7", 7), (429, "999999999", 86_400), (200, "60", 0), (429, "soon", 0), (429, "²", 0)],
)
def test_the_time_that_is_asked_for(status, told, wait) -> None:
    assert (answered(status, told).retry_after or timedelta()).total_seconds() == wait


@given(
    st.lists(st.tuples(st.sampled_from([None, 200, 302, 404, 429, 500]), st.integers(0, 7200)), max_size=60),
    st.floats(0, 1, exclude_max=True),
)
def test_whatever_comes_it_is_tried_again_in_bounds_until_it_is_taken_or_a_day_is_over(answers, luck) -> None:
    at, first, health = AT, AT, WELL
    for attempts, (status, later) in enumerate(answers, 1):
        outcome = Outcome(status=status, error=None if status else "gone away")
        verdict = decide(outcome, health, attempts=attempts, first_tried_at=first, at=at, patience=PATIENCE, luck=luck)
        after = verdict.health
        assert (verdict.state == "delivered") == outcome.taken
        if outcome.taken:
            assert after == Health(0, None, at)
            assert verdict.recovered == (health.failures >= PATIENCE.struggles_after)
            return
        assert after.failures == health.failures + 1
        assert after.failing_since == (health.failing_since or at)
        assert at <= after.next_at <= at + PATIENCE.probe
        assert (after.next_at > at) == after.struggles(PATIENCE)
        assert after.paused == (at - (health.failing_since or at) >= PATIENCE.give_up)
        if verdict.state == "failed":
            assert at - first >= PATIENCE.give_up
            assert not after.paused
            return
        assert at + 0.75 * PATIENCE.first <= verdict.next_at <= at + PATIENCE.longest
        assert after.paused or at - first < PATIENCE.give_up
        if after.paused:
            return
        health = after
        at = max(verdict.next_at, at + timedelta(seconds=later))


def test_waits_double_up_to_an_hour_and_are_spread() -> None:
    waits = []
    for attempts in range(1, 15):
        verdict = decide(
            Outcome(500), WELL, attempts=attempts, first_tried_at=AT, at=AT, patience=PATIENCE, luck=0.999999
        )
        waits.append(round((verdict.next_at - AT).total_seconds()))
    assert waits[:5] == [5, 10, 20, 40, 80]
    assert waits[-1] == 3600
    early, late = (
        decide(Outcome(500), WELL, attempts=9, first_tried_at=AT, at=AT, patience=PATIENCE, luck=luck).next_at
        for luck in (0.0, 0.9)
    )
    assert early < late


def test_one_that_is_gone_is_paused_at_once() -> None:
    verdict = decide(Outcome(410), WELL, attempts=1, first_tried_at=AT, at=AT, patience=PATIENCE, luck=0.5)
    assert verdict.health.paused
    assert verdict.state == "waiting"
