"""Other values in a condition tree as it is written: when what a value names has another name from now on."""

from collections.abc import Collection, Mapping
from typing import Any


def with_values(raw: Any, fields: Collection[str], values: Mapping[str, str]) -> Any:
    """The tree with ``values`` put in place of what the leaves of these fields compare with; the rest as it is.

    Takes any JSON: what is no condition is left to whoever parses it. A list that would name one twice names it once.
    """
    if isinstance(raw, list):
        return [with_values(one, fields, values) for one in raw]
    if not isinstance(raw, dict):
        return raw
    if "field" not in raw:
        return {name: with_values(value, fields, values) for name, value in raw.items()}
    if raw["field"] not in fields or "value" not in raw:
        return raw
    value = raw["value"]
    if isinstance(value, str):
        return {**raw, "value": values.get(value, value)}
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return {**raw, "value": list(dict.fromkeys(values.get(one, one) for one in value))}
    return raw


def values_of(raw: Any, fields: Collection[str]) -> set[str]:
    """What the leaves of these fields compare with, as far as it is text."""
    if isinstance(raw, list):
        return {value for one in raw for value in values_of(one, fields)}
    if not isinstance(raw, dict):
        return set()
    if "field" not in raw:
        return {value for one in raw.values() for value in values_of(one, fields)}
    value = raw.get("value") if raw["field"] in fields else None
    return {one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)}
