"""The bus's keys of one home: operator, the accounts SYS and RELEVO, their signing keys, and everyone's .creds.

Services' users are signed with a key of the stack's own; identity gets another of the account's signing keys and one
of the operator's, so that what it issues can be told apart and its keys replaced without touching the services.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from relevo.chassis import credentials
from relevo.chassis.credentials import KeyPair


@dataclass(frozen=True, slots=True)
class BusKeys:
    """Every key of the bus. All of it is secret."""

    operator: KeyPair
    operator_signing: KeyPair
    """Signs account JWTs after the first: identity holds it, to revoke."""
    system: KeyPair
    account: KeyPair
    """The account RELEVO; its own key signs nothing day to day."""
    services_signing: KeyPair
    """Signs the services' users."""
    issuing_signing: KeyPair
    """Signs adapters' and metrics consumers' users: identity holds it."""
    operator_jwt: str
    system_jwt: str
    account_jwt: str
    """As first issued. The broker keeps a newer one that identity has published since."""
    users: dict[str, KeyPair] = field(default_factory=dict)

    @classmethod
    def generate(cls) -> "BusKeys":
        now = datetime.now(UTC)
        operator, operator_signing = credentials.new_operator(), credentials.new_operator()
        system, account = credentials.new_account(), credentials.new_account()
        services_signing, issuing_signing = credentials.new_account(), credentials.new_account()
        return cls(
            operator=operator,
            operator_signing=operator_signing,
            system=system,
            account=account,
            services_signing=services_signing,
            issuing_signing=issuing_signing,
            operator_jwt=credentials.operator_jwt(
                operator.seed,
                "relevo",
                issued_at=now,
                system_account=system.public,
                signing_keys=[operator_signing.public],
            ),
            system_jwt=credentials.account_jwt(system.public, "SYS", operator.seed, issued_at=now, jetstream=False),
            account_jwt=credentials.account_jwt(
                account.public,
                "RELEVO",
                operator.seed,
                issued_at=now,
                signing_keys=[services_signing.public, issuing_signing.public],
            ),
        )

    @classmethod
    def load(cls, text: str) -> "BusKeys":
        raw = json.loads(text)
        users = {name: KeyPair(**pair) for name, pair in raw.pop("users").items()}
        fields: dict[str, Any] = {
            name: KeyPair(**value) if isinstance(value, dict) else value for name, value in raw.items()
        }
        return cls(**fields, users=users)

    def dump(self) -> str:
        return json.dumps(asdict(self), indent=1)

    def service_credentials(self, name: str, publish: Iterable[str], subscribe: Iterable[str]) -> str:
        """The .creds text of a user of the account RELEVO with exactly these permissions."""
        return self._credentials(name, self.services_signing.seed, self.account.public, publish, subscribe)

    def system_credentials(self, name: str, publish: Iterable[str], subscribe: Iterable[str]) -> str:
        """The .creds text of a user of the system account."""
        return self._credentials(name, self.system.seed, self.system.public, publish, subscribe)

    def revocation_credentials(self) -> str:
        """The system user with which identity publishes the account's new JWT; it can do nothing else."""
        subject = credentials.account_update_subject(self.account.public)
        return self.system_credentials("revocation", [subject], ["_INBOX_identity.>"])

    def _credentials(
        self, name: str, signing_seed: str, account: str, publish: Iterable[str], subscribe: Iterable[str]
    ) -> str:
        user = self.users.setdefault(f"{account}/{name}", credentials.new_user())
        jwt = credentials.user_jwt(
            user.public,
            name,
            signing_seed,
            account,
            issued_at=datetime.now(UTC),
            publish=publish,
            subscribe=subscribe,
        )
        return credentials.creds_file(jwt, user.seed)


def write_secret(path: Path, text: str) -> Path:
    """Write a file that only its owner reads, whole or not at all."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.replace(path)
    return path
