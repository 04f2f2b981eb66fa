"""Projections: tables that follow from the log alone, so that they can be thrown away and read again."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from relevo.chassis.database import Tx
from relevo.chassis.received import Received
from relevo.contracts.streams import Stream

Project = Callable[[Sequence[Received], Tx], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Projection:
    """Tables of a service and the handlers that write them, by stream.

    A handler here writes these tables and nothing else, emits nothing, and writes only what its events say: no present
    time, no new ids. The live consumer calls the same handler. What it writes of an entity must depend on that entity's
    own events alone, since partitions are read one after the other. ``tidy`` removes what has expired; live, it runs
    every hour.
    """

    name: str
    tables: tuple[str, ...]
    sources: Mapping[Stream, Project]
    tidy: Callable[[Tx], Awaitable[None]] | None = None
