"""Signatures: of webhooks, so that their receiver knows who calls; of visitors' tokens, so that we know who writes.

A webhook carries `X-Relevo-Timestamp` (seconds since 1970) and `X-Relevo-Signature`: `v1=` and the hex of
HMAC-SHA256 under the inbox's secret over the timestamp, a dot and the body, byte for byte. For a day after a change
of the secret there are two, with a comma between: any good one will do. `X-Relevo-Delivery` is the message's id: the
same message may come twice. A receiver should refuse timestamps older than five minutes.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

TIMESTAMP: Final = "X-Relevo-Timestamp"
SIGNATURE: Final = "X-Relevo-Signature"
DELIVERY: Final = "X-Relevo-Delivery"

_PURPOSE: Final = b"relevo webchat visitor v1"


def signature(secrets: Sequence[bytes], timestamp: int, body: bytes) -> str:
    """The value of the signature header, one part a secret."""
    signed = str(timestamp).encode() + b"." + body
    return ",".join(f"v1={hmac.new(secret, signed, hashlib.sha256).hexdigest()}" for secret in secrets)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who chats in one inbox. `expires` is in seconds since 1970; `language` is their browser's, as BCP 47."""

    id: str
    account_id: str
    inbox_id: str
    name: str
    expires: int
    language: str | None = None


def visitor_token(key: bytes, visitor: Visitor) -> str:
    """What a visitor shows to be who they are."""
    payload = _encode(json.dumps(asdict(visitor), separators=(",", ":")).encode())
    return f"{payload}.{_encode(_mac(key, payload))}"


def read_visitor_token(key: bytes, token: str, inbox_id: str, now: datetime) -> Visitor | None:
    """The visitor of a token; None when it is not ours, of another inbox, or expired."""
    payload, _, mac = token.partition(".")
    try:
        genuine = hmac.compare_digest(_mac(key, payload), _decode(mac))
        visitor = Visitor(**json.loads(_decode(payload))) if genuine else None
    except (ValueError, TypeError, binascii.Error):
        return None
    if visitor is None or visitor.inbox_id != inbox_id or datetime.fromtimestamp(visitor.expires, UTC) <= now:
        return None
    return visitor


def _mac(key: bytes, payload: str) -> bytes:
    own = hmac.new(key, _PURPOSE, hashlib.sha256).digest()
    return hmac.new(own, payload.encode(), hashlib.sha256).digest()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
