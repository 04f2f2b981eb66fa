"""Documents that are made from the service's own code."""

from collections.abc import Iterator

from relevo.contracts.presence import PresenceCause
from relevo.presence.domain.precedence import table

_HEAD = """# What an agent's status is, and why

Generated from the function that decides, which was asked {many:,} times: every combination of what it looks at. The first
row that applies decides, and it decides as many of them as the last column says. Do not edit.

An agent chooses a status (or somebody with `presence.others` does it for them), optionally until a moment; devices are
connected while their heartbeats come; shifts and rules are the account's. Times in shifts are those of the schedule's zone.

| # | what is known | status | cause | of them |
|---:|---|---|---|---:|
"""
_MIDDLE = """
## Lo mismo en español

| # | qué se sabe | estado | causa |
|---:|---|---|---|
"""


def documents() -> Iterator[tuple[str, str]]:
    """File names below docs/, and texts."""
    rows = table()
    total = sum(many for _, many, _ in rows)
    text = _HEAD.format(many=total)
    for number, (row, many, causes) in enumerate(rows, start=1):
        text += f"| {number} | {row.en} | {row.state_en} | {_codes(causes)} | {many:,} |\n"
    text += _MIDDLE
    for number, (row, _, causes) in enumerate(rows, start=1):
        text += f"| {number} | {row.es} | {row.state_es} | {_codes(causes)} |\n"
    yield "presence.md", text


def _codes(causes: list[PresenceCause]) -> str:
    return ", ".join(f"`{cause}`" for cause in causes)
