"""What this service holds of people: what it told the team of their conversations."""

from typing import Final

from relevo.chassis.erasing import Held, Personal

_OF_CONVERSATIONS: Final = """
    account_id = cast(:account as uuid) and conversation_id = any(cast(:conversations as uuid[])) and created_at <= :asked_at
"""

PERSONAL: Final = Personal(
    held=(
        Held("notifications", ("title", "body", "dedup_key"), _OF_CONVERSATIONS),
        Held(
            "mails",
            ("recipient", "subject", "body_text", "body_html", "dedup_key", "error", "file_name", "file"),
            _OF_CONVERSATIONS,
        ),
        Held("pushes", ("payload", "dedup_key", "error"), _OF_CONVERSATIONS),
    ),
    plain={
        # Of the team's own people: what they chose, their devices, their addresses.
        "account_preferences": ("kind",),
        "preferences": ("kind",),
        "push_subscriptions": ("device", "endpoint", "point", "secret"),
        "bounces": ("address", "reason"),
        "notifications": ("kind",),
        "mails": ("state",),
        "pushes": ("state", "topic"),
    },
)
