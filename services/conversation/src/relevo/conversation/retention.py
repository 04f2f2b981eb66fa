"""What this service forgets, and when."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

from relevo.chassis.database import Database, described
from relevo.chassis.objects import ObjectStore
from relevo.chassis.paging import FIRST_ID
from relevo.chassis.service import Runtime
from relevo.contracts import streams
from relevo.contracts.base import now
from relevo.conversation import store
from relevo.conversation.domain.files import object_name
from relevo.conversation.settings import Settings
from relevo.conversation.store import files

COMMANDS_KEPT: Final = streams.CMD_CONVERSATION.max_age * 2
"""Twice as long as the bus can still deliver a command again."""

IMPORTED_FILES_KEPT: Final = timedelta(days=7)
"""Of imports that were begun and not finished; a finished one's file is gone at once."""
FAILED_ROWS_KEPT: Final = timedelta(days=30)

UPLOADS_KEPT: Final = timedelta(days=1)
"""Of files that were uploaded and not sent."""

_EVERY: Final = timedelta(hours=1)
_PIECE: Final = 512 * 1024


async def run(runtime: Runtime) -> None:
    """Every hour, forget commands that can come no more, and what imports leave behind. Any number of replicas may do it."""
    while True:
        await asyncio.sleep(_EVERY.total_seconds())
        try:
            async with runtime.database.begin(door="retention") as tx:
                await store.commands.forget(tx, now() - COMMANDS_KEPT)
                await store.imports.forget(tx, now() - IMPORTED_FILES_KEPT, now() - FAILED_ROWS_KEPT)
                await store.merges.forget(tx, now() - store.merges.UNDOABLE)
            await forget_files(runtime.database, _attachments(runtime))
        except Exception as error:  # noqa: BLE001  (the database may be away; the next hour will do)
            runtime.log.warning("retention_again", error=described(error))


async def forget_files(database: Database, objects: ObjectStore | None) -> int:
    """Remove files that no message has any more, or none came to have; answers how many. Bytes first, then rows."""
    if objects is None:
        return 0
    async with database.begin(door="retention") as tx:
        rows = await files.forgotten(tx, now() - UPLOADS_KEPT)
    for row in rows:
        await objects.delete(object_name(row["account_id"], row["id"]))
    async with database.begin(door="retention") as tx:
        await files.forget(tx, rows)
    return len(rows)


async def drop_files(database: Database, account: str, *, objects: ObjectStore | None) -> int:
    """Remove all files of an account that is gone; answers how many. The rows go with the account's others."""
    removed, after = 0, FIRST_ID
    while True:
        async with database.begin(account) as tx:
            ids = await files.of_account(tx, account, after=after, limit=500)
        if not ids:
            return removed
        if objects is None:
            raise OSError("there are files, but no store is configured; set RELEVO_FILES or RELEVO_ATTACHMENTS_URL")
        for id_ in ids:
            await objects.delete(object_name(account, id_))
        removed, after = removed + len(ids), ids[-1]


async def files_of(
    database: Database, account: str, *, objects: ObjectStore | None
) -> AsyncIterator[tuple[str, bytes]]:
    """The bytes of an account's files, in pieces; what was never written whole, or was forgotten, is left out."""
    after = FIRST_ID
    while objects is not None:
        async with database.begin(account) as tx:
            found = await files.written(tx, account, after=after, limit=500)
        if not found:
            return
        for id_, size in found:
            name = object_name(account, id_)
            for offset in range(0, size, _PIECE):
                yield id_, await objects.get(name, offset, min(_PIECE, size - offset))
        after = found[-1][0]


def _attachments(runtime: Runtime) -> ObjectStore | None:
    assert isinstance(runtime.settings, Settings)
    return runtime.settings.attachments()
