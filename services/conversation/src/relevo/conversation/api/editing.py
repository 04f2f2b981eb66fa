"""What editing over HTTP shares: fields that are read one by one."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from relevo.chassis.problems import FieldError, Problem
from relevo.conversation.domain.attributes import Definition, Unfit, fitting

T = TypeVar("T")


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
