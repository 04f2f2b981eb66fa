"""What this service holds of people: what waits for webhooks. Rules are the team's words, executions name them."""

from typing import Final

from relevo.chassis import webhooks
from relevo.chassis.erasing import Personal

PERSONAL: Final = Personal(
    held=webhooks.HELD,
    plain={
        "rules": ("name", "trigger", "conditions", "actions", "inbox_ids", "updated_by", "schedule", "absence"),
        "rule_waits": ("run", "steps", "unless"),
        "out_of_hours": ("text_en", "text_es", "updated_by"),
        "offline_answers": ("text_en", "text_es", "updated_by"),
        "executions": ("rule_name", "event_type", "outcome", "actions"),
        "alerts": ("kind", "states"),
        "alert_statuses": ("state",),
        "sla_policies": ("conditions", "name", "terms", "updated_by"),
        "sla_courses": ("calendar_id", "course", "facts"),
        "sla_clocks": ("measure", "state"),
        **webhooks.PLAIN,
    },
)
