"""Editing over HTTP: an edit names the state that it was made on, so that nobody writes over what they have not seen."""

from typing import Annotated

from fastapi import Header, Response
from pydantic import BaseModel

from relevo.chassis.problems import Problem

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match", max_length=100, description="The ETag of the state that you edit; `*` for whichever it is."
    ),
]


def tag(response: Response, version: int) -> None:
    """Name the state that is answered."""
    response.headers["ETag"] = etag(version)


def check_match(if_match: str | None, version: int, present: BaseModel) -> None:
    """Raises Problem 428 without If-Match, 412 with the present state when it is another one by now."""
    if if_match is None:
        raise Problem(
            428,
            "if_match_missing",
            es="Falta la cabecera If-Match con el ETag de lo que editas: léelo antes.",
            en="The header If-Match with the ETag of what you edit is missing: read it first.",
        )
    if not matches(if_match, version):
        raise Problem(
            412,
            "changed_meanwhile",
            es="Ha cambiado mientras lo editabas: revisa el estado actual y repite el cambio.",
            en="It has changed while you were editing: look at the present state and make the change again.",
            headers={"ETag": etag(version)},
            extra={"present": present.model_dump(mode="json")},
        )


def matches(if_match: str, version: int) -> bool:
    """Whether If-Match names this version, or any."""
    # A compressing proxy makes tags weak; they name the same version.
    given = {part.strip().removeprefix("W/") for part in if_match.split(",")}
    return not given.isdisjoint({"*", etag(version)})


def etag(version: int) -> str:
    """What names a version of what is edited."""
    return f'"{version}"'
