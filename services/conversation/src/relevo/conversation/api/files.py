"""Attachments: uploaded first, then named by the message that sends them; fetched at addresses that end."""

import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Annotated, Final
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db, Rt, body_limit
from relevo.chassis.objects import ObjectMissing, ObjectStore
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import new_id, now
from relevo.contracts.inbound import Attachment
from relevo.contracts.permissions import Permission
from relevo.contracts.routes import API
from relevo.conversation.api.common import problem_of
from relevo.conversation.domain import files
from relevo.conversation.domain.state import Refused
from relevo.conversation.settings import Settings
from relevo.conversation.store import files as store
from relevo.kernel.text import clean

router = APIRouter(tags=["conversations"])

Sender = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_REPLY, Permission.CONVERSATIONS_NOTE))]

READ_FOR: Final = timedelta(hours=1)
"""How long the addresses in a list of messages are good."""
_FETCH_FOR: Final = timedelta(days=7)
"""How long a channel may fetch what it is to deliver."""
_CHUNK: Final = 256 * 1024


class Uploaded(BaseModel):
    """A file that waits for its message; one that nobody sends within a day is forgotten."""

    id: str
    name: str
    content_type: str
    size: int = Field(description="Bytes.")
    url: str = Field(description="Where it can be fetched, for an hour.")


@router.post(
    "/files",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": {kind: {} for kind in files.TYPES}}},
)
@body_limit(files.MAX_BYTES)
async def upload_file(
    *,
    who: Sender,
    db: Db,
    runtime: Rt,
    request: Request,
    name: Annotated[str, Query(min_length=1, max_length=255, description="The file's name, as people see it.")],
) -> Uploaded:
    """Upload a file, as it is, to be sent with a message. Its type is checked, not believed; at most 40 MB."""
    objects = _objects(runtime)
    body = aiter(request.stream())
    beginning = b""
    while len(beginning) < files.LOOK and (chunk := await anext(body, b"")):
        beginning += chunk
    if not beginning:
        raise Problem(422, "file_is_empty", es="El archivo está vacío.", en="The file is empty.")
    try:
        kind = files.check_type(request.headers.get("content-type", ""), beginning)
    except Refused as refused:
        raise problem_of(refused) from None
    file_id, shown = new_id(), " ".join(clean(name).replace("/", "_").replace("\\", "_").split()) or "archivo"
    async with db.begin() as tx:
        await store.begin(tx, who.account_id, file_id, name=shown, content_type=kind, actor=who.actor)
        secret = await store.secret(tx, who.account_id)
    size, digest = 0, hashlib.sha256()

    async def counted() -> AsyncIterator[bytes]:
        nonlocal size
        chunk = beginning
        while chunk:
            size += len(chunk)
            digest.update(chunk)
            yield chunk
            chunk = await anext(body, b"")

    await objects.put(files.object_name(who.account_id, file_id), counted())
    async with db.begin() as tx:
        await store.complete(tx, who.account_id, file_id, size=size, sha256=digest.digest())
    url = _signed(secret, who.account_id, file_id, READ_FOR)
    return Uploaded(id=file_id, name=shown, content_type=kind, size=size, url=url)


@router.get(
    "/files/{account_id}/{file_id}",
    response_class=StreamingResponse,
    responses={206: {"description": "The part that the header Range asks for."}},
)
async def fetch_file(
    *,
    db: Db,
    runtime: Rt,
    account_id: UUID,
    file_id: UUID,
    expires: Annotated[int, Query(ge=0, le=2**40)],
    signature: Annotated[str, Query(max_length=64, pattern=r"^[0-9a-f]+$")],
    range_: Annotated[str | None, Header(alias="Range", max_length=200)] = None,
    if_range: Annotated[str | None, Header(alias="If-Range", max_length=200)] = None,
) -> StreamingResponse:
    """Fetch a file at a signed address, as message lists and outbound messages have them. It needs no other credential."""
    objects = _objects(runtime)
    async with db.begin(str(account_id)) as tx:
        row = await store.read(tx, str(account_id), str(file_id))
    if row is None or not files.is_good(bytes(row["secret"]), str(account_id), str(file_id), expires, signature, now()):
        # The same for what never was, is gone, or is signed badly: an address tells nothing.
        raise Problem(
            404,
            "file_not_found",
            es="El archivo no existe o el enlace ha caducado: abre de nuevo la conversación.",
            en="There is no such file, or the link has expired: open the conversation again.",
        )
    name, size = files.object_name(str(account_id), str(file_id)), int(row["size"])
    try:
        # What never changes needs no If-Range; who sends one gets all of it, which is always right.
        asked = None if if_range else files.part(range_, size)
    except Refused as refused:
        told = problem_of(refused)
        raise Problem(416, told.code, es=told.es, en=told.en, headers={"Content-Range": f"bytes */{size}"}) from None
    start, length = asked or (0, size)
    try:
        first = await objects.get(name, start, min(_CHUNK, length))
    except ObjectMissing:
        raise Problem(
            410,
            "file_is_gone",
            es="El archivo ya no está en el almacén: pide que lo envíen de nuevo.",
            en="The file is not in the store any more: ask for it to be sent again.",
        ) from None

    async def chunks() -> AsyncIterator[bytes]:
        yield first
        for offset in range(start + len(first), start + length, _CHUNK):
            yield await objects.get(name, offset, min(_CHUNK, start + length - offset))

    place = "inline" if row["content_type"] in files.SHOWN else "attachment"
    part_of = {"Content-Range": f"bytes {start}-{start + length - 1}/{size}"} if asked else {}
    return StreamingResponse(
        chunks(),
        status_code=206 if asked else 200,
        media_type=row["content_type"],
        headers={
            **part_of,
            "Accept-Ranges": "bytes",
            "Content-Length": str(length),
            "Content-Disposition": f"{place}; filename*=UTF-8''{quote(row['name'], safe='')}",
            "Cache-Control": "private, max-age=3600",
        },
    )


async def attached(tx: Tx, who: Principal, message_id: str, ids: Sequence[UUID]) -> tuple[Attachment, ...]:
    """Uploaded files become those of a message. Raises Problem 422 naming those that cannot."""
    wanted = list(dict.fromkeys(str(id_) for id_ in ids))
    found = await store.claim(tx, who.account_id, wanted, message_id=message_id, actor=who.actor) if wanted else {}
    if missing := [n for n, id_ in enumerate(wanted) if id_ not in found]:
        es = "Ese archivo no está, ya se envió o lo subió otra persona: súbelo de nuevo."
        en = "That file is not there, was sent already or somebody else uploaded it: upload it again."
        errors = [FieldError(f"/attachments/{n}", es=es, en=en) for n in missing]
        raise Problem(422, "unknown_file", es=es, en=en, errors=errors)
    return tuple(
        Attachment(
            id=id_,
            url=_address(who.account_id, id_),
            name=found[id_]["name"],
            content_type=found[id_]["content_type"],
            size=found[id_]["size"],
        )
        for id_ in wanted
    )


async def fetchable(
    tx: Tx, settings: Settings, account_id: str, attachments: Sequence[Attachment]
) -> tuple[Attachment, ...]:
    """The same files with addresses at which a channel can fetch them, for a week."""
    if not any(one.id for one in attachments):
        return tuple(attachments)
    secret = await store.secret(tx, account_id)
    base = settings.public_url.rstrip("/")
    return tuple(
        one.model_copy(update={"url": base + _signed(secret, account_id, one.id, _FETCH_FOR), "id": None})
        if one.id
        else one
        for one in attachments
    )


def readable(secret: bytes, account_id: str, attachments: Sequence[Attachment]) -> tuple[Attachment, ...]:
    """The same files with addresses at which a person can read them, for an hour."""
    return tuple(
        one.model_copy(update={"url": _signed(secret, account_id, one.id, READ_FOR)}) if one.id else one
        for one in attachments
    )


def _objects(runtime: Rt) -> ObjectStore:
    settings = runtime.settings
    assert isinstance(settings, Settings)
    if (objects := settings.attachments()) is None:
        raise Problem(
            501,
            "no_file_store",
            es="Aquí no hay dónde guardar archivos: configura RELEVO_ATTACHMENTS_URL o RELEVO_FILES.",
            en="There is nowhere to keep files: set RELEVO_ATTACHMENTS_URL or RELEVO_FILES.",
        )
    return objects


def _address(account_id: str, file_id: str) -> str:
    return f"{API}/files/{account_id}/{file_id}"


def _signed(secret: bytes, account_id: str, file_id: str, good_for: timedelta) -> str:
    # To the minute, so that an address is the same for a while and browsers can keep what they have.
    expires = (int(time.time()) // 60 + 1) * 60 + int(good_for.total_seconds())
    signature = files.signature(secret, account_id, file_id, expires)
    return f"{_address(account_id, file_id)}?expires={expires}&signature={signature}"
