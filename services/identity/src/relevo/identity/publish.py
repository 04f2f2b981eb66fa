"""Directory events: out to the others, and into identity's own projection in the same transaction.

Identity authenticates its own requests with the same code and the same table as every service; only it need not wait
for the bus.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relevo.chassis import directory
from relevo.chassis.database import Tx
from relevo.contracts.base import Model


@dataclass(frozen=True, slots=True)
class Change:
    """An event about an entity. ``sequence`` is the version that the entity has after it."""

    data: Model
    account: str
    entity: str
    sequence: int


async def publish(tx: Tx, changes: Sequence[Change], *, actor: str) -> None:
    """Emit the events in this order, and apply them. The rows of the entities, or their account, are locked."""
    entries = []
    for change in changes:
        envelope = tx.emit(
            change.data, account=change.account, entity=change.entity, actor=actor, sequence=change.sequence
        )
        entry = directory.entry_of(envelope.type, change.data, change.sequence)
        assert entry is not None, f"{envelope.type} is not of the directory"
        entries.append(entry)
    await directory.apply_all(tx, entries)
