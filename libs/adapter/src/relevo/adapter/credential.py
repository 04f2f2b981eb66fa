"""The name of a credential, which is also the name of its durable and of its reply subjects."""

import base64
import binascii
import json
import re
from pathlib import Path

from relevo.adapter.errors import BadCredentials

_JWT = re.compile(r"-----BEGIN NATS USER JWT-----\s*([\w.-]+)\s*-+END NATS USER JWT-+", re.ASCII)


def credential_id(path: Path) -> str:
    """The user name within a .creds file. Raises BadCredentials."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadCredentials(f"{path} cannot be read: {error}") from None
    found = _JWT.search(text)
    if not found or found[1].count(".") != 2:
        raise BadCredentials(f"{path} is no NATS credentials file: it has no user JWT")
    payload = found[1].split(".")[1]
    try:
        name = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["name"]
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise BadCredentials(f"the user JWT in {path} cannot be read or has no name") from None
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise BadCredentials(f"the name in the user JWT of {path} is no credential id")
    return name
