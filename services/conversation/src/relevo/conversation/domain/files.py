"""Attachments: which types are taken, and addresses that are good for a while for whoever has them."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from relevo.conversation.domain.state import Refused

MAX_BYTES: Final = 40 * 1024 * 1024
_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})", re.IGNORECASE)
LOOK: Final = 512
"""Bytes at a file's beginning that tell its type."""

_ZIP: Final = (b"PK\x03\x04",)
_OLE: Final = (b"\xd0\xcf\x11\xe0",)
_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
# The type that is claimed, and how such a file begins (at an offset for some). Nothing that a browser would run.
_BEGINNINGS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "application/pdf": (b"%PDF-",),
    "audio/mpeg": (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"),
    "audio/aac": (b"\xff\xf1", b"\xff\xf9"),
    "audio/ogg": (b"OggS",),
    "video/webm": (b"\x1aE\xdf\xa3",),
    "audio/webm": (b"\x1aE\xdf\xa3",),
    "application/zip": _ZIP,
    f"{_OFFICE}.wordprocessingml.document": _ZIP,
    f"{_OFFICE}.spreadsheetml.sheet": _ZIP,
    f"{_OFFICE}.presentationml.presentation": _ZIP,
    "application/vnd.oasis.opendocument.text": _ZIP,
    "application/vnd.oasis.opendocument.spreadsheet": _ZIP,
    "application/msword": _OLE,
    "application/vnd.ms-excel": _OLE,
}
_RIFF: Final = {"image/webp": b"WEBP", "audio/wav": b"WAVE"}
_MP4: Final = frozenset({"video/mp4", "audio/mp4", "video/3gpp"})
_TEXT: Final = frozenset({"text/plain", "text/csv"})
SHOWN: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Types that a browser may show in its place; everything else it saves."""
TYPES: Final = tuple(sorted({*_BEGINNINGS, *_RIFF, *_MP4, *_TEXT}))


def check_type(claimed: str, beginning: bytes) -> str:
    """The type of a file that is what it claims to be. Raises Refused for others, and for types that are not taken."""
    kind = claimed.partition(";")[0].strip().lower()
    if kind not in TYPES:
        raise Refused(
            "file_type_not_taken",
            es=f"No se admiten archivos de este tipo. Se admiten: {', '.join(TYPES)}.",
            en=f"Files of this type are not taken. These are: {', '.join(TYPES)}.",
            pointer="/header/content-type",
        )
    if not _begins_as(kind, beginning):
        raise Refused(
            "file_is_something_else",
            es=f"El contenido del archivo no es {kind}: comprueba que no esté dañado ni mal nombrado.",
            en=f"The file's content is not {kind}: check that it is neither damaged nor misnamed.",
            pointer="/header/content-type",
        )
    return kind


def _begins_as(kind: str, beginning: bytes) -> bool:
    if kind in _TEXT:
        return b"\0" not in beginning
    if kind in _RIFF:
        return beginning[:4] == b"RIFF" and beginning[8:12] == _RIFF[kind]
    if kind in _MP4:
        return beginning[4:8] == b"ftyp"
    return beginning.startswith(_BEGINNINGS[kind])


def part(asked: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the number of bytes that a Range header asks of a file; None: all of it, for want of one range.

    Raises Refused for a range beyond the end. Several ranges, and what cannot be understood, are as no header (RFC 9110).
    """
    match = _RANGE.fullmatch(asked.strip()) if asked else None
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        first, last = int(match[1]), min(int(match[2]) if match[2] else size - 1, size - 1)
        if match[2] and int(match[2]) < first:
            return None
    else:
        first, last = max(size - int(match[2]), 0), size - 1
    if first >= size or first > last:
        raise Refused(
            "range_beyond_the_end",
            es=f"El archivo tiene {size} bytes: pide una parte que esté dentro.",
            en=f"The file has {size} bytes: ask for a part within them.",
            pointer="/header/range",
        )
    return first, last - first + 1


def signature(secret: bytes, account_id: str, file_id: str, expires: int) -> str:
    """What makes an address good until ``expires`` (seconds since 1970)."""
    return hmac.new(secret, f"{account_id}/{file_id}/{expires}".encode(), hashlib.sha256).hexdigest()


def is_good(secret: bytes, account_id: str, file_id: str, expires: int, given: str, now: datetime) -> bool:  # noqa: PLR0917
    """Whether an address was signed by us and is still good."""
    wanted = signature(secret, account_id, file_id, expires)
    return hmac.compare_digest(wanted.encode(), given.encode()) and now.timestamp() < expires


def object_name(account_id: str, file_id: str) -> str:
    """The name of a file in the object store."""
    return f"{account_id}/{file_id}"
