"""Web push: what a push service wants (VAPID, RFC 8292), and what only the device can read (RFC 8291, RFC 8188)."""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MAX_PAYLOAD: Final = 3000
"""Bytes; push services take encrypted bodies up to 4096."""
_RECORD: Final = 4096
_CURVE: Final = ec.SECP256R1()
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_AUTH_BYTES: Final = 16
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*={0,2}\Z")


class BadSubscription(ValueError):
    """A device's keys are none."""


def vapid_key(seed: str) -> ec.EllipticCurvePrivateKey:
    """The installation's key: always the same of the same seed, so that subscriptions live as long as it."""
    number = int.from_bytes(_derived(seed.encode(), salt=b"", info=b"relevo vapid", length=48))
    return ec.derive_private_key(number % (_ORDER - 1) + 1, _CURVE)


def public_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half, as an uncompressed point: what a browser subscribes with."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def authorization(key: ec.EllipticCurvePrivateKey, endpoint: str, subject: str, expires: datetime) -> str:
    """The header by which a push service knows whose pushes these are. ``subject`` is mailto: or https:."""
    parts = urlsplit(endpoint)
    claims = {"aud": f"{parts.scheme}://{parts.netloc}", "exp": int(expires.timestamp()), "sub": subject}
    return f"vapid t={jwt.encode(claims, key, algorithm='ES256')}, k={encoded(public_point(key))}"


def device_key(p256dh: str) -> bytes:
    """A device's public key as it subscribed. Raises BadSubscription."""
    point = _decoded(p256dh)
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, point)
    except ValueError:
        raise BadSubscription("p256dh is no point of the curve P-256") from None
    return point


def device_secret(auth: str) -> bytes:
    """A device's secret as it subscribed. Raises BadSubscription."""
    secret = _decoded(auth)
    if len(secret) != _AUTH_BYTES:
        raise BadSubscription(f"auth has {len(secret)} bytes, not {_AUTH_BYTES}")
    return secret


def encrypted(payload: bytes, point: bytes, secret: bytes, *, own: ec.EllipticCurvePrivateKey, salt: bytes) -> bytes:
    """A body (`aes128gcm`) that only the device reads. ``own`` and ``salt`` (16 bytes) are new for each message.

    Raises ValueError for more than MAX_PAYLOAD bytes.
    """
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"{len(payload)} bytes are more than {MAX_PAYLOAD}")
    device = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, point)
    mine = public_point(own)
    shared = _derived(own.exchange(ec.ECDH(), device), salt=secret, info=b"WebPush: info\0" + point + mine, length=32)
    key = _derived(shared, salt=salt, info=b"Content-Encoding: aes128gcm\0", length=16)
    nonce = _derived(shared, salt=salt, info=b"Content-Encoding: nonce\0", length=12)
    header = salt + _RECORD.to_bytes(4) + len(mine).to_bytes(1) + mine
    return header + AESGCM(key).encrypt(nonce, payload + b"\x02", None)


def payload(told: Mapping[str, Any]) -> str:
    """What a device is told, as JSON of MAX_PAYLOAD bytes at most; `title` and `body` are cut until it fits."""
    kept = dict(told)
    while len(text := json.dumps(kept, ensure_ascii=False)) > MAX_PAYLOAD or len(text.encode()) > MAX_PAYLOAD:
        longest = max(("title", "body"), key=lambda name: len(kept[name]))
        if not kept[longest]:
            raise ValueError("even without its texts it is too long")
        kept[longest] = kept[longest][: len(kept[longest]) // 2]
    return text


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key for one message."""
    return ec.generate_private_key(_CURVE)


def topic(text: str) -> str:
    """A name under which a push service keeps only the newest message for a device that is away."""
    return encoded(hashlib.sha256(text.encode()).digest())[:32]


def is_allowed(endpoint: str, hosts: str) -> bool:
    """Whether pushes may go there: to one of these hosts (with commas) or below it, over TLS.

    A host that is given with its scheme, as http://127.0.0.1, is taken as it is. Endpoints come from browsers, that is from
    whoever is signed in: without this they could make us call anything that we reach.
    """
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or "@" in parts.netloc or parts.fragment:
        return False
    for allowed in (one.strip().lower() for one in hosts.split(",") if one.strip()):
        if "://" in allowed:
            if f"{parts.scheme}://{host}" == allowed:
                return True
        elif parts.scheme == "https" and (host == allowed or host.endswith(f".{allowed}")):
            return True
    return False


def encoded(data: bytes) -> str:
    """Base64url without padding, as everything here is written."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    if not _BASE64URL.match(text):
        raise BadSubscription("keys are written in base64url")
    try:
        return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except (binascii.Error, ValueError):
        raise BadSubscription("keys are written in base64url") from None


def _derived(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt or None, info).derive(secret)
