"""What the services' own metrics say, added up for people: handled, published, lag, dead letters."""

import socket
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

_RELAYED = "relevo_relayed_total"
_WANTED = (
    "relevo_events_total",
    _RELAYED,
    "relevo_lag_events",
    "relevo_outbox_pending",
    "relevo_dead_letters_total",
)


@dataclass(frozen=True, slots=True)
class Figures:
    """One replica's counters since it started; ``lag`` and ``pending`` are what waits now."""

    handled: int = 0
    published: int = 0
    published_by_stream: tuple[tuple[str, int], ...] = ()
    lag: int = 0
    pending: int = 0
    dead_letters: int = 0

    def __add__(self, other: "Figures") -> "Figures":
        streams = dict(self.published_by_stream)
        for stream, count in other.published_by_stream:
            streams[stream] = streams.get(stream, 0) + count
        return Figures(
            self.handled + other.handled,
            self.published + other.published,
            tuple(sorted(streams.items())),
            self.lag + other.lag,
            # Every replica counts the same outbox.
            max(self.pending, other.pending),
            self.dead_letters + other.dead_letters,
        )

    def published_on(self, stream: str) -> int:
        """How many messages were published on one stream."""
        return dict(self.published_by_stream).get(stream, 0)


def read(client: httpx.Client, port: int) -> Figures | None:
    """One replica's figures, None while it does not answer."""
    try:
        text = client.get(f"http://127.0.0.1:{port}/metrics").text
    except httpx.HTTPError:
        return None
    return parse(text)


def ended(port: int) -> bool:
    """Whether nobody is there any more: the connection is refused. One that only takes its time is there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def parse(text: str) -> Figures:
    """The figures in a Prometheus exposition; the few lines wanted are picked by name, every second for every process."""
    totals = dict.fromkeys(_WANTED, 0)
    streams: dict[str, int] = {}
    for line in text.splitlines():
        if not line.startswith("relevo_"):
            continue
        name, _, rest = line.partition("{")
        if name not in totals:
            continue
        labels, _, number = rest.rpartition("} ")
        value = int(float(number)) if number != "NaN" else 0
        totals[name] += value
        if name == _RELAYED:
            stream = labels.partition('stream="')[2].partition('"')[0]
            streams[stream] = streams.get(stream, 0) + value
    return Figures(
        handled=totals["relevo_events_total"],
        published=totals[_RELAYED],
        published_by_stream=tuple(sorted(streams.items())),
        lag=totals["relevo_lag_events"],
        pending=totals["relevo_outbox_pending"],
        dead_letters=totals["relevo_dead_letters_total"],
    )


def read_all(ports: Iterable[tuple[str, int]]) -> dict[str, Figures]:
    """Figures by service, all its replicas added up."""
    found: dict[str, Figures] = {}
    with httpx.Client(timeout=1, trust_env=False) as client:
        for service, port in ports:
            figures = read(client, port)
            if figures is not None:
                found[service] = found[service] + figures if service in found else figures
    return found
