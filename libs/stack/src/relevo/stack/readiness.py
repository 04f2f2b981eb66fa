"""What a service says of itself at /readyz, in one line."""

from collections.abc import Mapping


def told(missing: Mapping[str, str]) -> str:
    """What is missing, by name. Partitions of one stream want the same thing: they are counted, and the first one speaks."""
    streams: dict[str, list[str]] = {}
    for name in missing:
        streams.setdefault(name.partition("/")[0], []).append(name)
    return "; ".join(
        f"{first}{f' and {len(others)} more' if others else ''}: {missing[first]}"
        for first, *others in streams.values()
    )
