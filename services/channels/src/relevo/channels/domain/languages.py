"""What language a browser prefers, by the header that it sends."""

import re
from typing import Final

_RANGE: Final = re.compile(
    r"\s*([A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,3})\s*(?:;\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?"
)
_LONGEST: Final = 1_000


def preferred_language(header: str) -> str | None:
    """The language of the highest quality in an Accept-Language header (RFC 9110, 12.5.4), the first of equals.

    None when there is none that says more than "any".
    """
    best: tuple[float, str] | None = None
    for part in header[:_LONGEST].split(","):
        found = _RANGE.fullmatch(part)
        quality = float(found[2] or 1) if found else 0.0
        if found and quality > 0 and (best is None or quality > best[0]):
            best = (quality, found[1])
    return best[1] if best else None
