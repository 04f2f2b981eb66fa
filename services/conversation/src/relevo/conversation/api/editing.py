"""What editing over HTTP shares: the state that an edit was made on, and fields that are read one by one."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Header, Response
from pydantic import BaseModel

from relevo.chassis.problems import FieldError, Problem
from relevo.conversation.domain.attributes import Definition, Unfit, fitting

T = TypeVar("T")

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match", max_length=100, description="The ETag of the state that you edit; `*` for whichever it is."
    ),
]


def tag(response: Response, version: int) -> None:
    """Name the state that is answered."""
    response.headers["ETag"] = _etag(version)


def check_match(if_match: str | None, version: int, present: BaseModel) -> None:
    """Raises Problem 428 without If-Match, 412 with the present state when it is another one by now."""
    if if_match is None:
        raise Problem(
            428,
            "if_match_missing",
            es="Falta la cabecera If-Match con el ETag de lo que editas: léelo antes.",
            en="The header If-Match with the ETag of what you edit is missing: read it first.",
        )
    # A compressing proxy makes tags weak; they name the same version.
    given = {part.strip().removeprefix("W/") for part in if_match.split(",")}
    if "*" not in given and _etag(version) not in given:
        raise Problem(
            412,
            "changed_meanwhile",
            es="Ha cambiado mientras lo editabas: revisa el estado actual y repite el cambio.",
            en="It has changed while you were editing: look at the present state and make the change again.",
            headers={"ETag": _etag(version)},
            extra={"present": present.model_dump(mode="json")},
        )


def _etag(version: int) -> str:
    return f'"{version}"'


class Faults:
    """What is wrong with the fields of a request, gathered so that all of it is answered at once."""

    def __init__(self) -> None:
        self._errors: list[FieldError] = []

    def read(self, pointer: str, call: Callable[[], T]) -> T | None:
        """What the call answers; None, with the fault kept, where it raises Unfit."""
        try:
            return call()
        except Unfit as unfit:
            self.add(pointer, unfit)
            return None

    def add(self, pointer: str, unfit: Unfit) -> None:
        """Keep a fault."""
        self._errors.append(FieldError(pointer, es=unfit.es, en=unfit.en))

    def check(self) -> None:
        """Raises Problem 422 when there was any."""
        if self._errors:
            raise Problem(
                422,
                "validation_failed",
                es="Hay campos que corregir.",
                en="Some fields must be mended.",
                errors=self._errors,
            )


def attribute_values(
    faults: Faults, definitions: Mapping[str, Definition], given: Mapping[str, Any], pointer: str = "/attributes"
) -> dict[str, Any]:
    """Values of custom attributes in the form in which they are stored; None stays: it takes one away."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        at = f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
        definition = definitions.get(key)
        if value is None:
            found[key] = None
        elif definition is None:
            faults.add(
                at,
                Unfit(
                    "No hay ningún atributo con esa clave: créalo antes en /attributes.",
                    "There is no attribute with that key: define it first, at /attributes.",
                ),
            )
        else:
            found[key] = faults.read(at, lambda d=definition, v=value: fitting(d, v))  # type: ignore[misc]
    return found
