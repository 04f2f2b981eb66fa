"""Read an account's metrics stream, from any moment that it still holds.

    async with Metrics(nats_url, credentials, account_id) as metrics:
        async for message in metrics.follow(since=yesterday):
            if isinstance(message, Fact): ...

Facts carry ids of their own: one that comes twice after a reconnection is the same fact.
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from relevo.contracts.catalogue import UnknownType, decode
from relevo.contracts.grants import inbox_prefix
from relevo.contracts.metrics import Fact, Gauge, RollupDelta

_BATCH = 500
_EXPIRES_SECONDS = 5.0
_IDLE_SECONDS = 30


class MetricsRefused(Exception):
    """The broker refused the consumer: wrong credentials, or another account's metrics."""


def credential_id(credentials: Path) -> str:
    """The id of an issued credential: the name in its user JWT. Raises ValueError for a file that holds none."""
    lines = credentials.read_text().splitlines()
    try:
        token = lines[next(i for i, line in enumerate(lines) if "BEGIN NATS USER JWT" in line) + 1]
        payload = token.split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["name"])
    except (StopIteration, IndexError, KeyError, ValueError):
        raise ValueError(f"{credentials} is no NATS credentials file") from None


class Metrics:
    """One reader of one account's metrics; the credential has one consumer, so one reader at a time."""

    def __init__(self, nats_url: str, credentials: str | Path, account_id: str) -> None:
        self._url = nats_url
        self._credentials = Path(credentials)
        self._account = account_id
        self._name = credential_id(self._credentials)
        self._client: Client | None = None
        self._again = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._client = await nats.connect(
            self._url,
            user_credentials=str(self._credentials),
            inbox_prefix=inbox_prefix(self._name),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=10,
            reconnected_cb=self._reconnected,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._client:
            with contextlib.suppress(Exception):
                await self._request(f"$JS.API.CONSUMER.DELETE.METRICS.{self._name}", {})
            await self._client.close()

    async def _reconnected(self) -> None:
        self._again.set()

    async def _request(self, subject: str, payload: dict[str, Any]) -> dict[str, Any]:
        assert self._client is not None, "use it as a context manager"
        reply = await self._client.request(subject, json.dumps(payload).encode(), timeout=5)
        answer: dict[str, Any] = json.loads(reply.data)
        if error := answer.get("error"):
            raise MetricsRefused(f"{error.get('description')} ({error.get('err_code')})")
        return answer

    async def follow(
        self, *, since: datetime | None = None, after: int = 0
    ) -> AsyncIterator[Fact | RollupDelta | Gauge]:
        """Messages in order, for ever: from ``since``, or behind stream sequence ``after``, else from the beginning.

        A message of a type that this library does not know is skipped.
        """
        assert self._client is not None, "use it as a context manager"
        last = after
        while True:
            self._again.clear()
            await self._create(since if not last else None, last)
            inbox = self._client.new_inbox()
            subscription = await self._client.subscribe(inbox)
            try:
                while not self._again.is_set():
                    async for message, seq in self._pull(subscription, inbox):
                        last = seq
                        yield message
            finally:
                await subscription.unsubscribe()

    async def _create(self, since: datetime | None, last: int) -> None:
        subject = f"metrics.{self._account}.>"
        config: dict[str, Any] = {
            "name": self._name,
            "ack_policy": "none",
            "filter_subject": subject,
            "mem_storage": True,
            "inactive_threshold": _IDLE_SECONDS * 1_000_000_000,
        }
        if last:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": last + 1}
        elif since:
            config |= {"deliver_policy": "by_start_time", "opt_start_time": since.astimezone(UTC).isoformat()}
        else:
            config |= {"deliver_policy": "all"}
        with contextlib.suppress(MetricsRefused):
            await self._request(f"$JS.API.CONSUMER.DELETE.METRICS.{self._name}", {})
        await self._request(
            f"$JS.API.CONSUMER.CREATE.METRICS.{self._name}.{subject}",
            {"stream_name": "METRICS", "config": config, "action": "create"},
        )

    async def _pull(self, subscription: Any, inbox: str) -> AsyncIterator[tuple[Fact | RollupDelta | Gauge, int]]:
        """One pull request: its messages as they come, until it is filled or has expired."""
        assert self._client is not None
        request = {"batch": _BATCH, "expires": int(_EXPIRES_SECONDS * 1e9)}
        await self._client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.METRICS.{self._name}", json.dumps(request).encode(), reply=inbox
        )
        for _ in range(_BATCH):
            try:
                message: Msg = await subscription.next_msg(timeout=_EXPIRES_SECONDS + 2)
            except TimeoutError:
                self._again.set()
                return
            headers = message.headers or {}
            if not message.reply:
                if headers.get("Status") != "408":
                    self._again.set()
                return
            with contextlib.suppress(UnknownType):
                yield decode(headers.get("ce-type", ""), message.data), int(message.reply.rsplit(".", 4)[1])
