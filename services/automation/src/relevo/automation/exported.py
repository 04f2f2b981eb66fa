"""What this service tells in the export of a whole account, and what it leaves out."""

from typing import Final

from relevo.chassis.exporting import Exported

EXPORTED: Final = Exported(
    tables={
        "alerts": (),
        "executions": (),
        "offline_answers": (),
        "out_of_hours": (),
        "rule_sets": (),
        "rule_waits": (),
        "rules": (),
        "sla_clocks": (),
        "sla_courses": (),
        "sla_policies": (),
        "webhook_endpoints": ("secret", "previous_secret"),
    },
    left_out={
        "agents_there": "a copy of what presence tells",
        "alert_statuses": "a copy of what presence tells",
        "alert_tellings": "what was told already",
        "label_names": "a copy of what conversation tells",
        "offline_answered": "whom was answered already",
        "out_of_hours_answers": "whom was answered already",
        "webhook_deliveries": "events on their way out, which their services tell",
        "webhook_lanes": "how far deliveries are",
    },
)
