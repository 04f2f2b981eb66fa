"""What channels decide."""

import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.channels.domain import outcome, signing
from relevo.channels.domain.languages import preferred_language
from relevo.chassis import sealing

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ANA = signing.Visitor("v", "a", "i", "Ana", int((NOON + timedelta(days=1)).timestamp()))


def test_signatures_are_what_the_docs_say():
    signed = signing.signature([b"new", b"old"], 1700000000, b'{"a":1}')
    want = [hmac.new(secret, b'1700000000.{"a":1}', hashlib.sha256).hexdigest() for secret in (b"new", b"old")]
    assert signed == f"v1={want[0]},v1={want[1]}"


def test_visitor_tokens():
    token = signing.visitor_token(b"k" * 32, ANA)
    assert signing.read_visitor_token(b"k" * 32, token, "i", NOON) == ANA
    assert signing.read_visitor_token(b"x" * 32, token, "i", NOON) is None
    assert signing.read_visitor_token(b"k" * 32, token, "other", NOON) is None
    assert signing.read_visitor_token(b"k" * 32, token, "i", NOON + timedelta(days=2)) is None
    forged = signing.visitor_token(b"x" * 32, replace(ANA, id="w")).split(".")[0]
    assert signing.read_visitor_token(b"k" * 32, f"{forged}.{token.split('.')[1]}", "i", NOON) is None


@given(st.text())
def test_no_text_is_a_token_or_an_error(text):
    assert signing.read_visitor_token(b"k" * 32, text, "i", NOON) is None


def test_what_is_sealed_opens_with_the_same_key_and_label_only():
    sealed = sealing.seal(b"k" * 32, b"secret", label="one")
    assert sealing.unseal(b"k" * 32, sealed, label="one") == b"secret"
    with pytest.raises(sealing.InvalidTag):
        sealing.unseal(b"k" * 32, sealed, label="two")


@pytest.mark.parametrize(("status", "permanent"), [(400, True), (302, True), (429, False), (500, False), (408, False)])
def test_failures(status, permanent):
    read = outcome.of_answer(status, "7", None)
    assert isinstance(read, outcome.Failed)
    assert read.permanent is permanent
    assert read.retry_after == timedelta(seconds=7)


def test_successes():
    assert outcome.of_answer(204, None, None) == outcome.Sent()
    told = {"status": "delivered", "external_id": "x"}
    assert outcome.of_answer(200, None, told) == outcome.Sent("delivered", "x")
    assert outcome.of_answer(200, None, {"status": 7, "external_id": ["x"]}) == outcome.Sent()


@given(st.integers(1, 10_000), st.floats(0.01, 3600))
def test_delays_grow_to_an_hour(attempts, first):
    wait = outcome.delay(attempts, timedelta(seconds=first), None)
    assert wait <= outcome.delay(attempts + 1, timedelta(seconds=first), None) <= timedelta(hours=1)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("es-CO,es;q=0.9,en;q=0.8", "es-CO"),
        ("en;q=0.5, es", "es"),
        ("de;q=0.7,fr;q=0.7", "de"),
        ("*", None),
        ("", None),
        ("es;q=0", None),
        ("<script>, pt-BR ; q = 0.3", "pt-BR"),
        ("x" * 100_000, None),
        ("es;q=9", None),
    ],
)
def test_the_language_that_a_browser_prefers(header, language):
    assert preferred_language(header) == language


@given(st.text(max_size=200))
def test_whatever_a_browser_sends_is_a_language_or_none(header):
    found = preferred_language(header)
    assert found is None or found in header
