"""The worker of imports: chunk by chunk, each in one transaction with the progress that tells of it.

Killed anywhere, another replica goes on at the first row that is not committed. A dry run goes the same way and
writes what it would have done where nobody else sees it.
"""

import asyncio
from typing import Final

import psycopg.errors

from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database, described, is_transient
from relevo.chassis.service import Runtime
from relevo.conversation import contacts_import, conversations_import
from relevo.conversation.store import imports
from relevo.conversation.store.rows import Row

_CHUNKS: Final = {"contacts": contacts_import.chunk, "conversations": conversations_import.chunk}
_IDLE_SECONDS: Final = 1.0


async def run(runtime: Runtime) -> None:
    """Work on what there is, until the process stops. Any number of replicas may do it."""
    while True:
        try:
            worked = await step(runtime.database)
        except Exception as error:  # noqa: BLE001  (the database was away, or somebody wrote the same contact: again)
            runtime.log.warning("import_again", error=described(error))
            worked = False
        if not worked:
            await asyncio.sleep(_IDLE_SECONDS)


async def step(database: Database) -> bool:
    """Import one chunk; tells whether there was one. Raises what a lost database or a lost race raises."""
    job: Row | None = None
    try:
        async with database.begin(door="imports") as tx:
            job = await imports.take(tx)
            if job is None:
                return False
            await tx.enter(job["account_id"])
            await _CHUNKS[job["kind"]](tx, job)
            crash_point("contacts_import.before_commit")
        crash_point("contacts_import.after_commit")
    except Exception as error:
        if job is None or is_transient(error) or isinstance(error, psycopg.errors.UniqueViolation):
            raise
        # The chunk's own fault: again it would fail again. What is committed stays, the rest can be started anew.
        async with database.begin(job["account_id"]) as tx:
            await imports.end(tx, job["account_id"], job["id"], "failed", described(error))
    return True
