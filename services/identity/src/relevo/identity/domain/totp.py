"""One-time codes as authenticator apps make them (RFC 6238: SHA-1, 30 seconds, six digits), and recovery codes."""

import base64
import hmac
import secrets
import struct
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

STEP_SECONDS: Final = 30
DIGITS: Final = 6
SKEW: Final = 1
"""How many steps the clock of the app may be off, either way."""
RECOVERY_CODES: Final = 10
_SECRET_BYTES: Final = 20
_RECOVERY_BYTES: Final = 10
ISSUER: Final = "Relevo"


def new_secret() -> bytes:
    """The secret that app and server share."""
    return secrets.token_bytes(_SECRET_BYTES)


def step_of(at: datetime) -> int:
    """The number of the step that a moment lies in."""
    return int(at.timestamp()) // STEP_SECONDS


def code(secret: bytes, step: int, *, digits: int = DIGITS) -> str:
    """The code of a step."""
    mac = hmac.digest(secret, struct.pack(">Q", step), "sha1")
    offset = mac[-1] & 0x0F
    number = int.from_bytes(mac[offset : offset + 4]) & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def accepted(secret: bytes, given: str, at: datetime, *, last_step: int) -> int | None:
    """The step whose code was given, None when it is of none that counts now.

    A step counts once: those up to ``last_step`` are used up. Every candidate is compared, and in constant time.
    """
    typed = "".join(given.split()).encode()
    found = None
    for step in range(step_of(at) - SKEW, step_of(at) + SKEW + 1):
        if hmac.compare_digest(code(secret, step).encode(), typed) and step > last_step:
            found = step
    return found


def uri(secret: bytes, email: str) -> str:
    """What the app reads from the picture."""
    parameters = urlencode({"secret": shown(secret), "issuer": ISSUER}, quote_via=quote)
    return f"otpauth://totp/{quote(f'{ISSUER}:{email}', safe='')}?{parameters}"


def shown(secret: bytes) -> str:
    """The secret as people type it."""
    return base64.b32encode(secret).decode()


def new_recovery_codes() -> list[str]:
    """Codes that work once each, of 80 random bits: no slow hash is needed."""
    raw = [base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode() for _ in range(RECOVERY_CODES)]
    return ["-".join(one[at : at + 4] for at in range(0, len(one), 4)) for one in raw]


def normal_recovery_code(given: str) -> str:
    """A recovery code however it was typed."""
    return "".join(given.replace("-", "").split()).upper()
