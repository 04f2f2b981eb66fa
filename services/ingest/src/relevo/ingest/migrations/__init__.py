"""The schema of ingest's database, as Alembic revisions, and its door through the wall between accounts."""

from typing import Final

from relevo.chassis.tenancy import Door

DOORS: Final = (
    # Who waits in a partition.
    Door("lanes", "deferred"),
)
