"""The service's own counters."""

from typing import Final

from prometheus_client import Counter

from relevo.chassis.telemetry import REGISTRY

IGNORED: Final = Counter(
    "relevo_conversation_ignored",
    "Events and commands that the state did not allow or that named nothing we have.",
    ("reason",),
    registry=REGISTRY,
)
SURVEYS: Final = Counter(
    "relevo_conversation_surveys", "Surveys that came due: sent, or why not.", ("outcome",), registry=REGISTRY
)
WITHHELD: Final = Counter(
    "relevo_conversation_withheld", "Messages of blocked contacts, kept out of conversations.", registry=REGISTRY
)
