"""When something that waited is left out, and when it was, as its reader says."""

from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.notification.domain import texts
from relevo.notification.domain.deciding import KINDS, Choice, chosen
from relevo.notification.domain.delivering import Standing, backoff, obstacle

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (Standing(), None),
        (Standing(useless_after=NOW + timedelta(seconds=1)), None),
        (Standing(useless_after=NOW), "too late"),
        (Standing(reader=False), "not there any more"),
        (Standing(seen=True), "read meanwhile"),
        (Standing(sees=False), "may not see"),
        (Standing(refused="550"), "refused before: 550"),
    ],
)
def test_what_stands_in_the_way(standing, reason):
    found = obstacle(standing, NOW)
    assert found is None if reason is None else reason in found


@given(st.floats(0.01, 3600), st.integers(1, 1000))
def test_pauses_grow_up_to_an_hour(first, attempts):
    pauses = [backoff(timedelta(seconds=first), attempt) for attempt in (attempts, attempts + 1)]
    assert timedelta(0) < pauses[0] <= pauses[1] <= timedelta(hours=1)


def test_a_moment_is_told_in_the_readers_zone_and_language():
    assert texts.local(NOW, "Europe/Madrid", "es") == "22 nov 2026, 13:00 (Europe/Madrid)"
    assert texts.local(NOW, "America/Bogota", "en") == "22 Nov 2026, 07:00 (America/Bogota)"
    assert texts.local(NOW, "Nowhere/Atall", "en") == "22 Nov 2026, 12:00 (UTC)"


@given(st.datetimes(timezones=st.just(UTC)), st.sampled_from(sorted(available_timezones())))
def test_every_zone_can_be_told(at, zone):
    if datetime(2, 1, 1, tzinfo=UTC) < at < datetime(9998, 1, 1, tzinfo=UTC):
        assert zone in texts.local(at, zone, "es")


@given(st.sampled_from([*KINDS, "weather"]), st.booleans(), st.booleans())
def test_own_choice_before_the_accounts_before_the_usual(kind, own, accounts):
    known = kind if kind in KINDS else "alert"
    choices = {}
    if accounts:
        choices["acc", known] = Choice(in_app=False, email=True, push=False)
    if own:
        choices["me", known] = Choice(in_app=True, email=True, push=False)
    choices["other", known] = Choice(in_app=False, email=False, push=False)
    expected = choices.get(("me", known)) or choices.get(("acc", known)) or Choice()
    assert chosen(choices, "acc", "me", kind) == expected
