"""What this service holds of people: who is in which webchat. What it passes on to sockets it reads from the streams."""

from typing import Final

from relevo.chassis.erasing import Held, Personal

PERSONAL: Final = Personal(
    held=(
        Held(
            "chats",
            ("visitor_id",),
            "account_id = cast(:account as uuid) and conversation_id = any(cast(:conversations as uuid[]))",
        ),
    ),
    plain={"socket_tickets": ("session_id", "sha256")},
)
