"""What this service tells in the export of a whole account, and what it leaves out."""

from typing import Final

from relevo.chassis.exporting import Exported

EXPORTED: Final = Exported(
    tables={
        "account_preferences": (),
        "bounces": (),
        "notifications": (),
        "preferences": (),
    },
    left_out={
        "conversation_facts": "a copy of what conversation tells",
        "erased_conversations": "ids of what was erased",
        "mails": "they hold links that let people in",
        "push_subscriptions": "secret",
        "pushes": "what notifications say",
    },
)
