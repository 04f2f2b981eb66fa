"""How long one will still wait: what the queue's pace says, and that nobody knows where it says nothing."""

from datetime import timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from relevo.assignment.domain.waits import LEAST, WINDOW, expected
from relevo.contracts.base import new_id

from .journals import T0


@given(st.integers(1, 500), st.floats(1, 300), st.integers(LEAST, 50))
def test_of_a_queue_that_is_served_every_so_often_the_wait_is_what_it_takes(place, pace, served):
    moments = [T0 + timedelta(seconds=n * pace) for n in range(served)]
    at = T0 + timedelta(seconds=served * pace)
    kept = [one for one in moments if one >= at - WINDOW]
    found = expected(place, moments, at=at, at_work=True)
    if len(kept) < LEAST:
        assert (found.seconds, found.unknown) == (None, "too_few_given")
    else:
        assert found.seconds == pytest.approx(place * pace)
        assert expected(place + 1, moments, at=at, at_work=True).seconds > found.seconds


@given(st.lists(st.integers(-4000, 100), max_size=20), st.booleans())
def test_nobody_knows_where_nothing_bears_it_out(seconds, at_work):
    moments = [T0 + timedelta(seconds=one) for one in seconds]
    found = expected(1, moments, at=T0, at_work=at_work)
    assert found.given == sum(-WINDOW.total_seconds() <= one <= 0 for one in seconds)
    known = at_work and found.given >= LEAST
    assert (found.seconds is None) == (not known)
    assert (found.unknown is None) == known
    assert not at_work or known or found.unknown == "too_few_given"


def test_a_queue_that_stands_still_slows_down():
    moments = [T0 + timedelta(seconds=n) for n in range(10)]
    soon, late = (expected(3, moments, at=T0 + timedelta(seconds=one), at_work=True).seconds for one in (10, 600))
    assert (soon, late) == (3.0, 180.0)


async def test_the_expected_wait_is_told_with_its_basis_or_that_nobody_knows(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    ana = await world.hire("Ana", state="away")
    await settled()
    await service.http.put(f"/routing/agents/{ana}/capacity", json={"capacity": 6}, headers=world.as_(boss))
    team = await world.team("Ventas")
    ones = [await world.open() for _ in range(8)]
    elsewhere = await world.open(team_id=team)
    await settled()

    async def wait(one, who=boss):
        return await service.http.get(f"/conversations/{one}/assignment/wait", headers=world.as_(who))

    told = (await wait(ones[7])).json()
    assert (told["place"], told["expected_seconds"], told["unknown"]) == (8, None, "nobody_at_work")
    await world.status(ana, "available")
    await settled()
    told = (await wait(ones[7])).json()
    assert (told["place"], told["given_lately"], told["unknown"]) == (2, 6, None)
    assert told["expected_seconds"] > 0
    assert (await wait(elsewhere)).json()["unknown"] == "nobody_at_work"
    given_ = await wait(ones[0])
    assert (given_.status_code, given_.json()["code"]) == (409, "not_waiting")
    assert (await wait(elsewhere, ana)).status_code == 404, "another team's"
    assert (await wait(new_id())).status_code == 404
