"""Moments that are reckoned from: within the years that calendars know, with room on both sides."""

from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from relevo.contracts.base import Time

_FIRST_YEAR: Final = 1900
_LAST_YEAR: Final = 2999


def _within(value: datetime) -> datetime:
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        es = f"Debe estar entre los años {_FIRST_YEAR} y {_LAST_YEAR}."
        en = f"Must be between the years {_FIRST_YEAR} and {_LAST_YEAR}."
        raise PydanticCustomError("beyond_calendar", "{en}", {"es": es, "en": en})
    return value


Moment = Annotated[Time, AfterValidator(_within)]
"""A moment that weeks can be added to or taken from, and of which business hours are known."""
