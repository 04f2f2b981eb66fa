"""The base of every message body, and the few types they share.

Ids are UUIDv7 in their text form; times are aware datetimes in UTC (RFC 3339 on the wire). Consumers
ignore fields they do not know, so that within a major version fields may be added.
"""

from datetime import UTC, datetime
from typing import Annotated

import uuid_utils
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticKnownError

Id = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
"""One subject token: a UUIDv7, or another token-safe key."""


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:  # the first or the last day there is, in another zone
        raise PydanticKnownError("datetime_parsing", {"error": "it is beyond the calendar in UTC"}) from None


Time = Annotated[AwareDatetime, AfterValidator(_utc)]
"""A moment, always UTC once decoded; a time without an offset is refused."""


def new_id() -> str:
    """A new UUIDv7: unique, and ordered by the millisecond it was made in."""
    return str(uuid_utils.uuid7())


def now() -> datetime:
    """The present moment, aware and in UTC."""
    return datetime.now(UTC)


class Model(BaseModel):
    """A message body. Immutable; unknown fields are ignored when decoding."""

    model_config = ConfigDict(extra="ignore", frozen=True)
