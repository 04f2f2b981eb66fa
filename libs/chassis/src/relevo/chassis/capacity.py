"""How full the streams are: measured and said before one is full, and what the relay does while one is.

A full stream refuses what is new; what its owners have to say waits in their outboxes, in order. It has room again when
messages grow too old for it, or when an operator gives it more.
"""

import time
from collections.abc import Iterable
from typing import Final

import structlog
from nats.errors import Error as NatsError

from relevo.chassis import telemetry
from relevo.chassis.bus import Bus, BusError
from relevo.chassis.topology import Fill
from relevo.contracts.catalogue import published_by, read_by
from relevo.contracts.streams import INBOUND

log = structlog.get_logger("relevo.capacity")

ALERT: Final = 0.8
"""A stream that is fuller is said to be filling; the line comes again only after it was below CALM."""
CALM: Final = 0.75
EVERY: Final = 30.0
REST: Final = 5.0
"""Seconds until a full stream is tried again."""
_FULL_CODE: Final = 10077


def mend(stream: str) -> str:
    """What an operator does about a stream that is full, or soon will be."""
    return f"give it more room with `relevo topology limits {stream}=SIZE`, or let it keep less with {stream}=/3d"


def says_full(error: BaseException) -> bool:
    """Whether the broker refused because the stream has no room."""
    return isinstance(error, BusError) and error.code == _FULL_CODE


class FullStreams:
    """The streams that had no room for what the relay brought, each said once; they are tried again after a while."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._tried: dict[str, float] = {}

    @property
    def refused(self) -> dict[str, str]:
        """By stream, for people."""
        return {
            stream: f"the stream is full: what this service has to say waits in its database, in order; {mend(stream)}"
            for stream in self._tried
        }

    def resting(self) -> list[str]:
        """Those that are not tried yet again."""
        now = time.monotonic()
        return [stream for stream, tried in self._tried.items() if now - tried < REST]

    def refuse(self, stream: str) -> None:
        """It had no room."""
        telemetry.RELAY_ERRORS.labels(self._service, stream).inc()
        if stream not in self._tried:
            log.error("stream_full", stream=stream, mend=mend(stream))
        self._tried[stream] = time.monotonic()

    def accept(self, stream: str) -> None:
        """It took something."""
        if self._tried.pop(stream, None) is not None:
            log.warning("stream_has_room", stream=stream)


class Capacity:
    """Measures the streams that one service fills."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._streams = list(published_by(bus.service))
        if INBOUND in read_by(bus.service):
            self._streams.append(INBOUND)  # adapters fill it, who tell nobody
        self._filling: set[str] = set()
        self._next = 0.0

    async def measure(self) -> None:
        """Refresh the gauges, when it is time; a stream that is missing is others' to say."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY
        fills = []
        for stream in self._streams:
            try:
                fills.append(Fill.of(await self._bus.stream_info(stream)))
            except (BusError, NatsError, TimeoutError, OSError) as error:
                log.debug("stream_not_measured", stream=stream.name, error=str(error))
        self.tell(fills)

    def tell(self, fills: Iterable[Fill]) -> None:
        """Set the gauges, and say once that a stream is filling."""
        for fill in fills:
            telemetry.STREAM_BYTES.labels(self._bus.service, fill.name).set(fill.held)
            telemetry.STREAM_LIMIT.labels(self._bus.service, fill.name).set(fill.limit)
            if fill.ratio < CALM:
                self._filling.discard(fill.name)
            elif fill.ratio >= ALERT and fill.name not in self._filling:
                self._filling.add(fill.name)
                log.warning(
                    "stream_filling",
                    stream=fill.name,
                    percent=round(100 * fill.ratio),
                    held=fill.held,
                    limit=fill.limit,
                    mend=mend(fill.name),
                )
