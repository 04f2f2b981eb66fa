"""What this service tells in the export of a whole account, and what it leaves out."""

from typing import Final

from relevo.chassis.exporting import Exported

EXPORTED: Final = Exported(
    tables={
        "facts": (),
        "rollup_day": (),
        "rollup_hour": (),
        "rollup_minute": (),
        "rollup_month": (),
    },
    left_out={
        "label_names": "a copy of what conversation tells",
    },
)
