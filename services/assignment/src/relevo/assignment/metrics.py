"""The service's own counters."""

from typing import Final

from prometheus_client import Counter, Histogram

from relevo.chassis.telemetry import REGISTRY

DECISIONS: Final = Counter(
    "relevo_assignment_decisions", "Decisions, by what became of the conversation.", ("kind",), registry=REGISTRY
)
FAILED: Final = Counter("relevo_assignment_journal_failed", "Inputs that could not be decided on.", registry=REGISTRY)
_BOUNDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
RUN_SECONDS: Final = Histogram(
    "relevo_assignment_run_seconds",
    "Time to decide on one batch of a journal, with its commit.",
    buckets=_BOUNDS,
    registry=REGISTRY,
)
MATCHING_SECONDS: Final = Histogram(
    "relevo_assignment_matching_seconds",
    "Of that, the time to find who gets what: without what is read, written and committed.",
    buckets=_BOUNDS,
    registry=REGISTRY,
)
