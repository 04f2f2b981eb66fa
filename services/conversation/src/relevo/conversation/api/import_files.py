"""What imports share: how their files are received and kept, and what may be done to an import as it stands."""

import codecs
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from fastapi import Request

from relevo.chassis.auth import Principal
from relevo.chassis.database import Database, Tx
from relevo.chassis.problems import FieldError, Problem
from relevo.conversation.conversations_import import MAX_LINE as MAX_JSON_LINE
from relevo.conversation.domain.csv_files import MAX_LINE
from relevo.conversation.store import imports
from relevo.conversation.store.imports import Kind
from relevo.conversation.store.rows import Row

State = Literal["new", "uploaded", "checking", "checked", "running", "done", "cancelled", "failed"]

_AT_WORK: Final = ("checking", "running")
_BOMS: Final = ((codecs.BOM_UTF8, ""), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True, slots=True)
class Format:
    """What a file must be. ``name`` is what people call it; no line has more than ``max_line`` bytes."""

    code: str
    name: str
    max_line: int

    def bad(self, es: str, en: str) -> Problem:
        """422: it is no such file."""
        return Problem(422, self.code, es=es, en=en, errors=(FieldError("", es=es, en=en),))


CSV: Final = Format("bad_csv", "CSV", MAX_LINE)
JSON_LINES: Final = Format("bad_json_lines", "JSON Lines", MAX_JSON_LINE)


async def keep(db: Database, account_id: str, file_id: str, request: Request, wanted: Format) -> int:
    """Store the body in parts as UTF-8 or Latin-1 with line feeds; answers its bytes. Raises Problem 422.

    Each part is a transaction of its own: none stays open while a slow sender thinks.
    """
    size, n, waiting, since_line = 0, 0, bytearray(), 0
    to_text: Callable[[bytes], bytes] | None = None
    async for chunk in request.stream():
        if to_text is None:
            waiting += chunk
            if len(waiting) < 4096:
                continue
            chunk, waiting = bytes(waiting), bytearray()
            chunk, to_text = _opened(chunk, wanted)
        text = to_text(chunk)
        last = text.rfind(b"\n")
        since_line = since_line + len(text) if last < 0 else len(text) - last - 1
        if since_line >= wanted.max_line:
            megabytes = wanted.max_line // (1024 * 1024)
            raise wanted.bad(
                f"Hay una línea de más de {megabytes} MB: comprueba que el archivo es {wanted.name}.",
                f"There is a line of more than {megabytes} MB: check that the file is {wanted.name}.",
            )
        waiting += text
        while len(waiting) >= imports.PART:
            async with db.begin() as tx:
                await imports.add_part(tx, account_id, file_id, n, bytes(waiting[: imports.PART]))
            del waiting[: imports.PART]
            size, n = size + imports.PART, n + 1
    if to_text is None:
        chunk, to_text = _opened(bytes(waiting), wanted)
        waiting = bytearray(to_text(chunk))
    if not size and not waiting.strip():
        raise wanted.bad("El archivo está vacío.", "The file is empty.")
    async with db.begin() as tx:
        await imports.add_part(tx, account_id, file_id, n, bytes(waiting))
    return size + len(waiting)


def _opened(head: bytes, wanted: Format) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The first bytes without their mark, and what brings all bytes to UTF-8 or Latin-1 with line feeds."""
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b")):
        raise wanted.bad(
            f"Es una hoja de cálculo o un archivo comprimido: guárdalo como {wanted.name} y envíalo de nuevo.",
            f"This is a spreadsheet or a compressed file: save it as {wanted.name} and send it again.",
        )
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            head = head[len(mark) :]
            if encoding:
                return head, _transcoded(codecs.getincrementaldecoder(encoding)("replace"))
    if b"\r" in head and b"\n" not in head:
        return head, lambda data: data.replace(b"\r", b"\n")
    return head, lambda data: data


def _transcoded(decoder: codecs.IncrementalDecoder) -> Callable[[bytes], bytes]:
    return lambda data: decoder.decode(data).encode("utf-8", "replace")


async def found(tx: Tx, who: Principal, import_id: UUID, kind: Kind = "contacts", *, lock: bool = False) -> Row:
    """An import of the caller's account. Raises Problem 404."""
    row = await imports.read(tx, who.account_id, str(import_id), kind, lock=lock)
    if row is None:
        raise Problem(404, "import_not_found", es="No existe esa importación.", en="There is no such import.")
    return row


def idle(row: Row) -> Row:
    """The import, of which nothing is under way. Raises Problem 409."""
    if row["state"] in _AT_WORK:
        raise Problem(
            409,
            "import_running",
            es="La importación está en marcha: espera a que acabe o cancélala.",
            en="The import is running: wait until it ends, or cancel it.",
        )
    return row


def with_file(row: Row) -> Row:
    """The import, whose file is there. Raises Problem 409."""
    if row["state"] in ("new", "done"):
        raise Problem(
            409,
            "import_has_no_file",
            es="Esta importación no tiene archivo: envíalo antes.",
            en="This import has no file: send it first.",
        )
    return row


async def cancelled(tx: Tx, who: Principal, import_id: UUID, kind: Kind = "contacts") -> Row:
    """Stop what is under way. Raises Problem 404, and 409 where nothing is."""
    row = await found(tx, who, import_id, kind, lock=True)
    if row["state"] not in _AT_WORK:
        raise Problem(
            409, "import_not_running", es="Esta importación no está en marcha.", en="This import is not running."
        )
    return await imports.end(tx, who.account_id, str(import_id), "cancelled")


def progress_of(row: Row) -> float:
    """From 0 to 1, by the bytes of the file."""
    work, done = row["size"] - row["start_offset"], row["next_offset"] - row["start_offset"]
    return round(min(max(done / work, 0.0), 1.0), 4) if work > 0 and row["started_at"] else 0.0
