"""Why an inbound event was refused: a stable code, the place in the document, and the reason in both languages."""

from dataclasses import dataclass, replace
from typing import Final, Literal

Language = Literal["es", "en"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an event. ``pointer`` is a JSON pointer into the event ('' is the whole of it)."""

    code: str
    es: str
    en: str
    pointer: str = ""

    def text(self, language: Language) -> str:
        """The reason in the language asked for."""
        return self.es if language == "es" else self.en

    def below(self, prefix: str) -> "Fault":
        """The same fault seen from the document that holds the event at ``prefix``."""
        return replace(self, pointer=prefix + self.pointer)


class Refused(Exception):
    """The event was not taken. ``faults`` is never empty; the first one is the one to show where one fits."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(f"{fault.pointer or '/'}: {fault.en}" for fault in faults))
        self.faults = faults

    @property
    def first(self) -> Fault:
        return self.faults[0]


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901) to a place."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


# type of pydantic's error -> (our code, es, en); the texts take the error's context.
_SCHEMA: Final[dict[str, tuple[str, str, str]]] = {
    "missing": ("field_missing", "Falta este campo obligatorio.", "This required field is missing."),
    "string_type": ("not_text", "Debe ser un texto.", "It must be text."),
    "string_unicode": ("not_text", "No es un texto Unicode válido.", "It is not valid Unicode text."),
    "string_too_short": ("text_too_short", "No puede estar vacío.", "It must not be empty."),
    "string_too_long": (
        "text_too_long",
        "Es demasiado largo: como máximo {max_length} caracteres.",
        "It is too long: at most {max_length} characters.",
    ),
    "too_long": (
        "too_many",
        "Hay demasiados elementos: como máximo {max_length}.",
        "There are too many items: at most {max_length}.",
    ),
    "model_type": ("not_object", "Debe ser un objeto.", "It must be an object."),
    "model_attributes_type": ("not_object", "Debe ser un objeto.", "It must be an object."),
    "dict_type": ("not_object", "Debe ser un objeto.", "It must be an object."),
    "tuple_type": ("not_list", "Debe ser una lista.", "It must be a list."),
    "union_tag_not_found": (
        "kind_missing",
        "Falta «kind»: debe ser message o status.",
        "The field kind is missing: it must be message or status.",
    ),
    "union_tag_invalid": (
        "kind_unknown",
        "«kind» debe ser message o status.",
        "The field kind must be message or status.",
    ),
    "literal_error": ("not_one_of", "Debe ser uno de: {expected}.", "It must be one of: {expected}."),
    "timezone_aware": (
        "time_without_offset",
        "La hora necesita zona: por ejemplo 2026-03-01T09:30:00Z.",
        "The time needs an offset: for example 2026-03-01T09:30:00Z.",
    ),
    "greater_than_equal": ("number_too_small", "Debe ser al menos {ge}.", "It must be at least {ge}."),
}
_TIMES: Final = ("datetime", "date", "time")
_NUMBERS: Final = ("int", "float", "finite_number")


def schema_fault(kind: str, place: str, context: dict[str, object]) -> Fault:
    """The fault for one error of the schema's validator."""
    if kind in _SCHEMA:
        code, es, en = _SCHEMA[kind]
        return Fault(code, es.format_map(_Shown(context)), en.format_map(_Shown(context)), place)
    if kind.startswith(_TIMES):
        return not_a_time(place)
    if kind.startswith(_NUMBERS):
        return Fault("not_whole_number", "Debe ser un número entero.", "It must be a whole number.", place)
    return Fault("value_invalid", "El valor no es válido.", "The value is not valid.", place)


class _Shown(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "?"


def not_a_time(place: str) -> Fault:
    return Fault(
        "not_a_time",
        "Debe ser una hora RFC 3339 con zona, por ejemplo 2026-03-01T09:30:00Z.",
        "It must be an RFC 3339 time with an offset, for example 2026-03-01T09:30:00Z.",
        place,
    )


NOT_UTF8: Final = Fault("not_utf8", "El cuerpo no está en UTF-8.", "The body is not UTF-8.")
NOT_JSON: Final = Fault("not_json", "El cuerpo no es JSON válido.", "The body is not valid JSON.")
TOO_DEEP: Final = Fault(
    "too_deep",
    "El JSON tiene demasiados niveles anidados.",
    "The JSON is nested too deeply.",
)
DUPLICATE_FIELD: Final = Fault(
    "duplicate_field",
    "Un objeto repite un campo: no se sabe cuál de los valores vale.",
    "An object repeats a field: which of the values counts is not known.",
)
NUMBER_RANGE: Final = Fault(
    "number_out_of_range",
    "Un número no es representable (demasiado grande, NaN o infinito).",
    "A number cannot be represented (too large, NaN or infinite).",
)
FIELD_NAME: Final = Fault(
    "field_name_invalid",
    "El nombre de un campo contiene caracteres de control o no es Unicode válido.",
    "A field's name holds control characters or is not valid Unicode.",
)
NOT_OBJECT: Final = Fault("not_object", "Debe ser un objeto.", "It must be an object.")
NOT_BATCH: Final = Fault(
    "malformed_batch",
    "El cuerpo debe ser un objeto con la lista «events».",
    "The body must be an object with the list events.",
    "/events",
)
ALREADY_ACCEPTED: Final = Fault(
    "different_body",
    "Ya se aceptó un evento con este identificador y otro contenido: vale el primero.",
    "An event with this id and other content was accepted before: the first one stands.",
    "/external_id",
)


def too_many_events(found: int, most: int) -> Fault:
    return Fault(
        "too_many_events",
        f"Hay {found} eventos y caben {most}: repártelos en varias peticiones.",
        f"There are {found} events and {most} fit: send them in several requests.",
        "/events",
    )


def bad_identifier(place: str) -> Fault:
    return Fault(
        "identifier_invalid",
        "Un identificador no puede estar en blanco ni llevar caracteres de control, bidireccionales o Unicode roto.",
        "An identifier must not be blank, nor hold control characters, bidirectional ones or broken Unicode.",
        place,
    )


def bad_url(place: str) -> Fault:
    return Fault(
        "url_invalid",
        "Debe ser una dirección http o https.",
        "It must be an http or https address.",
        place,
    )


def in_future(seconds: float) -> Fault:
    hours = round(seconds / 3600)
    return Fault(
        "occurred_at_in_future",
        f"La hora está más de {hours} h en el futuro: revise el reloj o la zona horaria del adaptador.",
        f"The time is more than {hours} h in the future: check the adapter's clock or time zone.",
        "/occurred_at",
    )


def too_large(limit: int) -> Fault:
    return Fault(
        "event_too_large",
        f"El evento ocupa demasiado: como máximo {limit} bytes de JSON (sin «raw»).",
        f"The event is too large: at most {limit} bytes of JSON (raw apart).",
    )


SENDER_KEY_MISMATCH: Final = Fault(
    "sender_key_mismatch",
    "La clave del remitente en el asunto no es la que corresponde a sender.id.",
    "The sender key in the subject is not the one that belongs to sender.id.",
    "/sender/id",
)
KIND_MISMATCH: Final = Fault(
    "kind_mismatch",
    "El tipo del asunto no coincide con «kind».",
    "The kind in the subject differs from the field kind.",
    "/kind",
)
SUBJECT_INVALID: Final = Fault(
    "subject_invalid",
    "El asunto no tiene la forma inbound.<cuenta>.<buzón>.<remitente>.<tipo>.",
    "The subject has not the form inbound.<account>.<inbox>.<sender>.<kind>.",
)
INBOX_UNKNOWN: Final = Fault(
    "inbox_unknown",
    "No hay ningún buzón con ese identificador en la cuenta.",
    "The account has no inbox with that id.",
)
INBOX_DISABLED: Final = Fault(
    "inbox_disabled",
    "El buzón está desactivado.",
    "The inbox is switched off.",
)
