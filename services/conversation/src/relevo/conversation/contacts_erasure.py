"""The worker that takes persons who were erased out of this service's log, some thousand rows a transaction."""

import asyncio
import json
from typing import Final

from relevo.chassis.database import Database, described
from relevo.chassis.service import Runtime
from relevo.conversation.domain.erasure import redacted
from relevo.conversation.store import erasures

_IDLE_SECONDS: Final = 5.0


async def run(runtime: Runtime) -> None:
    """Work on what there is, until the process stops. Any number of replicas may do it."""
    while True:
        try:
            worked = await step(runtime.database)
        except Exception as error:  # noqa: BLE001  (the database was away: again)
            runtime.log.warning("erasure_again", error=described(error))
            worked = False
        if not worked:
            await asyncio.sleep(_IDLE_SECONDS)


async def step(database: Database) -> bool:
    """Go through the next rows of the log; tells whether there were any to go through."""
    async with database.begin(door="erasures") as tx:
        job = await erasures.take(tx)
        if job is None:
            return False
        await tx.enter(job["account_id"])
        rows = await erasures.log(tx, job["next_id"], job["last_id"])
        # The events of a conversation name its contact: so are those found that were deleted since.
        entities, contact = set(job["entities"]), job["contact_id"].encode()
        changed = []
        for row in rows:
            entity, body = json.loads(row["headers"]).get("ce-subject"), bytes(row["body"])
            if contact in body:
                entities.add(entity)
            if entity in entities:
                changed.append((row, json.dumps(redacted(json.loads(body)), ensure_ascii=False).encode()))
        await erasures.rewrite(tx, changed)
        last = rows[-1]["id"] if rows else job["last_id"]
        await erasures.progress(
            tx,
            job,
            entities=sorted(entities),
            next_id=last,
            redacted=len(changed),
            done=len(rows) < erasures.LOG_ROWS,
        )
    return True
