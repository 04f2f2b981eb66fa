"""How long a loop that works in rounds lets more gather before the next."""

_SHARE = 1.0
_AT_MOST = 0.04
_FEW = 16


def pause(size: int, capacity: int, took: float, *, urgent: bool) -> float:
    """Seconds to wait after a round that took ``took`` seconds for ``size`` of at most ``capacity`` messages.

    A round costs much, a message in it little. What comes after a while of quiet is handled at once; in a flow every
    round is followed by a rest as long as itself, so that on a busy machine, where rounds take longer, they become fewer
    and larger by themselves. The rounds of an ``urgent`` service are what others wait for: it rests only as far as many
    messages come. A round that is half full waits for nothing.
    """
    if size * 2 >= capacity:
        return 0.0
    rest = min(_SHARE * took, _AT_MOST)
    return rest * min(size / _FEW, 1.0) if urgent else rest
