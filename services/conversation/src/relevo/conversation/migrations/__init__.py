"""The schema's history, and its door through the wall between accounts."""

from typing import Final

from relevo.chassis.tenancy import Door

DOORS: Final = (Door("retention", "handled_commands", writes=True),)
