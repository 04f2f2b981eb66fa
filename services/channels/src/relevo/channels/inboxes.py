"""Which inbox is which: the directory, kept in memory for a moment, since every outbound message passes here."""

import time
from collections import OrderedDict
from typing import Final

from relevo.chassis import directory
from relevo.chassis.database import Database
from relevo.contracts.ingest import InboxState

_FRESH: Final = 3.0
_MOST: Final = 10_000


class Inboxes:
    """The inboxes of this installation."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[str, tuple[InboxState | None, float]] = OrderedDict()

    async def get(self, inbox_id: str) -> InboxState | None:
        """The inbox, as it was a few seconds ago at most; None when there is none."""
        found = self._known.get(inbox_id)
        if found is not None and time.monotonic() - found[1] < _FRESH:
            return found[0]
        async with self._database.begin(door="inbox", sought=inbox_id) as tx:
            state = (await directory.inboxes(tx, [inbox_id])).get(inbox_id)
        if state is not None:  # one that is not known may be any moment
            self._known[inbox_id] = (state, time.monotonic())
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        else:
            self._known.pop(inbox_id, None)
        return state
