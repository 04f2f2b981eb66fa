"""The keys that access tokens are signed with: made at the first start and from time to time, private halves sealed."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from relevo.chassis import sealing
from relevo.chassis.database import Tx
from relevo.chassis.sealing import key_bytes
from relevo.contracts.base import new_id, now
from relevo.contracts.identity import PLATFORM, SigningKeyChanged, SigningKeyState
from relevo.identity.domain import key_rotation as rotation
from relevo.identity.domain.key_rotation import Key
from relevo.identity.publish import Change, publish
from relevo.identity.settings import IdentitySettings
from relevo.identity.store import keys as store
from relevo.identity.store.directory import Stored


async def turn(tx: Tx, settings: IdentitySettings, at: datetime) -> None:
    """Make, retire and forget keys, as is due at this moment; replicas do it one after the other."""
    await store.lock_signing(tx)
    keys = {key.state.id: key for key in await store.signing_keys(tx)}
    due = rotation.plan(
        _known(keys.values()),
        at,
        lifetime=timedelta(days=settings.signing_key_days),
        token=timedelta(seconds=settings.access_token_seconds),
    )
    if due.make:
        await _make(tx, key_bytes(settings.master_key))
    for id_ in due.retire:
        state = keys[id_].state.model_copy(update={"not_after": due.retire_at})
        after = Stored(state, keys[id_].version + 1)
        await store.retire_signing_key(tx, after)
        await publish(tx, [Change(SigningKeyChanged(signing_key=state), PLATFORM, id_, after.version)], actor="system")
    for id_ in due.forget:
        await store.forget_signing_key(tx, id_)
        gone = SigningKeyChanged(signing_key=keys[id_].state, deleted=True)
        await publish(tx, [Change(gone, PLATFORM, id_, keys[id_].version + 1)], actor="system")


async def _make(tx: Tx, master_key: bytes) -> None:
    private = Ed25519PrivateKey.generate()
    public_pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    plain = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    state = SigningKeyState(id=new_id(), public_pem=public_pem)
    sealed = sealing.seal(master_key, plain, label=state.id)
    await store.add_signing_key(tx, store.SealedKey(state, sealed, 1, now()))
    await publish(tx, [Change(SigningKeyChanged(signing_key=state), PLATFORM, state.id, 1)], actor="system")


def _known(keys: Iterable[store.SealedKey]) -> list[Key]:
    return [Key(key.state.id, key.created_at, key.state.not_after) for key in keys]


class NoSigningKey(RuntimeError):
    """There is no key to sign with, or the master key does not open it."""


async def current_key(tx: Tx, master_key: bytes) -> tuple[str, str]:
    """The id and the private half (PEM) of the key that signs now. Raises NoSigningKey."""
    keys = {key.state.id: key for key in await store.signing_keys(tx)}
    signer = rotation.signer(_known(keys.values()), now())
    if signer is None:
        raise NoSigningKey("no signing key: `setup` has not run")
    sealed = keys[signer]
    try:
        plain = sealing.unseal(master_key, sealed.private_sealed, label=sealed.state.id)
    except sealing.InvalidTag:
        raise NoSigningKey(
            f"RELEVO_MASTER_KEY does not open signing key {sealed.state.id}: start with the key it was sealed with"
        ) from None
    return sealed.state.id, plain.decode()
