"""The crash points that the sources have, and which service can die at which."""

import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CALL = re.compile(r"""crash_point\(\s*["']([^"']+)["']""")

Pair = tuple[str, str]
"""Service and crash point."""

_NO_TIMERS = "it schedules no timers"
_NO_CLOCKS = "the load's account has neither service levels nor alerts, whose timers these are"
_TIMERS = ("timers.before_commit", "timers.after_commit")
_NO_OUTBOX = "it writes outbox rows only for its own dead letters: what it says goes to the bus directly"
_RELAY = ("relay.before_publish", "relay.mid_batch", "relay.after_publish", "relay.after_mark")

IMPOSSIBLE: Mapping[Pair, str] = {
    **{
        (service, point): _NO_TIMERS
        for service in (
            "assignment",
            "channels",
            "identity",
            "ingest",
            "notification",
            "realtime",
            "reporting",
        )
        for point in _TIMERS
    },
    **{("automation", point): _NO_CLOCKS for point in _TIMERS},
    **{(service, point): _NO_OUTBOX for service in ("channels", "realtime") for point in _RELAY},
}
"""What cannot happen, and why. A sweep arms these too at its end: one that is passed after all is a fault."""


ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(
        ("archive.after_object", "archive.before_manifest", "archive.before_drop", "archive.after_drop"),
        "libs/chassis/tests/test_archive.py",
    ),
    **dict.fromkeys(
        (
            "rebuild.before_commit",
            "rebuild.before_exchange",
            "rebuild.before_exchange_commit",
            "rebuild.after_exchange",
        ),
        "libs/chassis/tests/test_history.py",
    ),
    **dict.fromkeys(("ingest.after_deferral", "ingest.after_admission"), "services/ingest/tests/test_fairness.py"),
    **dict.fromkeys(
        (
            "contacts_import.between_contacts_and_events",
            "contacts_import.before_commit",
            "contacts_import.after_commit",
        ),
        "services/conversation/tests/test_contacts_import.py",
    ),
    "conversations_import.between_conversations_and_messages": "services/conversation/tests/test_history.py",
    **dict.fromkeys(
        (
            "erasing.after_tables",
            "erasing.after_log",
            "erasing.after_segment",
            "erasing.after_manifest",
            "erasing.after_message",
            "erasing.after_object",
            "erasing.before_done",
        ),
        "libs/chassis/tests/test_erasing.py",
    ),
    **dict.fromkeys(
        (
            "dropping.before_files",
            "dropping.after_messages",
            "dropping.after_log",
            "dropping.after_segment",
            "dropping.before_tables",
            "dropping.before_objects",
            "dropping.before_done",
        ),
        "libs/chassis/tests/test_dropping.py",
    ),
    **dict.fromkeys(
        ("identity.account_closed", "identity.account_advanced"), "services/identity/tests/test_account_deletion.py"
    ),
    "webhooks.after_attempt": "libs/chassis/tests/test_webhooks.py",
    "pusher.after_attempt": "services/notification/tests/test_push.py",
    **dict.fromkeys(("reconcile.before_commit", "reconcile.after_commit"), "libs/chassis/tests/test_healing.py"),
}
"""Points that no message of the load passes (jobs that run once a day or when told to; the healing of a stream that lost
messages; several accounts of which one floods; endpoints of webhooks; devices that take pushes; accounts that end): point → the test that dies there."""


def services() -> list[str]:
    """Every service of the repository."""
    return sorted(path.parent.name for path in ROOT.glob("services/*/src/relevo/*/__main__.py"))


def points_in(folder: Path) -> set[str]:
    """The names that the code below a folder gives to `crash_point`."""
    return {name for file in folder.rglob("*.py") for name in _CALL.findall(file.read_text())}


def found() -> set[Pair]:
    """Every point of the chassis in every service, and every service's own; those of jobs apart."""
    common = points_in(ROOT / "libs" / "chassis" / "src") - ELSEWHERE.keys()
    own = {
        (service, point)
        for service in services()
        for point in points_in(ROOT / "services" / service / "src" / "relevo") - ELSEWHERE.keys()
    }
    return {(service, point) for service in services() for point in common} | own


def plan() -> list[Pair]:
    """What a whole sweep must hit."""
    return sorted(found() - IMPOSSIBLE.keys())
