"""Passwords, attempts, refresh tokens, sealed keys: the rules, without I/O."""

from datetime import UTC, datetime, timedelta

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from relevo.chassis import sealing
from relevo.identity.domain import sign_in
from relevo.identity.domain.sign_in import Limit, Refresh
from relevo.identity.passwords import Passwords

T0 = datetime(2026, 3, 1, tzinfo=UTC)
MASTER = b"01234567890123456789012345678901"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@given(st.integers(1, 50), st.integers(1, 100), st.integers(0, 3600))
def test_one_attempt_too_many_waits_for_the_end_of_the_window(allowed, attempts, seconds):
    limit = Limit(allowed, timedelta(minutes=15))
    wait = sign_in.wait(limit, attempts, T0, T0 + timedelta(seconds=seconds))
    if attempts > allowed and seconds < 900:
        assert wait == timedelta(seconds=900 - seconds)
    else:
        assert wait is None


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("short", "password_too_short"),
        ("x" * 1025, "password_too_long"),
        ("Ana.Perez@Example.com", "password_is_the_address"),
        ("ana.perez2", None),
        ("ana.perez", "password_too_short"),
        ("correct horse", None),
        ("ñandú ñandú", None),
    ],
)
def test_passwords_are_judged_by_length_and_by_not_being_the_address(password, fault):
    assert sign_in.password_fault(password, email="ana.perez@example.com") == fault


def test_the_address_without_its_domain_is_no_password():
    assert sign_in.password_fault("averylongname", email="AVeryLongName@example.com") == "password_is_the_address"


moments = st.none() | st.integers(-10, 10).map(lambda s: T0 + timedelta(seconds=s))


@given(moments, st.integers(-10, 10), moments)
def test_a_refresh_token_is_good_once(used_at, expires, ended_at):
    expires_at = T0 + timedelta(seconds=expires)
    verdict = sign_in.judge_refresh(used_at=used_at, expires_at=expires_at, session_ended_at=ended_at, now=T0)
    if ended_at is not None:
        assert verdict is Refresh.REFUSE
    elif used_at is not None:
        assert verdict is Refresh.END_SESSION
    else:
        assert (verdict is Refresh.ROTATE) == (expires_at > T0)


@given(st.binary(), st.text(min_size=1, max_size=10))
def test_what_is_sealed_opens_with_its_key_and_label_only(plain, label):
    sealed = sealing.seal(MASTER, plain, label=label)
    assert sealing.unseal(MASTER, sealed, label=label) == plain
    assert len(plain) < 4 or plain not in sealed
    other = b"abcdefghijklmnopqrstuvwxyz012345"
    for key, name, text in (
        (other, label, sealed),
        (MASTER, label + "x", sealed),
        (MASTER, label, sealed[:-1] + b"?!"),
    ):
        with pytest.raises(sealing.InvalidTag):
            sealing.unseal(key, text, label=name)


async def test_a_password_verifies_against_its_own_hash_only():
    passwords = Passwords(CHEAP)
    kept = await passwords.hash("correct horse")
    assert "correct" not in kept
    assert await passwords.verify(kept, "correct horse")
    assert not await passwords.verify(kept, "correct horsE")
    assert not await passwords.verify("no hash", "correct horse")


async def test_an_unknown_address_costs_a_verification_and_never_passes():
    calls = []

    class Counting(PasswordHasher):
        def verify(self, hash, password):  # noqa: A002
            calls.append(hash)
            return super().verify(hash, password)

    passwords = Passwords(Counting(time_cost=1, memory_cost=8, parallelism=1))
    assert not await passwords.verify(None, "anything")
    assert len(calls) == 1
    assert calls[0].startswith("$argon2id$")
