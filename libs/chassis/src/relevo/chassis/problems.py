"""Errors over HTTP: RFC 9457 problem+json with a stable `code`, field pointers, in Spanish or English.

    {type, title, status, code, detail, errors: [{pointer, detail}]}

A pointer is a JSON pointer into the body; parameters are `/query/NAME`, `/path/NAME`, `/header/NAME`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request

from relevo.kernel.conditions import ConditionError

Language = Literal["es", "en"]
MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field, and how to mend it, in both languages."""

    pointer: str
    es: str
    en: str


class Problem(Exception):
    """An answer that is an error. `code` is stable and for programs; `es` and `en` are for people."""

    def __init__(
        self,
        status: int,
        code: str,
        *,
        es: str,
        en: str,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {en}")
        self.status = status
        self.code = code
        self.es = es
        self.en = en
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})
        """More members of the answer, such as the present state with 412."""


def unavailable(code: str = "not_ready", *, es: str, en: str, retry_after: int = 1) -> Problem:
    """503 with Retry-After (seconds): right now it cannot be known; the same request later can succeed."""
    return Problem(503, code, es=es, en=en, headers={"Retry-After": str(retry_after)})


def invalid_fields(errors: Sequence[FieldError]) -> Problem:
    """422: what a request says does not fit what there is."""
    return Problem(
        422, "validation_failed", es="Hay campos que corregir.", en="Some fields must be mended.", errors=errors
    )


def from_conditions(refused: ConditionError, pointer: str) -> list[FieldError]:
    """Every fault of a condition tree that stands at this pointer."""
    return [
        FieldError(
            f"{pointer}{fault.path}",
            es=f"{fault.reason('es')} {fault.mend('es')}",
            en=f"{fault.reason('en')} {fault.mend('en')}",
        )
        for fault in refused.problems
    ]


class FieldProblem(BaseModel):
    """One field of a refused request."""

    pointer: str = Field(description="JSON pointer into the body, or /query/NAME, /path/NAME, /header/NAME")
    detail: str


class ProblemBody(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    code: str = Field(description="Stable, for programs.")
    detail: str
    errors: list[FieldProblem] = []


def language_of(connection: HTTPConnection) -> Language:
    """The language to answer in: what Accept-Language prefers, else the principal's own, else Spanish."""
    best: Language | None = None
    best_weight = 0.0
    for part in connection.headers.get("accept-language", "").split(","):
        tag, _, quality = part.partition(";")
        try:
            weight = float(quality.strip().removeprefix("q=") or 1)
        except ValueError:
            weight = 0.0
        short = tag.strip().lower().split("-")[0]
        if weight > best_weight and short in ("es", "en"):
            best, best_weight = ("es" if short == "es" else "en"), weight
    if best is not None:
        return best
    principal = getattr(connection.state, "principal", None)
    return "en" if getattr(principal, "language", "es") == "en" else "es"


def response(problem: Problem, language: Language) -> JSONResponse:
    """The problem as an answer in this language."""
    body = {
        "type": f"urn:relevo:problem:{problem.code}",
        "title": _title(problem.status, language),
        "status": problem.status,
        "code": problem.code,
        "detail": problem.es if language == "es" else problem.en,
        "errors": [
            {"pointer": error.pointer, "detail": error.es if language == "es" else error.en} for error in problem.errors
        ],
        **problem.extra,
    }
    headers = {"Content-Language": language, "Vary": "Accept-Language", **problem.headers}
    return JSONResponse(body, problem.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Have the application answer every error as a problem; the unexpected ones are the middleware's (500)."""

    async def on_problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return response(error, language_of(request))

    async def on_validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return response(from_validation(error.errors()), language_of(request))

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return response(from_http(error), language_of(request))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


def from_http(error: HTTPException) -> Problem:
    """A problem for the errors that the framework raises itself."""
    code, es, en = _HTTP.get(
        error.status_code,
        (
            f"http_{error.status_code}",
            "La petición no se puede atender.",
            "The request cannot be served.",
        ),
    )
    return Problem(error.status_code, code, es=es, en=en, headers=error.headers)


def internal(correlation_id: str) -> Problem:
    """500, with the id that finds the cause in the logs."""
    return Problem(
        500,
        "internal_error",
        es=f"Algo ha fallado en el servidor. Si se repite, indica este identificador: {correlation_id}",
        en=f"Something failed on the server. If it happens again, quote this identifier: {correlation_id}",
        extra={"correlation_id": correlation_id},
    )


def from_validation(errors: Sequence[Any]) -> Problem:
    """422 with one entry per field, from pydantic's errors as FastAPI reports them."""
    found: dict[str, list[FieldError]] = {}
    for error in errors:
        field = _field(error)
        if field not in (same := found.setdefault(field.pointer, [])):
            same.append(field)
    # Of what may be one thing or another, each says why it is not that.
    fields = [
        FieldError(pointer, es=" O bien: ".join(one.es for one in same), en=" Or: ".join(one.en for one in same))
        for pointer, same in found.items()
    ]
    malformed = any(error["type"] == "json_invalid" for error in errors)
    return Problem(
        400 if malformed else 422,
        "malformed_json" if malformed else "validation_failed",
        es="El cuerpo no es JSON válido." if malformed else "Hay campos que corregir.",
        en="The body is not valid JSON." if malformed else "Some fields must be mended.",
        errors=fields,
    )


def _field(error: Mapping[str, Any]) -> FieldError:
    kind: str = error["type"]
    context: Mapping[str, Any] = error.get("ctx") or {}
    if kind == "json_invalid":
        reason = context.get("error", "")
        return FieldError("", es=f"JSON mal formado: {reason}.", en=f"Malformed JSON: {reason}.")
    pointer = _pointer(error["loc"])
    if "es" in context and "en" in context:  # a PydanticCustomError that brings both languages
        return FieldError(pointer, es=str(context["es"]), en=str(context["en"]))
    template = _REASONS.get(kind)
    if template is None:
        text = str(error.get("msg", "")).removeprefix("Value error, ")
        return FieldError(pointer, es=f"El valor no es válido ({text}).", en=f"The value is not valid ({text}).")
    values = {name: str(value) for name, value in context.items()}
    try:
        return FieldError(pointer, es=template[0].format(**values), en=template[1].format(**values))
    except (KeyError, IndexError):
        return FieldError(pointer, es="El valor no es válido.", en="The value is not valid.")


def _pointer(location: Sequence[str | int]) -> str:
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in location]
    if parts and parts[0] == "body":
        parts = parts[1:]
    elif parts and parts[0] in {"query", "path", "header", "cookie"}:
        parts = parts[:2]  # below a parameter's name there are only the kinds of thing that it may be
    return "".join(f"/{part}" for part in parts)


def _title(status: int, language: Language) -> str:
    if language == "es" and status in _TITLES_ES:
        return _TITLES_ES[status]
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


_TITLES_ES: Final = {
    400: "Petición incorrecta",
    401: "No autenticado",
    403: "Prohibido",
    404: "No encontrado",
    405: "Método no permitido",
    409: "Conflicto",
    410: "Ya no existe",
    412: "La condición no se cumple",
    413: "Demasiado grande",
    415: "Tipo de contenido no admitido",
    422: "No se puede procesar",
    423: "Bloqueado",
    428: "Falta una condición",
    429: "Demasiadas peticiones",
    500: "Error interno",
    501: "No disponible",
    503: "No disponible ahora",
}

_HTTP: Final = {
    400: ("bad_request", "La petición no se puede leer.", "The request cannot be read."),
    401: ("unauthenticated", "Hay que iniciar sesión.", "Sign in first."),
    403: ("forbidden", "No tienes permiso para esto.", "You are not allowed to do this."),
    404: ("not_found", "No existe nada en esta dirección.", "There is nothing at this address."),
    405: ("method_not_allowed", "Esta dirección no admite ese método.", "This address does not take that method."),
    413: (
        "too_large",
        "El cuerpo de la petición es demasiado grande: envía menos datos de una vez.",
        "The request's body is too large: send less at once.",
    ),
    415: (
        "unsupported_media_type",
        "Envía el cuerpo como application/json.",
        "Send the body as application/json.",
    ),
}

_WHOLE = ("Debe ser un número entero.", "Must be a whole number.")
_NUMBER = ("Debe ser un número.", "Must be a number.")
_YES_NO = ("Debe ser true o false.", "Must be true or false.")
_UUID = ("Debe ser un UUID.", "Must be a UUID.")
_MOMENT = (
    "Debe ser una fecha y hora RFC 3339, como 2025-01-31T09:30:00Z.",
    "Must be an RFC 3339 date and time, such as 2025-01-31T09:30:00Z.",
)
_DATE = ("Debe ser una fecha, como 2025-01-31.", "Must be a date, such as 2025-01-31.")
_LIST = ("Debe ser una lista.", "Must be a list.")
_OBJECT = ("Debe ser un objeto.", "Must be an object.")
_CHOICE = ("Debe ser uno de: {expected}.", "Must be one of: {expected}.")
_REASONS: Final[Mapping[str, tuple[str, str]]] = {
    "missing": ("Falta este campo.", "This field is missing."),
    "extra_forbidden": ("Este campo no existe: quítalo.", "There is no such field: remove it."),
    "string_type": ("Debe ser un texto.", "Must be text."),
    "string_too_short": (
        "Es demasiado corto: al menos {min_length} caracteres.",
        "Too short: at least {min_length} characters.",
    ),
    "string_too_long": (
        "Es demasiado largo: como mucho {max_length} caracteres.",
        "Too long: at most {max_length} characters.",
    ),
    "string_pattern_mismatch": ("No tiene la forma esperada: {pattern}", "Does not have the expected form: {pattern}"),
    "too_short": ("Faltan elementos: el mínimo es {min_length}.", "Too few items: the least is {min_length}."),
    "too_long": ("Como mucho {max_length} elementos.", "At most {max_length} items."),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "decimal_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "bool_type": _YES_NO,
    "bool_parsing": _YES_NO,
    "greater_than": ("Debe ser mayor que {gt}.", "Must be greater than {gt}."),
    "greater_than_equal": ("Debe ser {ge} o más.", "Must be {ge} or more."),
    "less_than": ("Debe ser menor que {lt}.", "Must be less than {lt}."),
    "less_than_equal": ("Debe ser {le} o menos.", "Must be {le} or less."),
    "enum": _CHOICE,
    "literal_error": _CHOICE,
    "uuid_type": _UUID,
    "uuid_parsing": _UUID,
    "datetime_type": _MOMENT,
    "datetime_parsing": _MOMENT,
    "datetime_from_date_parsing": _MOMENT,
    "timezone_aware": (
        "Falta la zona horaria: termina en Z o en +02:00.",
        "The time zone is missing: end with Z or +02:00.",
    ),
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dataclass_type": _OBJECT,
    "union_tag_invalid": ("El tipo debe ser uno de: {expected_tags}.", "The type must be one of: {expected_tags}."),
    "union_tag_not_found": ("Falta el tipo ({discriminator}).", "The type is missing ({discriminator})."),
    "none_required": ("Debe ser null.", "Must be null."),
    "url_parsing": ("Debe ser una dirección web completa.", "Must be a complete web address."),
    "url_scheme": (
        "La dirección debe empezar por: {expected_schemes}.",
        "The address must begin with: {expected_schemes}.",
    ),
}
