"""The schema of assignment's database, and its door through the wall between accounts."""

from typing import Final

from relevo.chassis.tenancy import Door

DOORS: Final = (
    # In which accounts something waits to be decided.
    Door("matcher", "journal"),
)
