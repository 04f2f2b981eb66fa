"""OpenID Connect: the address that a browser is sent to, and what of a provider's word is taken."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

from relevo.kernel.identity import email_or_none

FLOW_LIFETIME: Final = timedelta(minutes=10)
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""Of signatures with a public key; with a shared secret anybody who knows it could sign."""
MAX_SUBJECT: Final = 255


@dataclass(frozen=True, slots=True)
class Vouched:
    """Whom the provider vouches for: its own name for them, and an address that it has verified."""

    subject: str
    email: str


def challenge(verifier: str) -> str:
    """What is told beforehand of a secret that is shown with the code (RFC 7636, S256)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def authorize_url(endpoint: str, *, client_id: str, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
    """Where the browser goes."""
    parameters = urlencode(
        {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid email profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
        }
    )
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{parameters}"


def vouched(claims: Mapping[str, Any], *, client_id: str, nonce: str) -> Vouched | None:
    """Whom claims vouch for, whose signature, issuer, audience and times are right; None when they do not.

    The nonce ties them to this sign-in. An address that is not said to be verified is anybody's.
    """
    audience = claims.get("aud")
    if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != client_id:
        return None
    if claims.get("nonce") != nonce or claims.get("email_verified") is not True:
        return None
    subject, email = claims.get("sub"), claims.get("email")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT or "\x00" in subject:
        return None
    address = email_or_none(email) if isinstance(email, str) else None
    return Vouched(subject, address) if address else None
