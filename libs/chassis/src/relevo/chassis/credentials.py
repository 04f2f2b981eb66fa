"""NATS decentralised credentials: keys, JWTs and .creds text. Pure: no file, no network, no clock of its own.

A chain of trust: the operator's key signs account JWTs, an account's key (or one of its signing keys) signs user JWTs,
and the broker, which knows the operator JWT only, checks the chain at connect time. The broker never sees a seed.

Times are timezone-aware datetimes, kept in the JWT as whole seconds since the epoch. A seed is a secret: `KeyPair`
keeps it out of its `repr`.
"""

import base64
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast

import nacl.exceptions
import nacl.signing
import nkeys

Kind = Literal["operator", "account", "user"]

_PREFIX: dict[Kind, int] = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}
_LETTER: dict[Kind, str] = {"operator": "O", "account": "A", "user": "U"}
_UNLIMITED = -1


class InvalidCredentialError(ValueError):
    """The text is not a NATS key, JWT or .creds of the wanted kind, or its signature does not hold."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An nkey: `public` (O…, A… or U…) names its holder, `seed` (SO…, SA…, SU…) signs for it and is secret."""

    public: str
    seed: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claims:
    """A JWT whose signature was checked against its own issuer; who that issuer is remains the caller's question."""

    kind: Kind
    subject: str
    issuer: str
    name: str
    issued_at: int
    expires: int | None
    body: Mapping[str, Any]


def new_operator() -> KeyPair:
    return _new("operator")


def new_account() -> KeyPair:
    return _new("account")


def new_user() -> KeyPair:
    return _new("user")


def key_pair(seed: str) -> KeyPair:
    """The pair that a seed stands for. Raises InvalidCredentialError for anything else."""
    try:
        pair = nkeys.from_seed(bytearray(seed.encode()))
        return KeyPair(public=pair.public_key.decode().rstrip("="), seed=seed)
    except (nkeys.NkeysError, ValueError, TypeError) as error:
        raise InvalidCredentialError("not an nkey seed") from error


def is_public_key(text: str, kind: Kind) -> bool:
    """Whether the text is a well-formed public key of that kind (its checksum included)."""
    try:
        _raw_public(text)
    except InvalidCredentialError:
        return False
    return text.startswith(_LETTER[kind])


def operator_jwt(
    operator_seed: str,
    name: str,
    *,
    issued_at: datetime,
    system_account: str,
    signing_keys: Iterable[str] = (),
) -> str:
    """The broker's root of trust: self-signed, naming the system account and the keys that may sign accounts."""
    operator = _of_kind(key_pair(operator_seed), "operator")
    body = {"signing_keys": sorted(signing_keys), "system_account": system_account}
    return _sign(operator, "operator", operator.public, name, body, issued_at=issued_at)


def account_jwt(
    subject: str,
    name: str,
    operator_signing_seed: str,
    *,
    issued_at: datetime,
    signing_keys: Iterable[str] = (),
    revocations: Mapping[str, datetime] | None = None,
    jetstream: bool = True,
) -> str:
    """An account with its signing keys and its revoked users.

    `revocations` maps a user's public key (or "*" for all) to an instant: JWTs of that user issued in that second or
    before are refused. The whole map is stated each time; whoever is left out is no longer revoked. The broker takes
    an account JWT only if it was issued no earlier than the one it holds.
    """
    store = _UNLIMITED if jetstream else 0
    body: dict[str, Any] = {
        "limits": {
            "subs": _UNLIMITED,
            "data": _UNLIMITED,
            "payload": _UNLIMITED,
            "imports": _UNLIMITED,
            "exports": _UNLIMITED,
            "wildcards": True,
            "conn": _UNLIMITED,
            "leaf": _UNLIMITED,
            "mem_storage": store,
            "disk_storage": store,
            "streams": store,
            "consumer": store,
        },
        "signing_keys": sorted(signing_keys),
        "default_permissions": {"pub": {}, "sub": {}},
    }
    if revocations:
        body["revocations"] = {key: _seconds(at) for key, at in sorted(revocations.items())}
    issuer = _of_kind(key_pair(operator_signing_seed), "operator")
    return _sign(issuer, "account", subject, name, body, issued_at=issued_at)


def user_jwt(
    subject: str,
    name: str,
    issuer_signing_seed: str,
    issuer_account: str,
    *,
    issued_at: datetime,
    publish: Iterable[str] = (),
    subscribe: Iterable[str] = (),
    expires: datetime | None = None,
    payload_limit: int | None = None,
) -> str:
    """A user that may publish and subscribe to exactly the given subjects; an empty list means nothing at all.

    (An empty allow list would mean everything to the broker, so nothing is written as a denial of `>`.) Answering a
    request needs its reply subject among `publish`. `payload_limit` is in bytes per message.
    """
    issuer = _of_kind(key_pair(issuer_signing_seed), "account")
    body: dict[str, Any] = {
        "pub": _permission(publish),
        "sub": _permission(subscribe),
        "subs": _UNLIMITED,
        "data": _UNLIMITED,
        "payload": _UNLIMITED if payload_limit is None else payload_limit,
    }
    if issuer.public != issuer_account:
        body["issuer_account"] = issuer_account
    return _sign(issuer, "user", subject, name, body, issued_at=issued_at, expires=expires)


def creds_file(jwt: str, seed: str) -> str:
    """The text of a .creds file, as NATS clients read it. Secret: it holds the seed."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        "NKEY Seed printed below can be used to sign and prove identity.\n"
        "NKEYs are sensitive and should be treated as secrets.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n"
        "*************************************************************\n"
    )


def parse_creds(text: str) -> tuple[str, str]:
    """The JWT and the seed of a .creds text. Raises InvalidCredentialError when a part is missing."""
    parts: dict[str, str] = {}
    lines = [line.strip() for line in text.splitlines()]
    for line, following in itertools.pairwise(lines):
        for label in ("NATS USER JWT", "USER NKEY SEED"):
            if line.startswith("-----BEGIN") and label in line:
                parts[label] = following
    try:
        return parts["NATS USER JWT"], parts["USER NKEY SEED"]
    except KeyError as error:
        raise InvalidCredentialError(f"the .creds text has no {error.args[0]} part") from error


def parse(jwt: str) -> Claims:
    """Decode a JWT and check its signature. Expiry is not judged here. Raises InvalidCredentialError."""
    try:
        head, payload, signature = jwt.split(".")
        header = json.loads(_unbase64(head))
        claims = cast("dict[str, Any]", json.loads(_unbase64(payload)))
        body = claims["nats"]
        if header["alg"] != "ed25519-nkey" or body["type"] not in _PREFIX or body["version"] != 2:
            raise InvalidCredentialError("not a version 2 ed25519-nkey JWT of an operator, account or user")
        verify = nacl.signing.VerifyKey(_raw_public(claims["iss"]))
        verify.verify(f"{head}.{payload}".encode(), _unbase64(signature))
        return Claims(
            kind=body["type"],
            subject=claims["sub"],
            issuer=claims["iss"],
            name=claims.get("name", ""),
            issued_at=claims["iat"],
            expires=claims.get("exp"),
            body=body,
        )
    except InvalidCredentialError:
        raise
    except nacl.exceptions.BadSignatureError as error:
        raise InvalidCredentialError("the signature is not the issuer's") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidCredentialError("not a NATS JWT") from error


def account_update_subject(account: str) -> str:
    """Where a user of the system account requests that the broker take a new JWT of this account (body: the JWT)."""
    return f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.UPDATE"


def _new(kind: Kind) -> KeyPair:
    return key_pair(nkeys.encode_seed(os.urandom(32), _PREFIX[kind]).decode())


def _of_kind(pair: KeyPair, kind: Kind) -> KeyPair:
    if not pair.public.startswith(_LETTER[kind]):
        raise InvalidCredentialError(f"the signing seed is not of the kind {kind}")
    return pair


def _permission(subjects: Iterable[str]) -> dict[str, list[str]]:
    allowed = sorted(set(subjects))
    return {"allow": allowed} if allowed else {"deny": [">"]}


def _sign(
    issuer: KeyPair,
    kind: Kind,
    subject: str,
    name: str,
    body: dict[str, Any],
    *,
    issued_at: datetime,
    expires: datetime | None = None,
) -> str:
    if not is_public_key(subject, kind):
        raise InvalidCredentialError(f"the subject of a {kind} JWT must be a public {kind} key ({_LETTER[kind]}…)")
    claims: dict[str, Any] = {
        "iat": _seconds(issued_at),
        "iss": issuer.public,
        "name": name,
        "sub": subject,
        "nats": {**body, "type": kind, "version": 2},
    }
    if expires is not None:
        claims["exp"] = _seconds(expires)
    digest = hashlib.sha256(json.dumps(claims, sort_keys=True).encode()).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    signed = ".".join(
        _base64(json.dumps(part, separators=(",", ":")).encode())
        for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims)
    )
    signature = nkeys.from_seed(bytearray(issuer.seed.encode())).sign(signed.encode())
    return f"{signed}.{_base64(signature)}"


def _seconds(instant: datetime) -> int:
    if instant.tzinfo is None:
        raise ValueError("a credential's time must be timezone-aware")
    return int(instant.timestamp())


def _raw_public(text: str) -> bytes:
    """The 32 bytes of a public key: prefix byte before, two bytes of CRC-16 behind."""
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError as error:
        raise InvalidCredentialError("not an nkey") from error
    if len(raw) != 35 or raw[0] not in _PREFIX.values() or nkeys.crc16(raw[:-2]).to_bytes(2, "little") != raw[-2:]:
        raise InvalidCredentialError("not an nkey")
    return raw[1:-2]


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
