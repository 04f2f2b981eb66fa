"""Where a webhook may go: not into our own network."""

import ipaddress
from collections.abc import Sequence
from typing import Final

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, also when it is hidden within an IPv6 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        hidden = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if hidden is None and ip in _NAT64:
            hidden = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if hidden is not None:
            return is_public(str(hidden))
    return ip.is_global and not ip.is_multicast


def choose(addresses: Sequence[str], *, allow_private: bool) -> str | None:
    """The address to connect to; None when none of them may be."""
    return next((one for one in addresses if allow_private or is_public(one)), None)
