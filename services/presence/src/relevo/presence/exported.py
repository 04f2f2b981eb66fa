"""What this service tells in the export of a whole account, and what it leaves out."""

from typing import Final

from relevo.chassis.exporting import Exported

EXPORTED: Final = Exported(
    tables={
        "absences": (),
        "agent_status": (),
        "availability_policy": (),
        "named_statuses": (),
        "policy_acknowledged": (),
        "rules": (),
        "scheduled": (),
        "schedules": (),
        "status_history": (),
    },
    left_out={
        "devices": "what is open at this moment",
    },
)
