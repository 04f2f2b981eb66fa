"""The configuration of identity."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from relevo.chassis import credentials
from relevo.chassis.sealing import MasterKey
from relevo.chassis.settings import ServiceSettings


def _seed(secret: SecretStr) -> SecretStr:
    try:
        credentials.key_pair(secret.get_secret_value())
    except credentials.InvalidCredentialError:
        raise ValueError("must be an nkey seed (SA… for the account's signing key, SO… for the operator's)") from None
    return secret


def _account(key: str) -> str:
    if not credentials.is_public_key(key, "account"):
        raise ValueError("must be the public key of a NATS account (A…)")
    return key


def _issuer(url: str | None) -> str | None:
    if url is not None and not url.startswith(("https://", "http://localhost", "http://127.0.0.1")):
        raise ValueError("must look like https://login.example.com")
    return url


Seed = Annotated[SecretStr, AfterValidator(_seed)]
AccountKey = Annotated[str, AfterValidator(_account)]


class IdentitySettings(ServiceSettings):
    """What every service has, and what identity needs to sign tokens and to issue bus credentials."""

    master_key: MasterKey
    """Seals the private halves of signing keys at rest."""
    setup_token: SecretStr | None = None
    """Who bears it may make accounts (POST /setup); unset: nobody may."""

    bus_account: AccountKey
    """The public key of the account that services, adapters and consumers share."""
    bus_signing_seed: Seed
    """One of the account's signing keys: it signs the users that identity issues."""
    bus_operator_seed: Seed
    """One of the operator's signing keys: it signs the account's JWT with the revocations."""
    bus_system_credentials: Path
    """The .creds file of a user of the system account who may publish the account's JWT."""
    bus_signing_keys: tuple[AccountKey, ...] = ()
    """Public halves of the account's further signing keys; identity's own and that of its own credentials are known.

    A key that is left out is no longer trusted after the first revocation, nor is who was signed with it.
    """

    public_url: str = "http://localhost:8080"
    """The address of the console that people use, for the links in e-mails."""

    account_grace_days: float = Field(30.0, ge=0, le=365)
    """How long an account that its people have deleted still works, and can be kept."""

    sign_up: bool = False
    """Let anybody make an account of their own, once their address is confirmed."""

    oidc_issuer: Annotated[str | None, AfterValidator(_issuer)] = None
    """The identity provider, exactly as it calls itself; unset: people sign in with passwords only."""
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_name: str = "SSO"
    """What the button says."""

    signing_key_days: int = Field(90, ge=1, le=3650)
    """How long a key signs access tokens until another one takes its place."""
    access_token_seconds: int = Field(900, ge=60, le=3600)
    refresh_token_days: int = Field(30, ge=1, le=365)
    """How long a session lives without use."""

    @model_validator(mode="after")
    def _whole_oidc(self) -> Self:
        given = [self.oidc_issuer, self.oidc_client_id, self.oidc_client_secret]
        if any(given) and not all(given):
            raise ValueError("RELEVO_OIDC_ISSUER, RELEVO_OIDC_CLIENT_ID and RELEVO_OIDC_CLIENT_SECRET go together")
        return self
