"""How long a loop that works in rounds lets more gather before the next."""

_SHARE = 3.0
_AT_MOST = 0.12


def pause(size: int, capacity: int, took: float) -> float:
    """Seconds to wait after a round that took ``took`` seconds for ``size`` of at most ``capacity`` messages.

    A round costs much, a message in it little. What comes after silence waits for nothing; on a busy machine rounds take
    longer, so they become fewer and larger by themselves. A round that is half full waits for nothing either.
    """
    return 0.0 if size * 2 >= capacity else min(_SHARE * took, _AT_MOST)
