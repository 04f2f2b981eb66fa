"""Cells of a CSV file that people open in a spreadsheet."""

from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def harmless(cell: str) -> str:
    """The cell so that no spreadsheet takes what somebody typed for a formula: a quote stands before it."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
