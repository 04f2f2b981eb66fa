"""What contacts can be filtered by, and filters as they are judged and stored."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from relevo.conversation.domain.attributes import FIELD_TYPES, Definition
from relevo.kernel.conditions import Condition, FieldType, parse

FIELDS: Final[Mapping[str, FieldType]] = MappingProxyType(
    {
        "name": FieldType.TEXT,
        "email": FieldType.TEXT,
        "phone": FieldType.TEXT,
        "identifier": FieldType.TEXT,
        "company": FieldType.TEXT,
        "city": FieldType.TEXT,
        "country": FieldType.KEYWORD,
        "language": FieldType.KEYWORD,
        "labels": FieldType.LIST,
        "blocked": FieldType.BOOLEAN,
        "created_at": FieldType.DATETIME,
        "last_activity_at": FieldType.DATETIME,
    }
)


def schema(definitions: Mapping[str, Definition]) -> dict[str, FieldType]:
    """Every field that a filter of this account may name; custom attributes are `attributes.KEY`."""
    own = {f"attributes.{key}": FIELD_TYPES[one.kind] for key, one in definitions.items()}
    return {**FIELDS, **own}


def condition(raw: Any, definitions: Mapping[str, Definition]) -> Condition:
    """A filter, checked. Raises ConditionError."""
    return parse(raw, schema(definitions))
