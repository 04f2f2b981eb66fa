"""Recorded conversations: one JSON object a line, ``{"id", "turns": [{"role", "text", "t_offset_s"}]}``."""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal


class BadSource(ValueError):
    """A file that does not hold conversations; the message names the line and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing said. ``offset`` is seconds since the first turn; 0 where the source has no times."""

    number: int
    role: Literal["customer", "agent"]
    text: str
    offset: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """One conversation, in the order in which it was said."""

    id: str
    language: str | None
    turns: tuple[Turn, ...]


def read(file: Path, limit: int | None = None) -> list[Recorded]:
    """The first ``limit`` conversations that a customer begins. Raises BadSource."""
    found: list[Recorded] = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            conversation = _parse(file, number, line)
            if conversation.turns and conversation.turns[0].role == "customer":
                found.append(conversation)
    return list(islice(found, limit))


def _parse(file: Path, number: int, line: str) -> Recorded:
    try:
        row = json.loads(line)
        turns = tuple(
            Turn(n, turn["role"], turn["text"], float(turn.get("t_offset_s") or 0))
            for n, turn in enumerate(row["turns"])
            if turn["text"].strip()
        )
        if any(turn.role not in ("customer", "agent") for turn in turns):
            raise ValueError("a role is neither customer nor agent")
        return Recorded(str(row["id"]), row.get("lang"), turns)
    except (ValueError, KeyError, TypeError) as error:
        raise BadSource(f"{file.name}, line {number}: not a conversation ({error!r})") from None
