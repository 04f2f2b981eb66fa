"""What this service holds of people: nothing. It is told of conversations, and keeps of them who holds them and why."""

from typing import Final

from relevo.chassis.erasing import Personal

PERSONAL: Final = Personal(
    plain={
        # The team's own people, words and settings; ids, codes, labels, languages and times of conversations.
        "pools": ("policy",),
        "agents": ("name", "skills", "state"),
        "agents_then": ("skills", "state"),
        "teams": ("name",),
        "stays": ("channel", "state"),
        "conversations_held": ("channel", "state", "reason", "facts", "needs", "rule"),
        "decisions": ("actor", "ended_offer", "excluded", "kind", "mode", "needs", "reason", "rule"),
        "journal": ("cause", "error", "kind", "payload"),
    }
)
