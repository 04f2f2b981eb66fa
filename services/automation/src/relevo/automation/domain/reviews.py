"""Which conversations a rule is about that comes by itself, not by what happens in one."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from relevo.contracts.conversation import ReviewMinutes, Unresolved


class Among(BaseModel):
    """What narrows them down before they are looked at: only of what is not resolved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    statuses: Annotated[tuple[Unresolved, ...], Field(max_length=3)] = Field(
        (), description="Only with one of these statuses; empty: all but resolved."
    )
    idle_minutes: ReviewMinutes = Field(0, description="Only where nothing has happened for so long.")
    waiting_minutes: ReviewMinutes = Field(0, description="Only where the customer has waited for so long.")


class Absence(Among):
    """When nobody of a team (none given: of the account) has been available for so long; once, until somebody was again."""

    team_id: Annotated[str, Field(max_length=36)] | None = Field(
        None, description="The team whose people are meant, and whose conversations; none: everybody's, and all."
    )
    minutes: Annotated[int, Field(ge=0, le=10_080)] = Field(5, description="For how long nobody has been.")
