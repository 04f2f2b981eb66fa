"""The keys that access tokens are signed with: made at the first start, the private half sealed at rest."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from relevo.chassis import sealing
from relevo.chassis.database import Tx
from relevo.contracts.base import new_id
from relevo.contracts.identity import PLATFORM, SigningKeyChanged, SigningKeyState
from relevo.identity.publish import Change, publish
from relevo.identity.store import keys as store


async def ensure_key(tx: Tx, master_key: bytes) -> None:
    """Make and publish the first signing key when there is none; replicas that start together make one."""
    await store.lock_signing(tx)
    if await store.signing_key(tx) is not None:
        return
    private = Ed25519PrivateKey.generate()
    public_pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    plain = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    state = SigningKeyState(id=new_id(), public_pem=public_pem)
    await store.add_signing_key(tx, store.SealedKey(state, sealing.seal(master_key, plain, label=state.id)))
    await publish(tx, [Change(SigningKeyChanged(signing_key=state), PLATFORM, state.id, 1)], actor="system")


class NoSigningKey(RuntimeError):
    """There is no key to sign with, or the master key does not open it."""


async def current_key(tx: Tx, master_key: bytes) -> tuple[str, str]:
    """The id and the private half (PEM) of the key that signs now. Raises NoSigningKey."""
    sealed = await store.signing_key(tx)
    if sealed is None:
        raise NoSigningKey("no signing key: `setup` has not run")
    try:
        plain = sealing.unseal(master_key, sealed.private_sealed, label=sealed.state.id)
    except sealing.InvalidTag:
        raise NoSigningKey(
            f"RELEVO_MASTER_KEY does not open signing key {sealed.state.id}: start with the key it was sealed with"
        ) from None
    return sealed.state.id, plain.decode()
