"""Which of the things known about an agent decides their status: the first that applies.

`ROWS` is the table for people. That the function is what the table says is proven by going through every combination, and
docs/presence.md is written from that proof.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Final

from relevo.contracts.presence import PresenceCause, RoutingState
from relevo.presence.domain.rules import Label

_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was set by hand, in force while `now < until` (None: until changed). `label`: the named status, if one."""

    state: RoutingState
    until: datetime | None
    actor: str
    cause: PresenceCause
    at: datetime
    label: str | None = None

    def in_force(self, now: datetime) -> bool:
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Known:
    """All that decides, at one moment."""

    agent_id: str
    removed: bool = False
    choice: Choice | None = None
    """In force, or None."""
    connected: bool = True
    gone: PresenceCause = "expired"
    sent_home: bool = False
    """Their shift ended while they were at work, the account ends work then, and nobody has chosen otherwise since."""
    rest: Label | None = None
    """The break that they are to take."""
    crowded: bool = False
    open: int = 0
    limit: int | None = None
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Effective:
    """The status, and why: `open` of `limit` conversations where that is the reason."""

    state: RoutingState
    cause: PresenceCause
    actor: str
    label: str | None = None
    open: int | None = None
    limit: int | None = None


def effective_of(known: Known) -> Effective:
    """The status: the first row of the table that applies."""
    choice = known.choice
    if known.removed:
        return Effective("offline", "removed", "system")
    if choice is not None and choice.state == "offline":
        return Effective("offline", choice.cause, choice.actor, choice.label)
    if not known.connected:
        return Effective("offline", known.gone, "system")
    if known.sent_home:
        return Effective("offline", "shift_over", "system")
    if choice is not None and choice.state != "available":
        return Effective(choice.state, choice.cause, choice.actor, choice.label)
    if known.rest is not None:
        return Effective(known.rest.state, "break", "system", known.rest.id)
    if known.crowded:
        return Effective("busy", "capacity", "system", open=known.open, limit=known.limit)
    if known.idle:
        return Effective("away", "idle", "system")
    if choice is not None:
        return Effective("available", choice.cause, choice.actor, choice.label)
    return Effective("available", "connected", f"agent:{known.agent_id}")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: when it applies, what the status is then, and why, in both languages."""

    applies: Callable[[Known], bool]
    es: str
    en: str
    state_es: str
    state_en: str
    state: Callable[[Known], RoutingState]
    causes: frozenset[PresenceCause]


def _chosen(known: Known) -> RoutingState | None:
    return None if known.choice is None else known.choice.state


_BY_HAND: Final = frozenset[PresenceCause]({"manual", "supervisor"})
_GONE: Final = frozenset[PresenceCause]({"sign_out", "disconnected", "expired", "initial"})

ROWS: Final = (
    Row(
        lambda known: known.removed,
        "la persona fue eliminada o desactivada",
        "the agent was removed or deactivated",
        "desconectado",
        "offline",
        lambda _: "offline",
        frozenset({"removed"}),
    ),
    Row(
        lambda known: _chosen(known) == "offline",
        "alguien eligió «desconectado» y sigue vigente",
        "somebody chose `offline`, and it is in force",
        "desconectado",
        "offline",
        lambda _: "offline",
        _BY_HAND,
    ),
    Row(
        lambda known: not known.connected,
        "ningún dispositivo está conectado",
        "no device is connected",
        "desconectado",
        "offline",
        lambda _: "offline",
        _GONE,
    ),
    Row(
        lambda known: known.sent_home,
        "su turno terminó, la cuenta cierra entonces y nadie eligió otra cosa después",
        "their shift ended, the account ends work then, and nobody chose otherwise since",
        "desconectado",
        "offline",
        lambda _: "offline",
        frozenset({"shift_over"}),
    ),
    Row(
        lambda known: _chosen(known) in ("busy", "away"),
        "alguien eligió «ocupado» o «ausente», o un estado con nombre de ese tipo",
        "somebody chose `busy` or `away`, or a named status of that kind",
        "lo elegido",
        "as chosen",
        lambda known: known.choice.state if known.choice else "offline",
        _BY_HAND,
    ),
    Row(
        lambda known: known.rest is not None,
        "le toca un descanso",
        "a break is due",
        "el del descanso",
        "the break's",
        lambda known: known.rest.state if known.rest else "offline",
        frozenset({"break"}),
    ),
    Row(
        lambda known: known.crowded,
        "tiene demasiadas conversaciones abiertas",
        "they hold too many open conversations",
        "ocupado",
        "busy",
        lambda _: "busy",
        frozenset({"capacity"}),
    ),
    Row(
        lambda known: known.idle,
        "nadie toca sus dispositivos desde hace rato",
        "nobody has touched their devices for a while",
        "ausente",
        "away",
        lambda _: "away",
        frozenset({"idle"}),
    ),
    Row(
        lambda known: _chosen(known) == "available",
        "alguien eligió «disponible», o un estado con nombre de ese tipo",
        "somebody chose `available`, or a named status of that kind",
        "disponible",
        "available",
        lambda _: "available",
        _BY_HAND,
    ),
    Row(
        lambda _: True,
        "está conectado y no se eligió nada",
        "connected, and nothing chosen",
        "disponible",
        "available",
        lambda _: "available",
        frozenset({"connected"}),
    ),
)


def combinations() -> Iterator[Known]:
    """Every combination of what decides."""
    states: tuple[RoutingState | None, ...] = (None, "available", "busy", "away", "offline")
    choices = [
        None if state is None else Choice(state, _SOME_DAY + timedelta(days=1), "agent:a", cause, _SOME_DAY, label)
        for state in states
        for cause in (("manual", "supervisor") if state else ("manual",))
        for label in ((None, "lunch") if state else (None,))
    ]
    rests = (None, Label("rest", "away"), Label("rest", "busy"), Label("rest", "offline"))
    flags = (False, True)
    for removed, choice, connected, gone, sent_home, rest, crowded, idle in product(
        flags, choices, flags, sorted(_GONE), flags, rests, flags, flags
    ):
        yield Known(
            "a",
            removed=removed,
            choice=choice,
            connected=connected,
            gone=gone,
            sent_home=sent_home,
            rest=rest,
            crowded=crowded,
            open=8,
            limit=8,
            idle=idle,
        )


def table() -> list[tuple[Row, int, list[PresenceCause]]]:
    """The rows, each with how many of the combinations it decides and the causes that were seen there.

    Raises AssertionError where the function says anything but the first row that applies, or a row decides nothing.
    """
    seen: dict[int, tuple[int, set[PresenceCause]]] = dict.fromkeys(range(len(ROWS)), (0, set()))
    for known in combinations():
        number, row = next((number, row) for number, row in enumerate(ROWS) if row.applies(known))
        found = effective_of(known)
        if found.state != row.state(known) or found.cause not in row.causes:
            raise AssertionError(f"row {number + 1} of the precedence table does not hold for {known}: {found}")
        many, causes = seen[number]
        seen[number] = (many + 1, causes | {found.cause})
    if idle := [number + 1 for number, (many, _) in seen.items() if not many]:
        raise AssertionError(f"rows {idle} of the precedence table decide nothing")
    return [(row, *_sorted(seen[number])) for number, row in enumerate(ROWS)]


def _sorted(found: tuple[int, set[PresenceCause]]) -> tuple[int, list[PresenceCause]]:
    return found[0], sorted(found[1])
