"""What conversations need of whoever gets them, and what agents can: skills by name, with levels from 1 to 5.

A rule may ask for less the longer one waits: its *ladder* begins with what it needs at first, and each ring after it, from so
many seconds of waiting on, needs less. So whoever fits goes on fitting, and the longer it waits the more people do.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints

from relevo.kernel.text import clean

HIGHEST_LEVEL: Final = 5
MOST_NEEDS: Final = 10
LONGEST_RING_SECONDS: Final = 30 * 86_400

SkillName = Annotated[
    str,
    AfterValidator(lambda name: " ".join(clean(name).casefold().split())),
    StringConstraints(min_length=1, max_length=50),
]
"""Names that differ in case or spaces alone are one."""
Level = Annotated[int, Field(ge=1, le=HIGHEST_LEVEL)]
Skills = Mapping[str, int]
"""Levels by names."""
Needs = tuple[tuple[str, int], ...]
"""The least levels by names, in the order of the names: equal needs are equal keys."""
Ladder = Sequence[tuple[int, Needs]]
"""From how many seconds of waiting on what is needed; the first from none on. Empty: nothing ever is."""


@dataclass(frozen=True, slots=True)
class Ring:
    """What is needed once one has waited for so long: less than before. Nothing: anybody will do."""

    after_seconds: Annotated[int, Field(ge=1, le=LONGEST_RING_SECONDS)]
    needs: Annotated[Mapping[SkillName, Level], Field(max_length=MOST_NEEDS)] = field(default_factory=dict)


def needs_of(levels: Skills) -> Needs:
    """Needs in the form that keys have."""
    return tuple(sorted(levels.items()))


def ladder(needs: Skills, rings: Iterable[Ring]) -> Ladder:
    """What is needed at first, and then in each ring."""
    if not needs:
        return ()
    return ((0, needs_of(needs)), *((ring.after_seconds, needs_of(ring.needs)) for ring in rings))


def needed(steps: Ladder, waited_seconds: float) -> Needs:
    """What is needed after so long a wait."""
    return next((needs for after, needs in reversed(steps) if after <= max(waited_seconds, 0)), ())


def next_ring(steps: Ladder, present: Needs) -> int | None:
    """After how many seconds of waiting less is needed than at present; None: never."""
    place = next((n for n, (_, needs) in enumerate(steps) if needs == present), None)
    return steps[place + 1][0] if place is not None and place + 1 < len(steps) else None


def lacking(skills: Skills, needs: Needs) -> Iterator[tuple[str, int, int]]:
    """What somebody lacks: the skill, the level that is needed, and theirs; 0: they have none."""
    for name, level in needs:
        if (has := skills.get(name, 0)) < level:
            yield name, level, has


def first_fault(needs: Skills, rings: Sequence[Ring]) -> tuple[str | int, ...] | None:
    """Where rings contradict themselves first: `needs` where nothing is needed at first; the `after_seconds` of a ring that is
    not later, or the `needs` of one that does not ask for less, than what is before it. None: nowhere.
    """
    if rings and not needs:
        return ("needs",)
    after, before = 0, needs
    for n, ring in enumerate(rings):
        if ring.after_seconds <= after:
            return "rings", n, "after_seconds"
        more = any(level > before.get(name, 0) for name, level in ring.needs.items())
        if more or dict(ring.needs) == dict(before):
            return "rings", n, "needs"
        after, before = ring.after_seconds, ring.needs
    return None


def said(needs: Iterable[tuple[str, int]]) -> str:
    """Skills and levels, the same in every language."""
    return ", ".join(f"{name} {level}" for name, level in needs)
