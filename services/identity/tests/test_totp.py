"""One-time codes: the vectors of the RFCs, and what counts."""

import base64
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.identity.domain import totp

RFC = b"12345678901234567890"
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_the_vectors_of_rfc_6238(seconds, code):
    assert totp.code(RFC, totp.step_of(datetime.fromtimestamp(seconds, UTC)), digits=8) == code


def test_the_vectors_of_rfc_4226():
    codes = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
    assert [totp.code(RFC, count) for count in range(10)] == codes


@given(st.binary(min_size=20, max_size=20), MOMENTS, st.integers(-4, 4))
def test_a_code_counts_a_step_early_or_late_and_no_more(secret, at, steps):
    there = totp.step_of(at) + steps
    found = totp.accepted(secret, totp.code(secret, there), at, last_step=0)
    near = range(totp.step_of(at) - 1, totp.step_of(at) + 2)
    assert (found is not None) == (totp.code(secret, there) in {totp.code(secret, step) for step in near})


@given(st.binary(min_size=20, max_size=20), MOMENTS)
def test_a_step_counts_once_and_none_before_it(secret, at):
    step = totp.accepted(secret, totp.code(secret, totp.step_of(at)), at, last_step=0)
    for later in (0, 10, 29):
        moment = at + timedelta(seconds=later)
        for used in (step, step - 1):
            again = totp.accepted(secret, totp.code(secret, used), moment, last_step=step)
            assert again is None or again > step  # by chance the same digits as a later step's


@given(st.text(max_size=30))
def test_whatever_is_typed_is_no_failure(typed):
    assert totp.accepted(RFC, typed, datetime(2026, 1, 1, tzinfo=UTC), last_step=2**62) is None
    totp.normal_recovery_code(typed)


def test_what_the_app_reads_names_the_account_and_the_secret():
    parts = urlsplit(totp.uri(RFC, "ana+x@example.com"))
    assert (parts.scheme, parts.netloc, unquote(parts.path)) == ("otpauth", "totp", "/Relevo:ana+x@example.com")
    assert base64.b32decode(parse_qs(parts.query)["secret"][0]) == RFC
    assert parse_qs(parts.query)["issuer"] == ["Relevo"]


def test_recovery_codes_differ_and_are_read_however_they_are_typed():
    codes = totp.new_recovery_codes()
    assert len(set(codes)) == totp.RECOVERY_CODES
    for code in codes:
        assert totp.normal_recovery_code(f" {code.lower()} ") == totp.normal_recovery_code(code)
        assert len(totp.normal_recovery_code(code)) == 16
