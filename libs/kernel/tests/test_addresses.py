"""Where requests may go that others name the address of."""

import pytest

from relevo.kernel import addresses


@pytest.mark.parametrize(
    "private",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.9.9",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "224.0.0.1",
        "ff0e::1",
        "::127.0.0.1",
    ],
)
def test_private_addresses_are_refused(private):
    assert not addresses.is_public(private)
    assert addresses.permitted([private], allow_private=False) == []
    assert addresses.permitted([private, "1.1.1.1"], allow_private=False) == ["1.1.1.1"]
    assert addresses.permitted([private], allow_private=True) == [private]


@pytest.mark.parametrize("public", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_pass(public):
    assert addresses.is_public(public)


@pytest.mark.parametrize(
    "bad",
    [
        "ftp://example.org/",
        "http://example.org/",
        "https://",
        "https:///path",
        "//example.org/",
        "https://user:secret@example.org/",
        "https://example.org/#part",
        "https://example.org:99999/",
        "https://exa mple.org/",
        "https://example.org/\r\nX-Evil: 1",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/latest",
        "https://10.1.2.3:8443/",
        "https://[fe80::1%25eth0]/",
        "https://example.org/" + "a" * 2000,
        "https://example.org/ñ",
    ],
)
def test_what_no_request_goes_to(bad: str) -> None:
    with pytest.raises(addresses.BadAddress) as refused:
        addresses.target(bad, allow_private=False, allow_plain=False)
    assert refused.value.es
    assert refused.value.en


def test_an_address_taken_apart() -> None:
    found = addresses.target("https://Example.ORG/a/b?c=%20d", allow_private=False, allow_plain=False)
    assert found == addresses.Target("https", "example.org", 443, "/a/b?c=%20d", "example.org")
    found = addresses.target("https://ñandú.example:8443", allow_private=False, allow_plain=False)
    assert found == addresses.Target("https", "xn--and-6ma2c.example", 8443, "/", "xn--and-6ma2c.example:8443")
    found = addresses.target("http://[::1]:81/x", allow_private=True, allow_plain=True)
    assert found == addresses.Target("http", "::1", 81, "/x", "[::1]:81")
