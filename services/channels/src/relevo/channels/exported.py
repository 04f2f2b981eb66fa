"""What this service tells in the export of a whole account, and what it leaves out."""

from typing import Final

from relevo.chassis.exporting import Exported

EXPORTED: Final = Exported(
    tables={
        "deliveries": (),
        "webchat_messages": (),
    },
    left_out={
        "reports": "what waits to be said to adapters",
        "webhook_secrets": "secret",
    },
)
