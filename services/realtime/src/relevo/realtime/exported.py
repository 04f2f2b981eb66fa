"""What this service tells in the export of a whole account, and what it leaves out."""

from typing import Final

from relevo.chassis.exporting import Exported

EXPORTED: Final = Exported(
    left_out={
        "chats": "a copy of what conversation tells",
        "conversation_facts": "a copy of what conversation tells",
        "socket_tickets": "secret",
    },
)
