"""What can be wrong with a condition, said in Spanish and in English: where, why, and how to mend it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

Language = Literal["en", "es"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault. `path` is a JSON pointer into the tree; `code` is stable, for programs."""

    path: str
    code: str
    details: Mapping[str, Any]

    def reason(self, language: Language = "en") -> str:
        return _TEXTS[self.code][language][0].format_map(self.details)

    def mend(self, language: Language = "en") -> str:
        return _TEXTS[self.code][language][1].format_map(self.details)

    def __str__(self) -> str:
        return f"{self.path or '/'}: {self.reason()} {self.mend()}"


_TEXTS: Final[Mapping[str, Mapping[Language, tuple[str, str]]]] = MappingProxyType(
    {
        "not_a_condition": {
            "en": (
                "This is not a condition.",
                'Give exactly one of "all", "any", "not", or a comparison with "field" and "operator".',
            ),
            "es": (
                "Esto no es una condición.",
                'Indique exactamente uno de "all", "any", "not", o una comparación con "field" y "operator".',
            ),
        },
        "missing": {
            "en": ("A required key is missing.", "Add it."),
            "es": ("Falta una clave obligatoria.", "Agréguela."),
        },
        "unknown_key": {
            "en": ("This key is not known here.", "Remove it."),
            "es": ("Esta clave no se conoce aquí.", "Quítela."),
        },
        "unknown_operator": {
            "en": ("There is no such operator.", "Use one of: {known}."),
            "es": ("No existe ese operador.", "Use uno de: {known}."),
        },
        "empty": {
            "en": ("This is empty.", "Give at least one element or character."),
            "es": ("Esto está vacío.", "Indique al menos un elemento o carácter."),
        },
        "not_a_switch": {
            "en": ("This is neither true nor false.", "Use true or false."),
            "es": ("Esto no es verdadero ni falso.", "Use true o false."),
        },
        "wrong_shape": {
            "en": (
                "This has the wrong shape.",
                'Groups are lists of conditions; "field" is text of 1 to 200 characters.',
            ),
            "es": (
                "Esto no tiene la forma correcta.",
                'Los grupos son listas de condiciones; "field" es un texto de 1 a 200 caracteres.',
            ),
        },
        "too_deep": {
            "en": ("Conditions are nested deeper than {limit} levels.", "Use fewer levels."),
            "es": ("Hay condiciones anidadas a más de {limit} niveles.", "Use menos niveles."),
        },
        "too_many": {
            "en": ("There are more than {limit} conditions.", "Split the rule, or use operators that take a list."),
            "es": ("Hay más de {limit} condiciones.", "Divida la regla o use operadores que aceptan una lista."),
        },
        "unknown_field": {
            "en": ('There is no field "{field}" here.', "Choose a field of this trigger or list."),
            "es": ('Aquí no existe el campo "{field}".', "Elija un campo de este disparador o lista."),
        },
        "operator_unfit": {
            "en": ('"{operator}" does not apply to "{field}", which is of type {type}.', "Use one of: {known}."),
            "es": ('"{operator}" no se aplica a "{field}", que es de tipo {type}.', "Use uno de: {known}."),
        },
        "option_unfit": {
            "en": ('"{option}" has no meaning for "{operator}" here.', "Remove it."),
            "es": ('"{option}" no tiene sentido para "{operator}" aquí.', "Quítela."),
        },
        "value_unwanted": {
            "en": ("This operator takes no value.", "Remove the value."),
            "es": ("Este operador no lleva valor.", "Quite el valor."),
        },
        "value_text": {
            "en": (
                "The value is not text of 1 to {limit} characters.",
                "Give text with at least one letter, digit or sign.",
            ),
            "es": (
                "El valor no es un texto de 1 a {limit} caracteres.",
                "Indique un texto con al menos una letra, cifra o signo.",
            ),
        },
        "value_number": {
            "en": ("The value is not a finite number.", "Give a number such as 12 or 0.5."),
            "es": ("El valor no es un número finito.", "Indique un número como 12 o 0.5."),
        },
        "value_days": {
            "en": ("The value is not a number of days from 0 to {limit}.", "Give a number such as 7 or 0.5."),
            "es": ("El valor no es un número de días entre 0 y {limit}.", "Indique un número como 7 o 0.5."),
        },
        "value_time": {
            "en": (
                "The value is not a time with its offset from UTC.",
                "Write it as 2026-03-01T09:00:00Z or 2026-03-01T09:00:00-05:00.",
            ),
            "es": (
                "El valor no es una hora con su diferencia con UTC.",
                "Escríbala como 2026-03-01T09:00:00Z o 2026-03-01T09:00:00-05:00.",
            ),
        },
        "value_boolean": {
            "en": ("The value is neither true nor false.", "Use true or false."),
            "es": ("El valor no es verdadero ni falso.", "Use true o false."),
        },
        "value_list": {
            "en": ("The value is not a list of 1 to {limit} elements.", "Give a list."),
            "es": ("El valor no es una lista de 1 a {limit} elementos.", "Indique una lista."),
        },
        "value_pattern": {
            "en": (
                "The pattern cannot be used: {fault}.",
                "Write a regular expression in RE2 syntax (no look-around, no back-references) of at most {limit} characters.",
            ),
            "es": (
                "El patrón no se puede usar: {fault}.",
                "Escriba una expresión regular en sintaxis RE2 (sin «look-around» ni referencias) de {limit} caracteres como máximo.",
            ),
        },
    }
)
