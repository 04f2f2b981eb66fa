"""Dropping a whole account everywhere: what identity tells every service once the account is over, and what they answer.

Both are of the platform and not of the account, so that they outlive it; ids and counts are all that they hold.
"""

from pydantic import Field

from relevo.contracts.base import Id, Model, Time


class DropAccount(Model):
    """Drop whatever is held of an account: rows, log, segments, files, messages of one's own streams.

    From when this is heard, whatever still comes of the account is refused. With ``sweep`` everybody has done so once:
    once more, for what came late, and now what others said in the streams that one keeps.
    """

    drop_id: Id
    account_id: Id
    asked_at: Time
    sweep: bool = False


class RowsDropped(Model):
    """How many rows of one table were removed."""

    table: str
    rows: int


class AccountDropped(Model):
    """The sender holds nothing of an account any more. The counts are of everything since it was told first."""

    drop_id: Id
    account_id: Id
    sweep: bool = False
    tables: tuple[RowsDropped, ...] = ()
    log: int = Field(0, description="rows of the log, in the outbox and in archived segments")
    messages: int = Field(
        0, description="messages of streams; of those that a process deleted as it died, up to 32 are uncounted"
    )
    files: int = 0
