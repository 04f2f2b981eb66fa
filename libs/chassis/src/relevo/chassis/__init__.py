"""How a service runs: bus, database, outbox, HTTP, auth, telemetry.

The names below are loaded when first asked for: who needs only a small module of the chassis (the command line needs
`credentials`) does not wait for the web framework, the broker's client and the database's.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relevo.chassis.database import Database, Tx
    from relevo.chassis.process import main
    from relevo.chassis.projection import Projection
    from relevo.chassis.reader import Consumer, Handler
    from relevo.chassis.received import Received
    from relevo.chassis.service import Runtime, Service

_HOME = {
    "Consumer": "reader",
    "Database": "database",
    "Handler": "reader",
    "Projection": "projection",
    "Received": "received",
    "Runtime": "service",
    "Service": "service",
    "Tx": "database",
    "main": "process",
}

__all__ = ["Consumer", "Database", "Handler", "Projection", "Received", "Runtime", "Service", "Tx", "main"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
