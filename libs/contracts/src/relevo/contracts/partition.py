"""The broker's own partition function, for the writers that must know where a message will be stored."""

from functools import lru_cache

_OFFSET = 0x811C9DC5
_PRIME = 0x01000193
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=65536)
def partition(count: int, *tokens: str) -> int:
    """Equal to the server's ``{{partition(count,…)}}`` over the same subject tokens.

    32-bit FNV-1a of the concatenated tokens, modulo ``count`` (nats-server, ``subject_transform.go``).
    A contract test compares the two on a running server.
    """
    value = _OFFSET
    for byte in "".join(tokens).encode():
        value = ((value ^ byte) * _PRIME) & _MASK
    return value % count
