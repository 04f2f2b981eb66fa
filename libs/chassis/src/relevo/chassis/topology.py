"""The reconciler of streams and service durables: the only code that makes or changes them.

``plan`` compares the catalogue with the broker; ``apply`` carries a plan out. Destructive changes (fewer
partitions, other subjects) are refused unless allowed. How much a stream keeps is the operator's: it is chosen when the
stream is made (a share of the room that all have) and changed by ``limit`` alone. Durables of adapters are identity's.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from relevo.contracts.catalogue import DURABLES, Durable
from relevo.contracts.streams import STREAMS, Stream

_SECOND = 1_000_000_000
_NOT_FOUND = {10059, 10014}

_THROUGH, _SINCE = "relevo-heal-through", "relevo-heal-since"
_ALWAYS = datetime.fromtimestamp(0, UTC)
_SHORT_WINDOW = _SECOND // 10

ROOM = 64 * 1024**3
"""Bytes that all streams together may take where nobody says how much there is."""
LEAST_BYTES = 64 * 1024**2
"""No stream is made smaller than this: a few atomic batches must always fit."""
LEAST_AGE = timedelta(days=1)
_SIZES = ("max_bytes", "max_age")

_SHARES = sum(stream.share for stream in STREAMS)

Action = Literal["create", "update", "unknown"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the catalogue and the broker. ``unknown``: the broker has it, the catalogue does not."""

    action: Action
    kind: Literal["stream", "consumer"]
    name: str
    details: tuple[str, ...] = ()
    destructive: bool = False


@dataclass(frozen=True, slots=True)
class Healed:
    """A stream that may be filled again up to a sequence, and how it was found: missing (made), emptied, or partly so."""

    name: str
    found: Literal["made", "emptied", "partly"]
    through: int


@dataclass(frozen=True, slots=True)
class Fill:
    """How full a stream is; bytes as the broker counts them."""

    name: str
    held: int
    limit: int
    age: timedelta

    @property
    def ratio(self) -> float:
        """From 0 to 1; 0 of a stream without a limit."""
        return self.held / self.limit if self.limit > 0 else 0.0

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> "Fill":
        """As the broker describes a stream (``config`` and ``state``)."""
        config = info["config"]
        age = timedelta(microseconds=config.get("max_age", 0) / 1000)
        return cls(config["name"], info["state"]["bytes"], config.get("max_bytes", -1), age)


class BadLimit(ValueError):
    """A limit that a stream cannot have; the message says why and what can be done."""


class DestructiveChange(Exception):
    """A change that could lose messages was asked for without allowing it."""


@dataclass(frozen=True, slots=True)
class Healing:
    """An operator's word, kept with the stream: what it held up to ``through`` may be published into it again.

    Only rows written at or after ``since``. What is stored from then on has higher sequences, so that the word is used up by
    its use.
    """

    through: int = -1
    since: datetime = _ALWAYS

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Healing":
        """The word that a stream's configuration carries; none: nothing may."""
        metadata = config.get("metadata") or {}
        if _THROUGH not in metadata:
            return cls()
        return cls(int(metadata[_THROUGH]), datetime.fromisoformat(metadata[_SINCE]))

    def metadata(self) -> dict[str, str]:
        """As the configuration carries it."""
        return {_THROUGH: str(self.through), _SINCE: self.since.isoformat()}


class Requester(Protocol):
    """What the reconciler needs of a connection (relevo.chassis.bus.Bus has it)."""

    async def request(self, subject: str, payload: dict[str, Any]) -> dict[str, Any]:
        """A JetStream API request; raises an exception with a ``code`` when refused."""
        ...


def stream_config(stream: Stream, replicas: int = 1, room: int = ROOM) -> dict[str, Any]:
    """A stream as the broker shall hold it; its ``max_bytes`` are its share of the room."""
    config: dict[str, Any] = {
        "name": stream.name,
        "description": stream.description,
        "subjects": list(stream.subjects),
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "num_replicas": replicas,
        "max_age": int(stream.max_age.total_seconds()) * _SECOND,
        "max_bytes": max(room * stream.share // _SHARES, LEAST_BYTES),
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
        not set(present.get("subjects") or ()) <= set(wanted["subjects"])
        or present.get("retention") != wanted["retention"]
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


async def plan(
    bus: Requester, *, replicas: int = 1, streams: Sequence[Stream] = STREAMS, room: int = ROOM
) -> list[Change]:
    """What ``apply`` would do, in order; empty when the broker is as the catalogue says."""
    changes: list[Change] = []
    for stream in streams:
        answer = await _ask(bus, f"$JS.API.STREAM.INFO.{stream.name}")
        if answer is None:
            made = stream_config(stream, replicas, room)
            sizes = f"max_bytes: {made['max_bytes']}"
            changes.append(Change("create", "stream", stream.name, (", ".join(made["subjects"]), sizes)))
            continue
        wanted = _kept(stream, replicas)
        if details := _differences(wanted, answer["config"]):
            changes.append(Change("update", "stream", stream.name, details, _is_destructive(wanted, answer["config"])))
    known = {stream.name for stream in streams}
    for durable in DURABLES:
        if durable.stream.name not in known:
            continue
        answer = await _ask(bus, f"$JS.API.CONSUMER.INFO.{durable.stream.name}.{durable.name}")
        name = f"{durable.stream.name}/{durable.name}"
        if answer is None:
            changes.append(Change("create", "consumer", name, (durable.stream.published(),)))
        elif details := _differences(
            {k: v for k, v in durable_config(durable).items() if k != "name"}, answer["config"]
        ):
            changes.append(Change("update", "consumer", name, details))
    listed = await bus.request("$JS.API.STREAM.NAMES", {})
    changes += [
        Change("unknown", "stream", name, ("not in the catalogue; left alone",))
        for name in listed.get("streams") or []
        if name not in known and not name.startswith(("KV_", "OBJ_"))
    ]
    return changes


async def apply(
    bus: Requester,
    *,
    replicas: int = 1,
    allow_destructive: bool = False,
    streams: Sequence[Stream] = STREAMS,
    room: int = ROOM,
) -> list[Change]:
    """Make the broker as the catalogue says; answers what was done. Raises DestructiveChange before anything is touched."""
    changes = await plan(bus, replicas=replicas, streams=streams, room=room)
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
            stream = by_name[change.name]
            if change.action == "create":
                await bus.request(f"$JS.API.STREAM.CREATE.{change.name}", stream_config(stream, replicas, room))
            else:
                await _update(bus, change.name, _kept(stream, replicas))
        elif change.kind == "consumer":
            durable = durables[change.name]
            await bus.request(
                f"$JS.API.CONSUMER.DURABLE.CREATE.{durable.stream.name}.{durable.name}",
                {"stream_name": durable.stream.name, "config": durable_config(durable)},
            )
    return changes


async def heal(
    bus: Requester,
    names: Sequence[str],
    *,
    replicas: int = 1,
    since: datetime | None = None,
    streams: Sequence[Stream] = STREAMS,
    room: int = ROOM,
) -> list[Healed]:
    """Make lost streams again, and let their owners publish into them what they held; answers what was done.

    ``names`` are catalogue streams. One that is missing is made, and numbered on from beyond all that it ever had; of one
    that was emptied, and of the emptied lanes of any other, the owners may fill up what was stored up to now, in so far as
    its rows were written at or after ``since``. Idempotent; dying anywhere leaves what doing it again mends.
    """
    by_name = {stream.name: stream for stream in streams}
    word = since or _ALWAYS
    done = []
    for name in names:
        answer = await _ask(bus, f"$JS.API.STREAM.INFO.{name}")
        # Milliseconds: more than any stream can have had messages, and more at each time.
        beyond = int(time.time() * 1000)
        if answer is None:
            word_of = Healing(beyond - 1, word)
            await bus.request(
                f"$JS.API.STREAM.CREATE.{name}",
                stream_config(by_name[name], replicas, room) | {"first_seq": beyond, "metadata": word_of.metadata()},
            )
            done.append(Healed(name, "made", word_of.through))
            continue
        state = answer["state"]
        # The broker still folds by ids that it no longer holds.
        await _update(bus, name, {"duplicate_window": _SHORT_WINDOW})
        if not state["last_seq"]:
            await bus.request(f"$JS.API.STREAM.PURGE.{name}", {"seq": beyond})
            state = (await bus.request(f"$JS.API.STREAM.INFO.{name}", {}))["state"]
        await asyncio.sleep(3 * _SHORT_WINDOW / _SECOND)
        word_of = Healing(state["last_seq"], word)
        await _update(bus, name, _kept(by_name[name], replicas) | {"metadata": word_of.metadata()})
        done.append(Healed(name, "emptied" if not state["messages"] else "partly", word_of.through))
    await apply(bus, replicas=replicas, streams=streams, room=room)
    return done


async def lost(bus: Requester, streams: Sequence[Stream] = STREAMS) -> list[str]:
    """The catalogue's streams that are missing or hold nothing; one that was never used is among them, and no harm."""
    found = []
    for stream in streams:
        answer = await _ask(bus, f"$JS.API.STREAM.INFO.{stream.name}")
        if answer is None or not answer["state"]["messages"]:
            found.append(stream.name)
    return found


async def fills(bus: Requester, streams: Sequence[Stream] = STREAMS) -> list[Fill]:
    """How full the catalogue's streams are; those that are missing are left out."""
    answers = [await _ask(bus, f"$JS.API.STREAM.INFO.{stream.name}") for stream in streams]
    return [Fill.of(answer) for answer in answers if answer is not None]


async def limit(
    bus: Requester, stream: Stream, *, max_bytes: int | None = None, max_age: timedelta | None = None
) -> tuple[Fill, Fill]:
    """Change how much a stream keeps, while everything runs; answers how full it was and is.

    Raises BadLimit: more bytes are held than the new limit allows (the broker would throw away the oldest), or the age is
    beyond what owners' logs and memories of what was handled are made for; BusError when the broker has no such stream.
    """
    info = await bus.request(f"$JS.API.STREAM.INFO.{stream.name}", {})
    before = Fill.of(info)
    if max_bytes is not None and max_bytes < max(before.held, LEAST_BYTES):
        raise BadLimit(
            f"{stream.name} holds {before.held} bytes, no stream has less than {LEAST_BYTES}: {max_bytes} is too little; "
            "give more, or a shorter age, and wait until it holds less"
        )
    if max_age is not None and not min(LEAST_AGE, stream.max_age) <= max_age <= stream.max_age:
        raise BadLimit(
            f"{stream.name} keeps messages from {_days(min(LEAST_AGE, stream.max_age))} to {_days(stream.max_age)} days"
        )
    changes: dict[str, Any] = {}
    if max_bytes is not None:
        changes["max_bytes"] = max_bytes
    if max_age is not None:
        changes["max_age"] = int(max_age.total_seconds()) * _SECOND
    await _update(bus, stream.name, changes)
    return before, Fill.of(await bus.request(f"$JS.API.STREAM.INFO.{stream.name}", {}))


def _days(age: timedelta) -> str:
    return f"{age / timedelta(days=1):g}"


def _kept(stream: Stream, replicas: int) -> dict[str, Any]:
    """What an existing stream shall be like; its sizes stay as they are."""
    return {key: value for key, value in stream_config(stream, replicas).items() if key not in _SIZES}


async def _update(bus: Requester, name: str, changes: dict[str, Any]) -> None:
    """Change some of a stream's configuration; the rest stays, an operator's word among it."""
    config = (await bus.request(f"$JS.API.STREAM.INFO.{name}", {}))["config"]
    metadata = (config.get("metadata") or {}) | changes.get("metadata", {})
    own = {key: value for key, value in metadata.items() if not key.startswith("_nats.")}
    await bus.request(f"$JS.API.STREAM.UPDATE.{name}", config | changes | {"metadata": own})
