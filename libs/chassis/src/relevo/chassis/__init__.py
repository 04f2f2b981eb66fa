"""How a service runs: bus, database, outbox, HTTP, auth, telemetry."""

from relevo.chassis.database import Database, Tx
from relevo.chassis.process import main
from relevo.chassis.reader import Consumer, Handler
from relevo.chassis.received import Received
from relevo.chassis.service import Runtime, Service

__all__ = ["Consumer", "Database", "Handler", "Received", "Runtime", "Service", "Tx", "main"]
