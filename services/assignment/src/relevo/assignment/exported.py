"""What this service tells in the export of a whole account, and what it leaves out."""

from typing import Final

from relevo.chassis.exporting import Exported

EXPORTED: Final = Exported(
    tables={
        "agents": (),
        "conversations_held": (),
        "decisions": (),
        "pools": (),
        "stays": (),
        "teams": (),
    },
    left_out={
        "agents_then": "what decisions are explained by",
        "conversation_facts": "a copy of what conversation tells",
        "journal": "what waits to be decided",
    },
)
