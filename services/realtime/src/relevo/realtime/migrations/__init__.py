"""The schema of realtime's database, and its door through the wall between accounts."""

from typing import Final

from relevo.chassis.tenancy import SOUGHT, Door

DOORS: Final = (Door("ticket", "socket_tickets", f"encode(sha256, 'hex') = {SOUGHT}", writes=True),)
