"""What the services' own metrics say, added up for people: handled, published, lag, dead letters."""

from collections.abc import Iterable
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families


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


def parse(text: str) -> Figures:
    """The figures in a Prometheus exposition."""
    handled = lag = pending = dead = 0
    streams: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            value = int(sample.value) if sample.value == sample.value else 0
            if sample.name == "relevo_events_total":
                handled += value
            elif sample.name == "relevo_relayed_total":
                stream = sample.labels["stream"]
                streams[stream] = streams.get(stream, 0) + value
            elif sample.name == "relevo_lag_events":
                lag += value
            elif sample.name == "relevo_outbox_pending":
                pending += value
            elif sample.name == "relevo_dead_letters_total":
                dead += value
    return Figures(handled, sum(streams.values()), tuple(sorted(streams.items())), lag, pending, dead)


def read_all(ports: Iterable[tuple[str, int]]) -> dict[str, Figures]:
    """Figures by service, all its replicas added up."""
    found: dict[str, Figures] = {}
    with httpx.Client(timeout=1, trust_env=False) as client:
        for service, port in ports:
            figures = read(client, port)
            if figures is not None:
                found[service] = found[service] + figures if service in found else figures
    return found
