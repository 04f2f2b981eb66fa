"""How long loops rest: never longer than they worked, and nobody waits for an urgent one."""

from hypothesis import given
from hypothesis import strategies as st

from relevo.chassis.pacing import pause

sizes = st.integers(1, 500)
seconds = st.floats(0, 60)


@given(sizes, seconds, st.booleans())
def test_no_longer_than_the_round_nor_than_is_noticed(size, took, urgent):
    assert 0.0 <= pause(size, 500, took, urgent=urgent) <= min(took, 0.04)


@given(sizes, seconds)
def test_the_urgent_rest_less(size, took):
    assert pause(size, 500, took, urgent=True) <= pause(size, 500, took, urgent=False)


def test_a_single_message_of_a_flow_has_others_gather_unless_it_is_urgent():
    assert pause(1, 500, 0.02, urgent=False) == 0.02
    assert pause(1, 500, 0.02, urgent=True) < 0.002
    assert pause(250, 500, 0.02, urgent=False) == 0.0
