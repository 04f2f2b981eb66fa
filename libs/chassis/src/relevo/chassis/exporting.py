"""The export of a whole account: each service tells its part, as lines of JSON, compressed, while it is read.

A service declares, as data, which of its tables are the account's own and what in them is secret (`Exported`); a test
holds every table and every column of bytes to that. One snapshot of the database is read: a part is whole in itself.
"""

import asyncio
import base64
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from psycopg import sql

from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Database
from relevo.chassis.http import Rt
from relevo.contracts.base import now
from relevo.contracts.permissions import Permission

log = structlog.get_logger("relevo.exporting")

FORMAT: Final = 1
_ROWS: Final = 500
_STALLED: Final = "60s"
"""How long whoever downloads may take nothing, until the snapshot is let go."""
_PART: Final = 600_000
_FROM_CHASSIS: Final[Mapping[str, str]] = {
    "directory": "a copy of what identity and ingest tell",
    "idempotency": "answers that are kept for repeated requests",
    "timers": "what is due, which the rows themselves say",
    "erasures": "who is being erased",
    "erasing_messages": "how far an erasure is",
    "erasing_objects": "how far an erasure is",
}

Files = Callable[[Database, str], AsyncIterator[tuple[str, bytes]]]
"""The files of an account: their ids, with the pieces of their bytes in order."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What a service tells of an account. ``tables`` with the columns that are left out; ``left_out`` with the reason."""

    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    """The column of the account where it has another name."""
    files: Files | None = None

    def reasons(self) -> Mapping[str, str]:
        """Every table of accounts that is left out, and why."""
        return {**_FROM_CHASSIS, **self.left_out}


async def lines(database: Database, service: str, account: str, exported: Exported) -> AsyncIterator[dict[str, Any]]:
    """The part of a service: what it is, every row of every table, files in pieces, and at last how much that was.

    Without the last line it is not whole. Raises psycopg.Error, and what the object store raises.
    """
    yield {"relevo_export": FORMAT, "service": service, "account_id": account, "at": now().isoformat()}
    rows = 0
    async with database.begin(account) as tx:
        await tx.conn.execute("set transaction isolation level repeatable read, read only")
        await tx.conn.execute(f"set local idle_in_transaction_session_timeout = '{_STALLED}'")
        for table, left_out in exported.tables.items():
            query = sql.SQL("select to_jsonb(t) - %s::text[] from {} t where {} = %s").format(
                sql.Identifier(table), sql.Identifier(exported.columns.get(table, "account_id"))
            )
            async with tx.conn.cursor(name="export") as cursor:
                await cursor.execute(query, (list(left_out), account))
                while found := await cursor.fetchmany(_ROWS):
                    for (row,) in found:
                        yield {"table": table, "row": row}
                    rows += len(found)
    files = 0
    if exported.files is not None:
        last = ""
        async for id_, piece in exported.files(database, account):
            files += id_ != last
            last = id_
            yield {"file": id_, "base64": base64.b64encode(piece).decode()}
    yield {"end": True, "rows": rows, "files": files}


async def compressed(told: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Lines as one gzip stream."""
    packer = zlib.compressobj(6, wbits=31)
    waiting = b""
    async for line in told:
        waiting += packer.compress(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        if len(waiting) >= _PART:
            yield waiting
            waiting = b""
    yield waiting + packer.flush()


def router(service: str, exported: Exported) -> APIRouter:
    """The endpoint of a service's part."""
    router = APIRouter(tags=["account"])
    one = asyncio.Semaphore(1)

    async def export(
        who: Annotated[Principal, Depends(require(Permission.ACCOUNT_MANAGE))], runtime: Rt
    ) -> StreamingResponse:
        account = who.account_id
        log.info("account_exported", account=account, actor=who.actor)

        async def told() -> AsyncIterator[bytes]:
            # Each holds a connection, and a snapshot, as long as it lasts.
            async with one:
                async for chunk in compressed(lines(runtime.database, service, account, exported)):
                    yield chunk

        headers = {"Content-Disposition": f'attachment; filename="relevo-{service}-{now():%Y%m%d}.jsonl.gz"'}
        return StreamingResponse(told(), media_type="application/gzip", headers=headers)

    router.add_api_route(
        f"/account/export/{service}",
        export,
        methods=["GET"],
        name=f"export_{service}",
        response_class=StreamingResponse,
        description=f"The part of a whole account's export that {service} has: gzip'd lines of JSON (docs/operators.md).",
        summary=f"Export the account: {service}",
        responses={
            200: {"content": {"application/gzip": {}}, "description": "The part, whole if its last line says so"}
        },
    )
    return router
