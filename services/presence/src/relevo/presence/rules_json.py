"""An account's rules as JSON, as they are stored and answered over HTTP."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from relevo.contracts.base import Id
from relevo.presence.domain.rules import Label, Rules


class RulesIn(BaseModel):
    """When an agent's status changes by itself. What is left out, or null, does not happen."""

    model_config = ConfigDict(extra="forbid")

    busy_at: int | None = Field(default=None, ge=1, le=10_000, description="Busy from so many open conversations on.")
    busy_when_full: bool = Field(default=False, description="Busy while at full capacity.")
    back_below: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Available again with fewer open ones than this, so that one conversation more or less changes nothing.",
    )
    away_after_minutes: int | None = Field(
        default=None, ge=1, le=24 * 60, description="Away after so long without a touch of keyboard, mouse or screen."
    )
    break_after_conversations: int | None = Field(
        default=None, ge=1, le=10_000, description="A break after so many conversations received."
    )
    break_after_minutes: int | None = Field(
        default=None, ge=1, le=24 * 60, description="A break after so long at work."
    )
    break_status_id: Id | None = Field(default=None, description="The named status of the break.")
    warning_minutes: int = Field(default=5, ge=0, le=120, description="How long before a break the agent is told.")
    put_off_minutes: int = Field(default=15, ge=0, le=240, description="By how much they may put it off, once.")
    at_shift_end: Literal["stay", "offline"] = Field(
        default="stay", description="What becomes of who is still there when their shift ends."
    )

    @property
    def watches_load(self) -> bool:
        """Whether any of it looks at how many conversations agents hold or get."""
        return self.busy_at is not None or self.busy_when_full or self.break_after_conversations is not None


def rules_of(stored: Mapping[str, Any], rest: Label | None) -> Rules:
    """The rules as the domain wants them; `rest` is the named status of the break."""
    given = RulesIn.model_validate(stored)
    return Rules(
        busy_at=given.busy_at,
        busy_when_full=given.busy_when_full,
        back_below=given.back_below,
        away_after=_minutes(given.away_after_minutes),
        rest_after_received=given.break_after_conversations,
        rest_after=_minutes(given.break_after_minutes),
        rest=rest,
        warning=timedelta(minutes=given.warning_minutes),
        put_off=timedelta(minutes=given.put_off_minutes),
        at_shift_end=given.at_shift_end,
    )


def _minutes(given: int | None) -> timedelta | None:
    return None if given is None else timedelta(minutes=given)
