"""Bus access for outsiders: NATS users, the durables that they read, and the revocations that the broker is told.

The one exception to the rule that only the topology makes consumers. A user's permissions come from the catalogue and
name its credential id, so that it reaches its own durable and nothing else.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import nats.errors
import nats.js.errors
from nats.aio.client import Client, RawCredentials
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from relevo.chassis import credentials
from relevo.contracts import streams
from relevo.contracts.grants import Grants, inbox_prefix
from relevo.identity.settings import IdentitySettings

_ACK_WAIT = timedelta(seconds=30)
_MAX_ACK_PENDING = 1000
_PATIENCE_SECONDS = 3.0
"""Less than what a transaction may be idle: revocations are published under a database lock."""


class BusUnavailable(Exception):
    """The broker does not answer, or does not take what it was told."""


class BusAccess:
    """Issues and revokes users of one NATS account. Holds signing seeds: least of all may it be logged."""

    def __init__(self, settings: IdentitySettings, js: JetStreamContext) -> None:
        self._js = js
        self._url = settings.nats_url
        self._account = settings.bus_account
        self._signing_seed = settings.bus_signing_seed.get_secret_value()
        self._operator_seed = settings.bus_operator_seed.get_secret_value()
        self._system_credentials = settings.bus_system_credentials
        self._signing_keys = _signing_keys(settings)

    def user(self, credential: str, grants: Grants, *, issued_at: datetime) -> tuple[str, str]:
        """A new user of that name with exactly these permissions: its public key, and its .creds text (secret)."""
        pair = credentials.new_user()
        jwt = credentials.user_jwt(
            pair.public,
            credential,
            self._signing_seed,
            self._account,
            issued_at=issued_at,
            publish=grants.publish,
            subscribe=grants.subscribe,
        )
        return pair.public, credentials.creds_file(jwt, pair.seed)

    async def make_outbound_durable(self, credential: str, *, account: str, inbox: str, from_start: bool) -> None:
        """The durable from which an adapter takes what goes out by its inbox.

        ``from_start``: also what waits already (the inbox's first adapter); else from now on, lest a second one send
        everything again. Raises BusUnavailable.
        """
        config = ConsumerConfig(
            name=credential,
            durable_name=credential,
            filter_subject=streams.OUTBOUND.published(account=account, inbox=inbox),
            deliver_policy=DeliverPolicy.ALL if from_start else DeliverPolicy.NEW,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=_ACK_WAIT.total_seconds(),
            max_ack_pending=_MAX_ACK_PENDING,
        )
        try:
            await self._js.add_consumer(streams.OUTBOUND.name, config, timeout=_PATIENCE_SECONDS)
        except (nats.errors.Error, TimeoutError) as error:
            raise BusUnavailable(f"the durable {credential} was not made: {error}") from error

    async def delete_durable(self, stream: streams.Stream, credential: str) -> None:
        """Remove a credential's consumer; one that is not there is fine. Raises BusUnavailable."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._js.delete_consumer(stream.name, credential)
        except nats.js.errors.NotFoundError:
            return
        except (nats.errors.Error, TimeoutError) as error:
            raise BusUnavailable(f"the consumer {credential} was not removed: {error}") from error

    async def publish_revocations(self, revoked: Mapping[str, datetime], *, issued_at: datetime) -> None:
        """Tell the broker all users that are revoked: their connections end at once, none comes back.

        The list replaces the one before. A broker keeps what it is told even when it does not trust who signed it, and
        says nothing; so the list has a decoy, a user made and revoked for this one time, and it is tried whether that
        one is refused. Raises BusUnavailable.
        """
        decoy = credentials.new_user()
        pass_of_decoy = credentials.user_jwt(
            decoy.public,
            "decoy",
            self._signing_seed,
            self._account,
            issued_at=issued_at,
            expires=issued_at + timedelta(minutes=1),
        )
        jwt = credentials.account_jwt(
            self._account,
            "RELEVO",
            self._operator_seed,
            issued_at=issued_at,
            signing_keys=self._signing_keys,
            revocations={**revoked, decoy.public: issued_at},
        )
        system = self._system_credentials.read_text()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                async with self._connected(system) as client:
                    subject = credentials.account_update_subject(self._account)
                    answer = (await client.request(subject, jwt.encode(), timeout=_PATIENCE_SECONDS)).data
                if error_told := json.loads(answer).get("error"):
                    raise BusUnavailable(f"the broker refused the revocations: {error_told}")
                if not await self._is_refused(credentials.creds_file(pass_of_decoy, decoy.seed)):
                    raise BusUnavailable(
                        "the broker took the revocations but does not apply them: is RELEVO_BUS_OPERATOR_SEED "
                        "one of its operator's signing keys?"
                    )
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"the revocations were not published: {error}") from error

    async def _is_refused(self, creds: str) -> bool:
        try:
            async with self._connected(creds):
                return False
        except nats.errors.Error as error:
            if "authorization violation" in str(error).lower():
                return True
            raise

    @asynccontextmanager
    async def _connected(self, creds: str) -> AsyncIterator[Client]:
        """A connection of its own for a moment: revocations are rare."""
        client = Client()
        try:
            await client.connect(
                self._url.split(","),
                name="relevo-identity-revocation",
                user_credentials=RawCredentials(creds),
                inbox_prefix=inbox_prefix("identity").encode(),
                allow_reconnect=False,
                connect_timeout=2,
                error_cb=_ignore,
            )
            yield client
        finally:
            await client.close()


async def _ignore(_: Exception) -> None:
    """What goes wrong on that connection is raised where it is used."""


def _signing_keys(settings: IdentitySettings) -> set[str]:
    """Every key that may sign users of the account: the new account JWT must name them all, or cut them off."""
    found = {credentials.key_pair(settings.bus_signing_seed.get_secret_value()).public, *settings.bus_signing_keys}
    if settings.nats_credentials is not None:
        jwt, _ = credentials.parse_creds(Path(settings.nats_credentials).read_text())
        found.add(credentials.parse(jwt).issuer)
    return found - {settings.bus_account}
