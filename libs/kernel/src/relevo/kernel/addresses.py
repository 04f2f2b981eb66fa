"""Where a request may go that somebody else named the address of: not into our own network."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

MAX_URL: Final = 2000
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_PORTS: Final = {"http": 80, "https": 443}


class BadAddress(ValueError):
    """An address that no request goes to; ``es`` and ``en`` say why and what would do."""

    def __init__(self, es: str, en: str) -> None:
        super().__init__(en)
        self.es = es
        self.en = en


@dataclass(frozen=True, slots=True)
class Target:
    """An address taken apart. ``host`` is in ASCII, ``path`` has the query with it, ``authority`` is what Host says."""

    scheme: str
    host: str
    port: int
    path: str
    authority: str


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, also when it is hidden within an IPv6 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        hidden = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if hidden is None and (ip in _NAT64 or int(ip) >> 32 == 0):  # ::a.b.c.d is IPv4 too, as it once was written
            hidden = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if hidden is not None:
            return is_public(str(hidden))
    return ip.is_global and not ip.is_multicast


def permitted(addresses: Sequence[str], *, allow_private: bool) -> list[str]:
    """Those of the addresses of a name that may be connected to, in their order."""
    return [one for one in dict.fromkeys(addresses) if allow_private or is_public(one)]


def target(url: str, *, allow_private: bool, allow_plain: bool) -> Target:
    """Take an address apart. Raises BadAddress for what no request goes to.

    ``allow_plain``: http will do. An IP address of a private network is refused here; what a name stands for is known
    only to who looks it up: see `permitted`.
    """
    if len(url) > MAX_URL or not url.isprintable() or " " in url:
        raise BadAddress(
            f"La dirección tiene más de {MAX_URL} caracteres, espacios o caracteres de control.",
            f"The address has more than {MAX_URL} characters, or spaces or control characters in it.",
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        ascii_host = host if host.isascii() else host.encode("idna").decode()
        path = parts.path.encode("ascii").decode() + (f"?{parts.query.encode('ascii').decode()}" if parts.query else "")
    except ValueError:  # UnicodeError is one
        raise BadAddress("No es una dirección válida.", "It is not a valid address.") from None
    schemes = ("https", "http") if allow_plain else ("https",)
    if parts.scheme not in schemes or not ascii_host or "@" in parts.netloc or parts.fragment:
        wanted = " / ".join(f"{scheme}://" for scheme in schemes)
        raise BadAddress(
            f"Escribe {wanted} y el servidor, sin usuario, contraseña ni «#».",
            f"Write {wanted} and the server, without user, password or `#`.",
        )
    try:
        ipaddress.ip_address(ascii_host.partition("%")[0])
        literal = True
    except ValueError:
        literal = False
    if literal and not permitted([ascii_host], allow_private=allow_private):
        raise private()
    named = f"[{ascii_host}]" if ":" in ascii_host else ascii_host
    port = port or _PORTS[parts.scheme]
    authority = named if port == _PORTS[parts.scheme] else f"{named}:{port}"
    return Target(parts.scheme, ascii_host, port, path or "/", authority)


def private() -> BadAddress:
    """The refusal of an address within a private network."""
    return BadAddress(
        "La dirección está en una red privada; el operador puede permitirlo con RELEVO_WEBHOOKS_ALLOW_PRIVATE=true.",
        "The address is within a private network; the operator may allow that: RELEVO_WEBHOOKS_ALLOW_PRIVATE=true.",
    )
