"""`Idempotency-Key`: the same POST sent twice is done once, and answered the same.

    @router.post("/contacts", status_code=201)
    async def create_contact(body: NewContact, who: ..., db: Db, once: Idempotency) -> ContactOut:
        async with db.begin() as tx:
            await once.start(tx)
            contact = await store.create(tx, who.account_id, body)
            return await once.finish(tx, contact)

Key and answer are stored in the write's own transaction and kept for 24 hours, apart for each agent or key. A second
request with the same key waits for the first one's transaction; the same key with another body or address is 422.
"""

import asyncio
import hashlib
import json
from http import HTTPStatus
from typing import Annotated, Any, Final, Protocol, TypeVar

import structlog
from fastapi import Depends, FastAPI, Header
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from sqlalchemy import text
from starlette.requests import Request

from relevo.chassis.database import Database, Tx
from relevo.chassis.problems import FieldError, Problem

DDL_V1: Final[tuple[str, ...]] = (
    """
    create table idempotency (
        account_id text not null,
        actor text not null,
        key text not null,
        method_path text not null,
        body_sha256 bytea not null,
        status smallint,
        response jsonb,
        created_at timestamptz not null default now(),
        primary key (account_id, actor, key)
    )
    """,
    "create index idempotency_created on idempotency (created_at)",
    "comment on table idempotency is 'answers to POSTs with an Idempotency-Key, kept for 24 hours'",
)

_SWEEP_SECONDS: Final = 3600.0
_Answer = TypeVar("_Answer", bound=BaseModel | None)
log = structlog.get_logger("relevo.idempotency")

_CLAIM = text("""
    insert into idempotency (account_id, actor, key, method_path, body_sha256)
    values (:account, :actor, :key, :method_path, :body)
    on conflict (account_id, actor, key) do update
        set method_path = excluded.method_path, body_sha256 = excluded.body_sha256,
            status = null, response = null, created_at = now()
        where idempotency.created_at < now() - interval '24 hours'
    returning 1
""")
_STORED = text("""
    select method_path, body_sha256, status, response from idempotency
    where account_id = :account and actor = :actor and key = :key
""")
_KEEP = text("""
    update idempotency set status = :status, response = cast(:response as jsonb)
    where account_id = :account and actor = :actor and key = :key
""")
_FORGET = text("delete from idempotency where account_id = :account and actor = :actor and key = :key")
_SWEEP = text("delete from idempotency where created_at < now() - interval '24 hours'")


class Replayed(Exception):
    """The request was done before: the stored answer is given again."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"replayed {status}")
        self.status = status
        self.body = body


class Once:
    """The idempotency of one request; does nothing when it carries no key."""

    def __init__(self, request: Request, key: str | None) -> None:
        self._request = request
        self._key = key

    async def start(self, tx: Tx) -> None:
        """Call first in the transaction, before any effect.

        Raises Replayed (the chassis answers it) when the request was done before, Problem 422 when its key was used
        for another one.
        """
        if self._key is None:
            return
        method_path = f"{self._request.method} {self._request.url.path}"
        body = hashlib.sha256(await self._request.body()).digest()
        claim = {**self._row(), "method_path": method_path, "body": body}
        if (await tx.execute(_CLAIM, claim)).first() is not None:
            return
        stored = (await tx.execute(_STORED, self._row())).one()
        if stored.method_path != method_path or bytes(stored.body_sha256) != body:
            raise Problem(
                422,
                "idempotency_key_reused",
                es="Esa Idempotency-Key ya se usó con otra petición: genera una nueva para cada operación.",
                en="That Idempotency-Key was used for another request: make a new one for every operation.",
                errors=(
                    FieldError(
                        "/header/idempotency-key",
                        es="Ya se usó con otro cuerpo u otra dirección.",
                        en="Was used with another body or address.",
                    ),
                ),
            )
        raise Replayed(stored.status or 200, stored.response)

    async def finish(self, tx: Tx, answer: _Answer) -> _Answer:
        """Store the answer; call last in the transaction, and return what it returns."""
        if self._key is not None:
            status = getattr(self._request.scope.get("route"), "status_code", None) or 200
            response = answer.model_dump_json(by_alias=True) if isinstance(answer, BaseModel) else json.dumps(None)
            await tx.execute(_KEEP, {**self._row(), "status": status, "response": response})
        return answer

    async def withdraw(self, tx: Tx) -> None:
        """Nothing was done, and the transaction commits all the same: the key may be used as if it had not been."""
        if self._key is not None:
            await tx.execute(_FORGET, self._row())

    def _row(self) -> dict[str, Any]:
        who = self._request.state.principal
        return {"account": who.account_id, "actor": who.actor, "key": self._key}


async def _once(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=200,
            description="Any text of your own, new for every operation; the same again within 24 h repeats the answer.",
        ),
    ] = None,
) -> Once:
    return Once(request, key)


Idempotency = Annotated[Once, Depends(_once)]


def install(app: FastAPI) -> None:
    """Answer replays."""

    async def on_replay(_: Request, error: Exception) -> Response:
        assert isinstance(error, Replayed)
        if error.status == HTTPStatus.NO_CONTENT:
            return Response(status_code=error.status, headers={"Idempotency-Replayed": "true"})
        return JSONResponse(error.body, error.status, {"Idempotency-Replayed": "true"})

    app.add_exception_handler(Replayed, on_replay)


class _Runtime(Protocol):
    @property
    def database(self) -> Database: ...
    @property
    def stopping(self) -> asyncio.Event: ...


async def run(runtime: _Runtime) -> None:
    """The worker that forgets answers older than 24 hours, once an hour."""
    while not runtime.stopping.is_set():
        try:
            async with runtime.database.begin(door="retention") as tx:
                await tx.execute(_SWEEP)
        except Exception as error:  # noqa: BLE001 — the next hour will do
            log.warning("idempotency_sweep_failed", error=type(error).__name__)
        try:
            async with asyncio.timeout(_SWEEP_SECONDS):
                await runtime.stopping.wait()
        except TimeoutError:
            continue
