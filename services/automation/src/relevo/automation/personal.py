"""What this service holds of people: nothing of its own making. Rules are the team's words, executions name them."""

from typing import Final

from relevo.chassis.erasing import Personal

PERSONAL: Final = Personal(
    plain={
        "rules": ("name", "trigger", "conditions", "actions", "inbox_ids", "updated_by"),
        "out_of_hours": ("text_en", "text_es", "updated_by"),
        "offline_answers": ("text_en", "text_es", "updated_by"),
        "executions": ("rule_name", "event_type", "outcome", "actions"),
    }
)
