"""The reconciler of streams and service durables: the only code that makes or changes them.

``plan`` compares the catalogue with the broker; ``apply`` carries a plan out. Destructive changes (fewer
partitions, other subjects, shorter retention) are refused unless allowed. Durables of adapters are identity's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from relevo.contracts.catalogue import DURABLES, Durable
from relevo.contracts.streams import STREAMS, Stream

_SECOND = 1_000_000_000
_NOT_FOUND = {10059, 10014}

Action = Literal["create", "update", "unknown"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the catalogue and the broker. ``unknown``: the broker has it, the catalogue does not."""

    action: Action
    kind: Literal["stream", "consumer"]
    name: str
    details: tuple[str, ...] = ()
    destructive: bool = False


class DestructiveChange(Exception):
    """A change that could lose messages was asked for without allowing it."""


class Requester(Protocol):
    """What the reconciler needs of a connection (relevo.chassis.bus.Bus has it)."""

    async def request(self, subject: str, payload: dict[str, Any]) -> dict[str, Any]:
        """A JetStream API request; raises an exception with a ``code`` when refused."""
        ...


def stream_config(stream: Stream, replicas: int = 1) -> dict[str, Any]:
    """A stream as the broker shall hold it."""
    config: dict[str, Any] = {
        "name": stream.name,
        "description": stream.description,
        "subjects": [stream.published()],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "num_replicas": replicas,
        "max_age": int(stream.max_age.total_seconds()) * _SECOND,
        "max_bytes": stream.max_bytes,
        "duplicate_window": 120 * _SECOND,
        "allow_atomic": True,
    }
    if transform := stream.transform():
        config["subject_transform"] = {"src": transform[0], "dest": transform[1]}
    return config


def durable_config(durable: Durable) -> dict[str, Any]:
    """A service's durable as the broker shall hold it."""
    return {
        "durable_name": durable.name,
        "name": durable.name,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": durable.ack_wait_seconds * _SECOND,
        "max_deliver": durable.max_deliver,
        "max_ack_pending": durable.max_ack_pending,
        "filter_subject": durable.stream.published(),
        "replay_policy": "instant",
    }


def _differences(wanted: dict[str, Any], present: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{key}: {present.get(key)!r} → {value!r}"
        for key, value in wanted.items()
        if (present.get(key) or None) != (value or None)
    )


def _is_destructive(wanted: dict[str, Any], present: dict[str, Any]) -> bool:
    return (
        present.get("subjects") != wanted["subjects"]
        or present.get("retention") != wanted["retention"]
        or present.get("max_age", 0) > wanted["max_age"]
        or present.get("max_bytes", 0) > wanted["max_bytes"]
        or present.get("num_replicas", 1) > wanted["num_replicas"]
        or (present.get("subject_transform") or None) != wanted.get("subject_transform")
    )


async def _ask(bus: Requester, subject: str) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = await bus.request(subject, {})
    except Exception as error:
        if getattr(error, "code", 0) in _NOT_FOUND:
            return None
        raise
    return answer


async def plan(bus: Requester, *, replicas: int = 1, streams: Sequence[Stream] = STREAMS) -> list[Change]:
    """What ``apply`` would do, in order; empty when the broker is as the catalogue says."""
    changes: list[Change] = []
    for stream in streams:
        wanted = stream_config(stream, replicas)
        answer = await _ask(bus, f"$JS.API.STREAM.INFO.{stream.name}")
        if answer is None:
            changes.append(Change("create", "stream", stream.name, (", ".join(wanted["subjects"]),)))
        elif details := _differences(wanted, answer["config"]):
            changes.append(Change("update", "stream", stream.name, details, _is_destructive(wanted, answer["config"])))
    for durable in DURABLES:
        if durable.stream not in streams:
            continue
        answer = await _ask(bus, f"$JS.API.CONSUMER.INFO.{durable.stream.name}.{durable.name}")
        name = f"{durable.stream.name}/{durable.name}"
        if answer is None:
            changes.append(Change("create", "consumer", name, (durable.stream.published(),)))
        elif details := _differences(
            {k: v for k, v in durable_config(durable).items() if k != "name"}, answer["config"]
        ):
            changes.append(Change("update", "consumer", name, details))
    known = {stream.name for stream in streams}
    listed = await bus.request("$JS.API.STREAM.NAMES", {})
    changes += [
        Change("unknown", "stream", name, ("not in the catalogue; left alone",))
        for name in listed.get("streams") or []
        if name not in known and not name.startswith(("KV_", "OBJ_"))
    ]
    return changes


async def apply(
    bus: Requester, *, replicas: int = 1, allow_destructive: bool = False, streams: Sequence[Stream] = STREAMS
) -> list[Change]:
    """Make the broker as the catalogue says; answers what was done. Raises DestructiveChange before anything is touched."""
    changes = await plan(bus, replicas=replicas, streams=streams)
    refused = [change.name for change in changes if change.destructive]
    if refused and not allow_destructive:
        raise DestructiveChange(
            f"{', '.join(refused)}: this change could lose messages; look at `relevo topology plan`, then allow it with "
            "--allow-destructive"
        )
    by_name = {stream.name: stream for stream in streams}
    durables = {f"{durable.stream.name}/{durable.name}": durable for durable in DURABLES}
    for change in changes:
        if change.kind == "stream" and change.action != "unknown":
            verb = "CREATE" if change.action == "create" else "UPDATE"
            await bus.request(f"$JS.API.STREAM.{verb}.{change.name}", stream_config(by_name[change.name], replicas))
        elif change.kind == "consumer":
            durable = durables[change.name]
            await bus.request(
                f"$JS.API.CONSUMER.DURABLE.CREATE.{durable.stream.name}.{durable.name}",
                {"stream_name": durable.stream.name, "config": durable_config(durable)},
            )
    return changes
