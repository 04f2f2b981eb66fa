from hypothesis import given
from hypothesis import strategies as st

from relevo.kernel.rate import Buckets


@given(st.lists(st.floats(0, 5), max_size=60))
def test_no_window_lets_more_through_than_burst_and_rate(gaps):
    buckets, clock, passed = Buckets(2, 5), 0.0, []
    for gap in gaps:
        clock += gap
        wait = buckets.take("k", clock)
        assert wait >= 0
        if not wait:
            passed.append(clock)
    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= 5 + 2 * (passed[last] - start) + 1e-6


def test_whoever_asks_too_much_is_slowed():
    buckets = Buckets(2, 3)
    assert [not buckets.take("k", at) for at in (0, 0, 0, 0, 0.4, 0.5, 0.6, 100, 100, 100, 100)] == [
        *(True, True, True, False, False, True, False),
        *(True, True, True, False),
    ]
