"""How long a loop that works in rounds lets more gather before the next."""

_SHARE = 1.0
_AT_MOST = 0.04
_FEW = 16


def pause(size: int, capacity: int, took: float) -> float:
    """Seconds to wait after a round that took ``took`` seconds for ``size`` of at most ``capacity`` messages.

    A round costs much, a message in it little. While few messages come, each is handled at once; when many do, rounds
    take longer, so they become fewer and larger by themselves. A round that is half full waits for nothing.
    """
    if size * 2 >= capacity:
        return 0.0
    return min(_SHARE * took, _AT_MOST) * min(size / _FEW, 1.0)
