"""Where a socket is in the streams: opaque for clients, and good for as long as the streams keep what follows it."""

import re
from dataclasses import dataclass

_FORM = re.compile(r"^v1((?:-\d{1,19}){3})$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """The stream sequences up to which everything was offered to a socket."""

    conversation: int = 0
    presence: int = 0
    notification: int = 0

    def __str__(self) -> str:
        return f"v1-{self.conversation}-{self.presence}-{self.notification}"

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """The reverse of `str`; None for anything else."""
        match = _FORM.match(text)
        return cls(*(int(part) for part in match[1][1:].split("-"))) if match else None
