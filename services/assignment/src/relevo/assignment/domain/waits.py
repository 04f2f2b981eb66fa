"""How long a conversation will still wait, from how fast its queue was served lately.

By Little's law (J. D. C. Little, "A Proof for the Queuing Formula L = λW", Operations Research 9, 1961) who is at place
L of a queue from which λ a second are given waits L / λ, as long as things go on as they did. λ is what was given out
of the queue in the window, over the time since the first of it, so that a queue that has come to a halt slows down.
Where nothing bears that out, the answer is that nobody knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

WINDOW: Final = timedelta(minutes=30)
LEAST: Final = 5
"""So many must have been given in the window: of fewer nothing can be said."""

Unknown = Literal["nobody_at_work", "too_few_given"]


@dataclass(frozen=True, slots=True)
class Expected:
    """`seconds` None: unknown, and `unknown` says why. `given`: how many were given out of the queue in the window."""

    seconds: float | None
    unknown: Unknown | None
    given: int


def expected(place: int, given: Sequence[datetime], *, at: datetime, at_work: bool) -> Expected:
    """How long whoever is at this place, from 1, will still wait.

    `given`: when conversations were given out of its queue, in any order; `at_work`: whether anybody is there for it.
    """
    lately = [one for one in given if at - WINDOW <= one <= at]
    if not at_work:
        return Expected(None, "nobody_at_work", len(lately))
    if len(lately) < LEAST:
        return Expected(None, "too_few_given", len(lately))
    passed = (at - min(lately)).total_seconds()
    return Expected(place * passed / len(lately), None, len(lately))
