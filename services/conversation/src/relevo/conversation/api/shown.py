"""Messages as people read them: activity lines in words, in the reader's language."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field

from relevo.chassis import directory
from relevo.chassis.database import Tx
from relevo.contracts.snapshots import MessageSnapshot
from relevo.conversation import store
from relevo.conversation.api import files
from relevo.conversation.domain.activity import Language, Line, words
from relevo.conversation.store import files as file_store
from relevo.conversation.store import labels as label_store
from relevo.conversation.store.messages import message_of
from relevo.conversation.store.rows import Row


class MessageShown(MessageSnapshot):
    """A message, a private note, or an activity line, whose text is in the language asked for."""

    activity: dict[str, Any] | None = Field(
        default=None, description="Of an activity line: its `code`, and its values, such as `from` and `to`."
    )
    cause: str | None = Field(
        default=None,
        description="The event or command that brought it about, as `type/id`; null: whoever is its author.",
    )


async def reading(tx: Tx, account_id: str, rows: Sequence[Row], language: Language) -> Callable[[Row], MessageShown]:
    """How the rows of a page read. The names in its activity lines are looked up at once; our files get addresses."""
    own = any(one.get("id") for row in rows for one in row["attachments"])
    secret = await file_store.secret(tx, account_id) if own else b""

    def plain(row: Row) -> MessageShown:
        message = message_of(row)
        attachments = files.readable(secret, account_id, message.attachments)
        return MessageShown(
            **message.model_copy(update={"attachments": attachments}).model_dump(),
            activity=row["activity"],
            cause=row["cause"],
        )

    lines = {row["id"]: _line(row["activity"]) for row in rows if row["activity"] is not None}
    if not lines:
        return plain
    actors = {row["author"].partition(":")[2] for row in rows if row["id"] in lines}
    names = await store.names.find(tx, account_id, actors.union(*(line.ids() for line in lines.values())))
    names |= await label_store.names(tx, account_id, set().union(*(line.labels() for line in lines.values())))
    account = (await directory.accounts(tx, [account_id])).get(account_id)
    zone = account.time_zone if account else "UTC"

    def show(row: Row) -> MessageShown:
        shown = plain(row)
        if (line := lines.get(row["id"])) is None:
            return shown
        text = words(line, row["author"], names, language, zone)
        name = names.get(row["author"].partition(":")[2], "")
        return shown.model_copy(update={"text": text, "author_name": name})

    return show


def _line(activity: dict[str, Any]) -> Line:
    return Line(activity["code"], {name: value for name, value in activity.items() if name != "code"})
