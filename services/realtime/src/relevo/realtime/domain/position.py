"""Where a socket is in the streams: opaque for clients, and good for as long as the streams keep what follows it."""

import hashlib
import json
import re
from dataclasses import dataclass

from relevo.kernel.access import Viewer

_FORM = re.compile(r"^v2((?:-\d{1,19}){3})-([0-9a-f]{12})$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """The stream sequences up to which everything was offered to a socket."""

    conversation: int = 0
    presence: int = 0
    notification: int = 0

    def shown(self, view: str) -> str:
        """What a client gets; ``view`` is the `view_of` whoever was offered everything."""
        return f"v2-{self.conversation}-{self.presence}-{self.notification}-{view}"

    @classmethod
    def parse(cls, text: str) -> "tuple[Position, str] | None":
        """The reverse of `shown`; None for anything else."""
        match = _FORM.match(text)
        return (cls(*(int(part) for part in match[1][1:].split("-"))), match[2]) if match else None


def view_of(viewer: Viewer) -> str:
    """A short text that differs whenever what the viewer may see may differ, the same in every process.

    It stands in positions: whoever comes back with other rights has to take a new snapshot, since no event tells what
    the change of rights hid or showed.
    """
    inboxes = None if viewer.inbox_ids is None else sorted(viewer.inbox_ids)
    parts = [
        viewer.account_id,
        viewer.agent_id,
        viewer.scope,
        sorted(viewer.permissions),
        sorted(viewer.team_ids),
        inboxes,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
