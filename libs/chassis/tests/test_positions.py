"""What one batch may hold twice."""

from hypothesis import given
from hypothesis import strategies as st

from relevo.chassis.positions import memory_id, unhandled
from relevo.chassis.received import Received
from relevo.chassis.wire import Delivery
from relevo.contracts.envelope import AGAIN, MESSAGE_ID
from relevo.contracts.streams import EVT_PRESENCE


def event(number: int, seq: int, *, again: bool) -> Received:
    headers = {MESSAGE_ID: f"00000000-0000-7000-8000-{number:012d}"} | ({AGAIN: "1"} if again else {})
    return Received(EVT_PRESENCE, 0, Delivery("evt.presence.0.a.b.c", "", b"{}", headers), seq, seq - 1, seq)


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=20), st.sets(st.integers(1, 9)))
def test_nothing_known_comes_through_and_nothing_said_again_twice(
    drawn: list[tuple[int, bool]], handled: set[int]
) -> None:
    events = [event(number, seq, again=again) for seq, (number, again) in enumerate(drawn, start=1)]
    known = {memory_id(event(number, 1, again=False)) for number in handled}
    kept = unhandled(events, known)
    assert kept == [one for one in events if one in kept]
    for one in events:
        earlier = events[: events.index(one)]
        repeated = one.doubtful and any(memory_id(other) == memory_id(one) for other in earlier)
        assert (one in kept) == (memory_id(one) not in known and not repeated)
