"""What the endpoints share: the settings, ids in paths, bodies as text."""

import base64
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Path
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from starlette.requests import Request

from relevo.chassis.paging import decode
from relevo.chassis.problems import FieldError, Problem
from relevo.ingest.domain.refusal import Fault
from relevo.ingest.fairness import Fairness
from relevo.ingest.settings import Settings


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.runtime.settings
    return settings


Config = Annotated[Settings, Depends(_settings)]
"""The service's settings, in an endpoint's signature."""


async def _fairness(request: Request) -> Fairness:
    fairness: Fairness = request.app.state.runtime.extra["fairness"]
    return fairness


Door = Annotated[Fairness, Depends(_fairness)]
"""Who may come in now, in an endpoint's signature."""


def _uuid(value: str) -> str:
    try:
        return str(UUID(value))
    except ValueError:
        raise PydanticCustomError("uuid", "{en}", {"es": "Debe ser un UUID.", "en": "Must be a UUID."}) from None


PathId = Annotated[str, Path(max_length=64), AfterValidator(_uuid)]
"""An id in a path: a UUID in its canonical text form."""


def after_id(cursor: str | None) -> str | None:
    """The id that a page's cursor holds. Raises Problem 422."""
    if cursor is None:
        return None
    (value,) = decode(cursor, str)
    try:
        return str(UUID(value))
    except ValueError:
        raise Problem(
            422, "invalid_cursor", es="El cursor no es de esta lista.", en="The cursor is not of this list."
        ) from None


def as_text(body: bytes) -> tuple[str, Literal["utf-8", "base64"]]:
    """Bytes as they can stand in JSON: as text where they are UTF-8, else in base64."""
    try:
        return body.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"


def field_errors(faults: tuple[Fault, ...], below: str = "") -> list[FieldError]:
    """An event's faults as a problem's fields."""
    return [FieldError(below + fault.pointer, es=fault.es, en=fault.en) for fault in faults]


def not_found(es: str, en: str, code: str) -> Problem:
    """404."""
    return Problem(404, code, es=es, en=en)
