"""What one batch may hold twice."""

from hypothesis import given
from hypothesis import strategies as st

from relevo.chassis.positions import memory, unhandled
from relevo.chassis.received import Received
from relevo.chassis.wire import Delivery
from relevo.contracts.envelope import AGAIN, MESSAGE_ID
from relevo.contracts.streams import EVT_IDENTITY, EVT_PRESENCE, Stream

STREAMS = st.sampled_from([EVT_PRESENCE, EVT_IDENTITY])


def event(stream: Stream, number: int, seq: int, *, again: bool) -> Received:
    headers = {MESSAGE_ID: f"00000000-0000-7000-8000-{number:012d}"} | ({AGAIN: "1"} if again else {})
    return Received(stream, 0, Delivery("evt.any.0.a.b.c", "", b"{}", headers), seq, seq - 1, seq)


@given(
    st.lists(st.tuples(STREAMS, st.integers(1, 9), st.booleans()), max_size=20),
    st.sets(st.tuples(STREAMS, st.integers(1, 9))),
)
def test_nothing_known_comes_through_and_nothing_said_again_twice(
    drawn: list[tuple[Stream, int, bool]], handled: set[tuple[Stream, int]]
) -> None:
    """What another stream holds under the same id is another event: senders choose ids."""
    events = [event(stream, number, seq, again=again) for seq, (stream, number, again) in enumerate(drawn, start=1)]
    known = {memory(event(stream, number, 1, again=False)) for stream, number in handled}
    kept = unhandled(events, known)
    assert kept == [one for one in events if one in kept]
    for one in events:
        earlier = events[: events.index(one)]
        same = [(o.stream, o.message_id) for o in earlier]
        repeated = one.doubtful and (one.stream, one.message_id) in same
        handled_before = (one.stream, int(one.message_id[-12:])) in handled
        assert (one in kept) == (not handled_before and not repeated)
