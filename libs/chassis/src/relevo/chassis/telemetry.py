"""Prometheus metrics in one registry, and W3C trace context.

Labels are bounded: service, stream, partition, outcome, route template; never an id, a subject or a path as asked.
Spans exist only when an OpenTelemetry SDK is configured; the trace context is carried on in any case.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

REGISTRY: Final = CollectorRegistry(auto_describe=False)
ProcessCollector(registry=REGISTRY)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

EVENTS: Final = Counter(
    "relevo_events",
    "Events that the service's readers finished; outcome: handled, known (handled before the stream was lost), dead, parked.",
    ("service", "stream", "outcome"),
    registry=REGISTRY,
)
BATCH_SIZE: Final = Histogram(
    "relevo_batch_events",
    "Events of one handled batch, of all streams that the service reads.",
    ("service",),
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
    registry=REGISTRY,
)
HANDLE_SECONDS: Final = Histogram(
    "relevo_handle_seconds",
    "From the first statement of a batch's transaction to its commit.",
    ("service",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
LAG: Final = Gauge(
    "relevo_lag_events",
    "Last stream sequence of the partition less the committed position; only partitions that this replica holds.",
    ("service", "stream", "partition"),
    registry=REGISTRY,
)
CAS_LOST: Final = Counter(
    "relevo_positions_lost",
    "Batches rolled back because another replica had moved the position.",
    ("service", "stream"),
    registry=REGISTRY,
)
REWINDS: Final = Counter(
    "relevo_rewinds",
    "Partitions read again because the stream no longer held what was handled.",
    ("service", "stream"),
    registry=REGISTRY,
)
LEASES: Final = Gauge("relevo_leases", "Partition leases that this replica holds.", ("service",), registry=REGISTRY)
OUTBOX_PENDING: Final = Gauge(
    "relevo_outbox_pending", "Outbox rows not yet published.", ("service",), registry=REGISTRY
)
OUTBOX_OLDEST: Final = Gauge(
    "relevo_outbox_oldest_seconds", "Age of the oldest outbox row not yet published.", ("service",), registry=REGISTRY
)
RELAYED: Final = Counter("relevo_relayed", "Outbox rows published.", ("service", "stream"), registry=REGISTRY)
RELAY_BATCH: Final = Histogram(
    "relevo_relay_batch_events",
    "Outbox rows of one published batch.",
    ("service",),
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
    registry=REGISTRY,
)
REOPENED: Final = Counter(
    "relevo_reopened",
    "Outbox rows to be published again, since the stream lost them.",
    ("service", "stream"),
    registry=REGISTRY,
)
RELAY_ERRORS: Final = Counter(
    "relevo_relay_errors", "Publishes that were refused or not answered.", ("service", "stream"), registry=REGISTRY
)
STREAM_BYTES: Final = Gauge(
    "relevo_stream_bytes", "What the stream holds, as the broker counts it.", ("service", "stream"), registry=REGISTRY
)
STREAM_LIMIT: Final = Gauge(
    "relevo_stream_limit_bytes",
    "What the stream may hold; beyond it refuses what is new.",
    ("service", "stream"),
    registry=REGISTRY,
)
DEAD_LETTERS: Final = Counter(
    "relevo_dead_letters", "Events that the service gave up on.", ("service", "stream"), registry=REGISTRY
)
ARCHIVED_ROWS: Final = Counter(
    "relevo_archived_rows", "Outbox rows moved to the object store.", ("service",), registry=REGISTRY
)
ARCHIVE_OVERDUE: Final = Gauge(
    "relevo_archive_overdue_seconds",
    "For how long the oldest outbox day that is still here should have been archived.",
    ("service",),
    registry=REGISTRY,
)
HISTORY_READ: Final = Counter(
    "relevo_history_events",
    "Events read from owners' logs, for want of them in the stream.",
    ("service", "stream"),
    registry=REGISTRY,
)
PERMISSION_VIOLATIONS: Final = Counter(
    "relevo_bus_permission_violations",
    "Refusals by the broker for want of a permission.",
    ("service",),
    registry=REGISTRY,
)
TIMERS: Final = Counter(
    "relevo_timers",
    "Timers that came due; outcome: handled, failed.",
    ("service", "kind", "outcome"),
    registry=REGISTRY,
)
HTTP_REQUESTS: Final = Counter(
    "relevo_http_requests", "Answered requests.", ("service", "method", "route", "status"), registry=REGISTRY
)
HTTP_SECONDS: Final = Histogram(
    "relevo_http_seconds",
    "From the request's headers to the last byte of the answer.",
    ("service", "method", "route"),
    buckets=_SECONDS,
    registry=REGISTRY,
)
LOOP_LAG: Final = Gauge("relevo_loop_lag_seconds", "How late the event loop ran its last heartbeat.", registry=REGISTRY)

_TRACEPARENT = re.compile(r"^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")
_current: ContextVar[str] = ContextVar("relevo_traceparent", default="")


def new_traceparent() -> str:
    """The W3C traceparent of a new trace. It is flagged as not sampled: whoever has an SDK decides by itself."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def child_traceparent(parent: str | None) -> str:
    """A new span id in the parent's trace; a new trace when there is no readable parent."""
    if not parent or not _TRACEPARENT.match(parent):
        return new_traceparent()
    return f"{parent[:36]}{secrets.token_hex(8)}{parent[52:]}"


def current_traceparent() -> str:
    """The traceparent of what is being done now, or "" outside any request or batch."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    return _current.get()


def trace_id(traceparent: str) -> str:
    """The trace id within a traceparent, or ""."""
    return traceparent[3:35]


@contextmanager
def span(name: str, parent: str | None = None) -> Iterator[str]:
    """Do something as a child of `parent`; yields its traceparent, which `current_traceparent` gives meanwhile.

    The name is a template, never with an id. Without an SDK nothing is recorded, the context is carried all the same.
    """
    own = child_traceparent(parent or current_traceparent())
    token = _current.set(own)
    try:
        if _recording():
            carrier = {"traceparent": parent} if parent else {}
            context = TraceContextTextMapPropagator().extract(carrier) if carrier else None
            with trace.get_tracer("relevo").start_as_current_span(name, context=context):
                yield current_traceparent()
        else:
            yield own
    finally:
        _current.reset(token)


def _recording() -> bool:
    # Until an SDK is configured the API answers with its proxy, whose spans are no-ops: not worth their price.
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider)
