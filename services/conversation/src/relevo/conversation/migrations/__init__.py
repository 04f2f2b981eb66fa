"""The schema's history, and its door through the wall between accounts."""

from typing import Final

from relevo.chassis.stories import DOOR
from relevo.chassis.tenancy import Door

DOORS: Final = (
    # Whose file is next is known once it is taken.
    Door("imports", "contact_imports", writes=True),
    Door("retention", "handled_commands", writes=True),
    Door("retention", "files", writes=True),
    Door("retention", "contact_merges", writes=True),
    Door("retention", "contact_imports"),
    Door("retention", "contact_import_parts", writes=True),
    Door("retention", "contact_import_failures", writes=True),
    # A day that is archived tells of every account.
    Door(DOOR, "log_places", writes=True),
)
