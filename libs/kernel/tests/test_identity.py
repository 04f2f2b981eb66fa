import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.kernel.identity import (
    InvalidIdentity,
    email_or_none,
    normal_email,
    normal_phone,
    phone_or_none,
    sender_key,
)


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        (" Ana.Ruiz+web@Example.COM ", "ana.ruiz+web@example.com"),
        ("ana@MÜNCHEN.de", "ana@xn--mnchen-3ya.de"),
        ("ana@xn--mnchen-3ya.de", "ana@xn--mnchen-3ya.de"),
        ("ñandú@correo.cl", "ñandú@correo.cl"),
        ("ana@example.com.", "ana@example.com"),
        ("a\u202ena@example.com", "ana@example.com"),
    ],
)
def test_an_email_has_one_form(raw, normal):
    assert normal_email(raw) == normal
    assert normal_email(normal) == normal


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "ana",
        "ana@",
        "@x.com",
        "a b@x.com",
        "ana@localhost",
        "ana@1.2.3.4",
        "Ana <a@b.co>",
        "a@b@c.co",
        "a@-x.com",
        "a" * 65 + "@x.com",
        "a@" + "x" * 300 + ".com",
        "\x00@\x00",
        "a@x..com",
    ],
)
def test_what_is_no_email_is_refused_with_a_reason(raw):
    assert email_or_none(raw) is None
    with pytest.raises(InvalidIdentity) as refused:
        normal_email(raw)
    assert refused.value.field == "email"
    assert refused.value.reason
    assert refused.value.mend


@pytest.mark.parametrize(
    ("raw", "region", "normal"),
    [
        ("300 123 4567", "CO", "+573001234567"),
        ("300 123 4567", "co", "+573001234567"),
        ("+57 (300) 123-4567", None, "+573001234567"),
        ("+57 300 123 4567", "MX", "+573001234567"),
        ("0057 300 123 4567", None, "+573001234567"),
        ("tel:+57-300-123-4567", None, "+573001234567"),
        ("+573001234567;ext=5", None, "+573001234567"),
        ("+5215512345678", None, "+525512345678"),
        ("+525512345678", None, "+525512345678"),
        ("612 34 56 78", "ES", "+34612345678"),
        ("+1 555 010 0123", None, "+15550100123"),
    ],
)
def test_a_phone_has_one_form(raw, region, normal):
    assert normal_phone(raw, region) == normal
    assert normal_phone(normal) == normal


@pytest.mark.parametrize(
    "raw", ["", "hola", "+", "123", "3001234567", "+573001234567890123", "+999123456789", "\x00", "٣"]
)
def test_what_is_no_phone_is_refused_with_a_reason(raw):
    assert phone_or_none(raw) is None
    with pytest.raises(InvalidIdentity) as refused:
        normal_phone(raw)
    assert refused.value.field == "phone"
    assert refused.value.mend


@given(st.text(), st.sampled_from([None, "CO", "XX", "es"]))
def test_no_input_raises_anything_else(raw, region):
    phone_or_none(raw, region)
    email_or_none(raw)
    email_or_none(f"{raw}@{raw}.com")


@given(st.text(min_size=1))
def test_a_sender_key_follows_the_documented_rule_and_is_one_token(sender):
    key = sender_key(sender)
    assert re.fullmatch("[a-z2-7]{26}", key)
    digest = hashlib.blake2b(sender.encode("utf-8"), digest_size=16).digest()
    assert base64.b32decode(key.upper() + "======") == digest


def test_sender_keys_given_in_the_documentation():
    for line in re.findall(r"(\S+)\s+→ (\S+)", sender_key.__doc__):
        assert sender_key(line[0]) == line[1]


@pytest.mark.parametrize("sender", ["", "\ud800"])
def test_a_sender_without_id_is_refused(sender):
    with pytest.raises(InvalidIdentity):
        sender_key(sender)
