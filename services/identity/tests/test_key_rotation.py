"""Signing keys take one another's place, and nobody notices."""

from datetime import UTC, datetime, timedelta

import jwt
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.chassis.auth import Authenticator
from relevo.chassis.problems import Problem
from relevo.contracts.base import now
from relevo.contracts.identity import PLATFORM
from relevo.identity import signing
from relevo.identity.domain.key_rotation import ANNOUNCED, MARGIN, REMEMBERED, Key, plan, signer

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = timedelta(minutes=15)


@given(
    st.lists(st.integers(1, 4000), min_size=1, max_size=60),
    st.integers(1, 60).map(lambda days: timedelta(days=days)),
)
def test_however_seldom_one_looks_every_token_is_accepted_for_its_life_and_keys_do_not_pile_up(steps, lifetime):
    keys: dict[str, Key] = {}
    tokens: list[tuple[str, datetime]] = []
    at, made = BEGAN, 0
    for minutes in (0, *steps):
        at += timedelta(minutes=minutes)
        due = plan(list(keys.values()), at, lifetime=lifetime, token=TOKEN)
        if due.make:
            made += 1
            keys[f"k{made}"] = Key(f"k{made}", at)
        for id_ in due.retire:
            keys[id_] = Key(id_, keys[id_].created_at, due.retire_at)
        for id_ in due.forget:
            del keys[id_]
        present = signer(list(keys.values()), at)
        assert present is not None
        # Known everywhere before it signs, but for the first, which nobody could have waited for.
        assert present == "k1" or at - keys[present].created_at >= ANNOUNCED
        tokens = [(key, until) for key, until in [*tokens, (present, at + TOKEN)] if until > at]
        for key, until in tokens:
            assert key in keys
            assert keys[key].not_after is None or keys[key].not_after >= until
        assert sum(key.not_after is None for key in keys.values()) <= 2


@pytest.mark.asyncio(loop_scope="module")
async def test_a_new_key_is_announced_takes_over_and_the_old_one_is_accepted_until_its_tokens_are_over(account):
    runtime = account.service.runtime

    async def turn(at):
        async with runtime.database.begin(PLATFORM) as tx:
            await signing.turn(tx, runtime.settings, at)
        await account.service.settle()

    def age(key, by):
        with psycopg.connect(account.service.dsn) as connection:
            connection.execute("update signing_keys set created_at = created_at - %s where id = %s", [by, key])

    async def token():
        return await account.signed_in(account.admin_email)

    def key_of(given):
        return jwt.get_unverified_header(given)["kid"]

    def published():
        with psycopg.connect(account.service.dsn) as connection:
            rows = connection.execute(
                "select id, deleted, state ->> 'not_after' from directory where kind = 'signing_key'"
            ).fetchall()
        return {row[0]: row[1:] for row in rows}

    before = await token()
    old = key_of(before)
    await turn(now())
    assert set(published()) == {old}
    age(old, timedelta(days=runtime.settings.signing_key_days))
    await turn(now())
    await turn(now())
    (new,) = set(published()) - {old}
    assert key_of(await token()) == old  # announced, and not yet signing
    age(new, ANNOUNCED)
    assert key_of(await token()) == new
    retired_at = now()
    await turn(retired_at)
    deleted, not_after = published()[old]
    assert not deleted
    life = timedelta(seconds=runtime.settings.access_token_seconds)
    assert abs(datetime.fromisoformat(not_after) - (retired_at + life + MARGIN)) < timedelta(seconds=5)
    for given_token in (before, await token()):
        assert (await Authenticator(runtime.database).authenticate(given_token)).id == account.admin_id

    await turn(retired_at + life + MARGIN + REMEMBERED + timedelta(seconds=1))
    assert published()[old][0]
    with psycopg.connect(account.service.dsn) as connection:
        assert connection.execute("select count(*) from signing_keys").fetchone() == (1,)
    with pytest.raises(Problem, match="401"):
        await Authenticator(runtime.database).authenticate(before)
    assert key_of(await token()) == new
