"""Is the broker one that keeps what it acknowledges? Asked once, at the start, before anything is published.

The server's own settings are seen on its monitoring address only; those of the streams on the bus. With the default
`sync_interval` a power cut was shown to lose acknowledged messages and even a stream.
"""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import structlog

from relevo.chassis import topology
from relevo.chassis.bus import Bus, NoStream, UnsafeBroker
from relevo.chassis.outbox import MAX_BODY
from relevo.chassis.settings import ServiceSettings
from relevo.contracts.streams import Stream

log = structlog.get_logger("relevo.broker")

EXIT_CODE = 78
"""Configuration error (sysexits.h): to start again does not help."""
_SECONDS = 5.0
_HEADERS = 64 * 1024
_KEEPS = ("storage", "retention", "discard", "allow_atomic", "subject_transform")
"""What decides whether a stream keeps what it took, and where; its sizes are the operator's."""


async def check(bus: Bus, settings: ServiceSettings, streams: Iterable[Stream]) -> None:
    """Raises UnsafeBroker when the broker could lose what it acknowledged, TimeoutError or OSError when it does not tell.

    With ``allow_unsafe_broker`` the reason is logged instead. A stream that is missing is the readers' and the relay's to
    refuse.
    """
    faults = [fault async for fault in _stream_faults(bus, streams)]
    urls = [url.strip() for url in (settings.nats_monitor_url or "").split(",") if url.strip()]
    if not urls:
        faults.append(
            "nobody can tell whether the broker syncs to disk before it acknowledges: set RELEVO_NATS_MONITOR_URL to its "
            "monitoring address, such as http://nats:8222 (of a cluster: all, with commas)"
        )
    for url in urls:
        faults += [f"{url}: {fault}" for fault in server_faults(await asyncio.to_thread(_varz, url))]
    if not faults:
        return
    reason = "; ".join(faults)
    if not settings.allow_unsafe_broker:
        raise UnsafeBroker(f"{reason} (RELEVO_ALLOW_UNSAFE_BROKER=true starts all the same)")
    log.warning("unsafe_broker", reason=reason, mend="RELEVO_ALLOW_UNSAFE_BROKER is set: messages may be lost")


def server_faults(varz: Mapping[str, Any]) -> list[str]:
    """What is wrong with a server that describes itself like this (`/varz`), each with the mend."""
    config = (varz.get("jetstream") or {}).get("config")
    if not config:
        return ["JetStream is off; switch it on with a store_dir"]
    faults = []
    if not config.get("sync_always"):
        faults.append(
            "messages are acknowledged before they are on disk; set `sync_interval: always` in the server's jetstream block"
        )
    if not config.get("store_dir") or not config.get("max_storage"):
        faults.append("JetStream has no place on disk; set store_dir and max_file_store")
    if varz.get("max_payload", 0) < MAX_BODY + _HEADERS:
        faults.append(f"max_payload is {varz.get('max_payload')}, messages take up to {MAX_BODY + _HEADERS}; set 1MB")
    return faults


async def _stream_faults(bus: Bus, streams: Iterable[Stream]) -> AsyncIterator[str]:
    for stream in streams:
        try:
            present = (await bus.stream_info(stream))["config"]
        except NoStream:
            continue
        wanted = topology.stream_config(stream)
        wrong = [key for key in _KEEPS if (present.get(key) or None) != (wanted.get(key) or None)]
        least = MAX_BODY + _HEADERS
        if 0 < present.get("max_msg_size", -1) < least:
            wrong.append("max_msg_size")
        if wrong:
            yield f"stream {stream.name} has another {', '.join(wrong)} than the catalogue; see `relevo topology plan`"


def _varz(url: str) -> dict[str, Any]:
    # Without the proxies of the environment: the address is on our own network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url.rstrip('/')}/varz", timeout=_SECONDS) as answer:
            document: dict[str, Any] = json.load(answer)
    except (urllib.error.URLError, ValueError) as error:
        raise ConnectionError(f"the broker's monitoring address {url} does not answer: {error}") from None
    return document
