"""What this service tells in the export of a whole account, and what it leaves out."""

from typing import Final

from relevo.chassis.exporting import Exported

EXPORTED: Final = Exported(
    tables={
        "conflicts": ("dedup_key", "body_hash"),
        "inboxes": (),
        "quarantine": ("body", "fingerprint"),
        "senders": (),
    },
    left_out={
        "dead_letters_seen": "messages between services",
        "deferred": "what waits to be accepted",
        "ledger": "digests of what was accepted",
    },
)
