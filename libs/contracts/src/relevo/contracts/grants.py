"""NATS permissions, derived from the catalogue: nobody gets more than their messages ask for."""

from dataclasses import dataclass

from relevo.contracts import streams
from relevo.contracts.catalogue import DURABLES, HOLDERS, SERVICES, published_by, read_by
from relevo.contracts.live import LIVE
from relevo.contracts.streams import Stream


@dataclass(frozen=True, slots=True)
class Grants:
    """What a NATS user may publish and subscribe to; nothing else is allowed."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox_prefix(name: str) -> str:
    """The prefix of a user's reply subjects; nobody else may listen there."""
    return f"_INBOX_{name}"


def poke_subject(service: str) -> str:
    """Core NATS: tells the service's other replicas that outbox rows wait."""
    return f"poke.{service}"


def load_subject(service: str) -> str:
    """Core NATS: how many seconds the service's oldest waiting event has waited. ``*``: of all services."""
    return f"load.{service}"


def history_ask(owner: str, reader: str) -> str:
    """Core NATS: `reader` asks `owner` for a page of its log. The broker vouches for who asks."""
    return f"history.ask.{owner}.{reader}"


def history_tell(reader: str, owner: str, question: str) -> str:
    """Core NATS: the answer to one question; nobody but that owner may publish it, nobody but that reader hear it."""
    return f"history.tell.{reader}.{owner}.{question}"


def owners_read_by(service: str) -> tuple[str, ...]:
    """The services whose logs a service may ask for: whoever publishes what it reads in order."""
    return tuple(
        dict.fromkeys(
            owner
            for messages in read_by(service).values()
            for message in messages
            for owner in message.publishers
            if owner in SERVICES and message.stream is not streams.INBOUND
        )
    )


def readers_of_log(service: str) -> tuple[str, ...]:
    """The services that may ask this one for its log."""
    return tuple(reader for reader in SERVICES if reader != service and service in owners_read_by(reader))


def _history(service: str) -> tuple[list[str], list[str]]:
    """What asking for others' logs, and telling one's own, needs: (publish, subscribe)."""
    owners = owners_read_by(service)
    readers = readers_of_log(service)
    publish = [history_ask(owner, service) for owner in owners if owner != service]
    publish += [history_tell(reader, service, "*") for reader in readers]
    subscribe = [history_tell(service, "*", "*")] if owners else []
    if readers:
        subscribe.append(history_ask(service, "*"))
    return publish, subscribe


KEEPERS: dict[str, str] = {
    "INBOUND": "ingest",
    "OUTBOUND": "conversation",
    "DEAD": "ingest",
} | {
    f"{kind}_{service.upper()}": service
    for kind in ("EVT", "CMD")
    for service in SERVICES
    if f"{kind}_{service.upper()}" in streams.BY_NAME
}
"""By stream, the one service that may delete messages of it, to erase a person: whoever writes it alone, or alone reads
it, and so could withhold or pass over its messages anyhow. METRICS and CMD_ERASURE have none: no message of theirs tells
of a person."""


def kept_by(service: str) -> tuple[Stream, ...]:
    """The streams of which a service may delete messages. Identity and presence hold nothing of contacts: none."""
    kept = (name for name, keeper in KEEPERS.items() if keeper == service)
    return tuple(streams.BY_NAME[name] for name in kept) if service in HOLDERS else ()


def swept_by(service: str) -> tuple[Stream, ...]:
    """Of those, the streams that other services fill: they are swept once the logs of all are done with a person."""
    return tuple(stream for stream in kept_by(service) if filled_by_others(stream))


CLEARED: dict[str, str] = KEEPERS | {"METRICS": "reporting", "CMD_ERASURE": "identity"}
"""By stream, the one service that deletes from it what was said of an account that is gone: its keeper. Who keeps facts
writes METRICS alone; identity, which tells everybody of the end, clears what is left of the erasing of people. What is said
in CMD_ACCOUNTS is of the platform."""


def cleared_by(service: str) -> tuple[Stream, ...]:
    """The streams from which a service deletes what was said of an account."""
    return tuple(streams.BY_NAME[name] for name, keeper in CLEARED.items() if keeper == service)


def filled_by_others(stream: Stream) -> bool:
    """Whether several services write into a stream: it is cleared once the logs of all are done with an account."""
    return stream.name.startswith(("CMD_", "DEAD"))


def _lookup(stream: Stream) -> list[str]:
    return [f"$JS.API.STREAM.INFO.{stream.name}", f"$JS.API.STREAM.MSG.GET.{stream.name}"]


def service_grants(service: str) -> Grants:
    """The permissions of a service's own user."""
    publish = ["$JS.API.INFO", poke_subject(service), load_subject(service)]
    looked_up: dict[str, Stream] = {}
    for stream, pattern in published_by(service).items():
        publish += [pattern, stream.fence(service, "*")]
        looked_up[stream.name] = stream
    for stream in read_by(service):
        looked_up[stream.name] = stream
        publish += [
            f"$JS.API.CONSUMER.CREATE.{stream.name}.>",
            f"$JS.API.CONSUMER.DELETE.{stream.name}.*",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream.name}.*",
        ]
    for durable in DURABLES:
        if durable.service == service:
            publish += [
                f"$JS.API.CONSUMER.INFO.{durable.stream.name}.{durable.name}",
                f"$JS.API.CONSUMER.MSG.NEXT.{durable.stream.name}.{durable.name}",
                f"$JS.ACK.{durable.stream.name}.{durable.name}.>",
            ]
    for stream in cleared_by(service):
        looked_up[stream.name] = stream
        publish.append(f"$JS.API.STREAM.MSG.DELETE.{stream.name}")
    for stream in looked_up.values():
        publish += _lookup(stream)
    if service == "identity":
        publish += _bus_access()
    asks, hears = _history(service)
    if service == "ingest":
        hears.append(load_subject("*"))
    asks += [live.subject("*") for live in LIVE if live.publisher == service]
    hears += [live.subject("*") for live in LIVE if live.listener == service]
    return Grants((*publish, *asks), (f"{inbox_prefix(service)}.>", poke_subject(service), *hears))


def _bus_access() -> list[str]:
    """Identity makes and removes the durables of the credentials that it issues."""
    return [
        f"$JS.API.CONSUMER.{verb}.{stream.name}.{rest}"
        for stream in (streams.OUTBOUND, streams.METRICS)
        for verb, rest in (("CREATE", ">"), ("DELETE", "*"), ("INFO", "*"))
    ]


def adapter_grants(account: str, inbox: str, credential: str) -> Grants:
    """An adapter's user: publishes for its inbox, takes its outbound messages from its own durable."""
    return Grants(
        (
            streams.INBOUND.published(account=account, inbox=inbox),
            f"$JS.API.CONSUMER.INFO.OUTBOUND.{credential}",
            f"$JS.API.CONSUMER.MSG.NEXT.OUTBOUND.{credential}",
            f"$JS.ACK.OUTBOUND.{credential}.>",
        ),
        (f"{inbox_prefix(credential)}.>",),
    )


def bot_grants(credential: str) -> Grants:
    """A bot's user: takes what it is told from its own durable, and publishes nothing; it answers over HTTP."""
    return Grants(
        (
            f"$JS.API.CONSUMER.INFO.OUTBOUND.{credential}",
            f"$JS.API.CONSUMER.MSG.NEXT.OUTBOUND.{credential}",
            f"$JS.ACK.OUTBOUND.{credential}.>",
        ),
        (f"{inbox_prefix(credential)}.>",),
    )


def metrics_grants(account: str, credential: str) -> Grants:
    """A metrics consumer's user: one consumer of its own over its account's metrics, from any time."""
    return Grants(
        (
            f"$JS.API.CONSUMER.CREATE.METRICS.{credential}.metrics.{account}.>",
            f"$JS.API.CONSUMER.DELETE.METRICS.{credential}",
            f"$JS.API.CONSUMER.INFO.METRICS.{credential}",
            f"$JS.API.CONSUMER.MSG.NEXT.METRICS.{credential}",
            f"$JS.ACK.METRICS.{credential}.>",
        ),
        (f"{inbox_prefix(credential)}.>",),
    )
