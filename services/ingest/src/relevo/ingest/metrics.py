"""The service's own counters."""

import math
from typing import Final

from prometheus_client import Counter, Gauge

from relevo.chassis.telemetry import REGISTRY

DEFERRED: Final = Gauge(
    "relevo_ingest_deferred",
    "Inbound messages that wait their turn, of the partitions that this replica holds.",
    registry=REGISTRY,
)
DEFERRALS: Final = Counter(
    "relevo_ingest_deferrals",
    "Inbound messages that had to wait, since their account brought too many.",
    registry=REGISTRY,
)
ADMISSIONS: Final = Counter(
    "relevo_ingest_admissions", "Inbound messages that came in after waiting.", registry=REGISTRY
)
LEVEL: Final = Gauge(
    "relevo_ingest_level",
    "Messages a second that every account may bring while services fall behind; +Inf: as many as it likes.",
    registry=REGISTRY,
)
LEVEL.set(math.inf)
