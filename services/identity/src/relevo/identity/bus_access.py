"""Bus access for outsiders: NATS users, the durables that they read, and the revocations that the broker is told.

The one exception to the rule that only the topology makes consumers. A user's permissions come from the catalogue and
name its credential id, so that it reaches its own durable and nothing else.
"""

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import nats
import nats.errors
import nats.js.errors
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

        The list replaces the one before. Raises BusUnavailable.
        """
        jwt = credentials.account_jwt(
            self._account,
            "RELEVO",
            self._operator_seed,
            issued_at=issued_at,
            signing_keys=self._signing_keys,
            revocations=revoked,
        )
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                answer = await self._ask_system(credentials.account_update_subject(self._account), jwt.encode())
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"the revocations were not published: {error}") from error
        if error_told := json.loads(answer).get("error"):
            raise BusUnavailable(f"the broker refused the revocations: {error_told}")

    async def _ask_system(self, subject: str, body: bytes) -> bytes:
        # Revocations are rare: a connection of the system account is not kept open for them.
        client = await nats.connect(
            self._url.split(","),
            name="relevo-identity-revocation",
            user_credentials=str(self._system_credentials),
            inbox_prefix=inbox_prefix("identity").encode(),
            allow_reconnect=False,
            connect_timeout=2,
            error_cb=_ignore,
        )
        try:
            return (await client.request(subject, body, timeout=2)).data
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
