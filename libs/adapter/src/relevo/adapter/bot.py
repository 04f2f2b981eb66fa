"""Bots: told of the conversations that they have over the bus, answering over HTTP with their key.

bot = Bot("nats://bus:4222", "menu.creds", "https://relevo.example/api/v1", key)

@bot.on_event
async def answer(event: BotEvent, talk: Talk) -> None:
    if event.kind != "over":
        await talk.say("¿En qué puedo ayudarte?")

async with bot:
    await bot.wait()
"""

import asyncio
import contextlib
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import nats.errors
from nats.aio.msg import Msg
from pydantic import ValidationError

from relevo.adapter.connection import Connection, end
from relevo.adapter.credential import credential_id
from relevo.adapter.errors import AdapterError
from relevo.contracts.conversation import BotEvent
from relevo.contracts.streams import OUTBOUND

log = logging.getLogger("relevo.adapter.bot")

_BATCH: Final = 20
_PULL_SECONDS: Final = 5.0
_HTTP_SECONDS: Final = 10.0
_AGAIN_SECONDS: Final = 2.0
_NOT_NOW: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class NotYours(AdapterError):
    """People have the conversation by now, or it is over: nothing more is to be said there."""


class Refused(AdapterError):
    """Relevo refused an answer for good; the message says why."""


class NotNow(AdapterError):
    """Relevo does not answer, or cannot at the moment. Left to itself, the event comes again."""


class Talk:
    """What a bot may do in the conversation that an event tells of. What is said again for the same event is said once."""

    def __init__(self, api: "_Api", event: BotEvent) -> None:
        self._api = api
        self._event = event
        self._acts = 0

    async def say(self, text: str) -> None:
        """Write to the customer. Raises NotYours, Refused, NotNow."""
        await self._post("messages", {"text": text})

    async def hand_over(self, reason: Literal["customer_asked", "cannot_help"], note: str = "") -> None:
        """Leave the conversation to people; ``note`` is a private note for them. Raises NotYours, Refused, NotNow."""
        await self._post("hand-over", {"reason": reason, "note": note})

    async def resolve(self) -> None:
        """Close the conversation. Raises NotYours, Refused, NotNow."""
        await self._post("resolve", None)

    async def before(self) -> list[dict[str, Any]]:
        """What the customer can see of the conversation, the oldest first: ``from_customer``, ``text``, ``at``."""
        path = f"/bot/conversations/{self._event.conversation_id}/messages"
        items: list[dict[str, Any]] = (await self._api.ask("GET", path, None, ""))["items"]
        return items

    async def _post(self, act: str, body: dict[str, Any] | None) -> None:
        self._acts += 1
        path = f"/bot/conversations/{self._event.conversation_id}/{act}"
        await self._api.ask("POST", path, body, f"{self._event.event_id}-{self._acts}")


Handler = Callable[[BotEvent, Talk], Awaitable[None]]


class Bot:
    """One bot of one inbox. ``credentials`` is the .creds file and ``key`` the key that Relevo issued for it.

    Events of one conversation are handled one after the other. An exception of the handler means: again, in a moment;
    NotYours and Refused are done with.
    """

    def __init__(self, servers: str | list[str], credentials: str | Path, url: str, key: str) -> None:
        path = Path(credentials)
        self._durable = credential_id(path)
        self._connection = Connection([servers] if isinstance(servers, str) else servers, path, self._durable)
        self._api = _Api(url.rstrip("/"), key)
        self._handler: Handler | None = None
        self._task: asyncio.Task[None] | None = None

    def on_event(self, handler: Handler) -> Handler:
        """Decorate the coroutine that answers one event."""
        self._handler = handler
        return handler

    async def __aenter__(self) -> Self:
        self._connection.open()
        self._task = asyncio.create_task(self._run(), name="bot")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await end(self._task)
        await self._connection.close()

    async def wait(self) -> None:
        """Until cancelled: for a program that does nothing but answer."""
        await asyncio.Event().wait()

    async def _run(self) -> None:
        while True:
            await self._connection.up.wait()
            client = self._connection.client
            assert client is not None
            try:
                pull = await client.jetstream().pull_subscribe_bind(consumer=self._durable, stream=OUTBOUND.name)
                try:
                    while client.is_connected:
                        with contextlib.suppress(nats.errors.TimeoutError, TimeoutError):
                            await self._take(await pull.fetch(_BATCH, timeout=_PULL_SECONDS))
                finally:
                    with contextlib.suppress(nats.errors.Error, OSError):
                        await pull.unsubscribe()
            except (nats.errors.Error, OSError) as error:
                log.warning("events: %r; pulling again", error)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _take(self, messages: list[Msg]) -> None:
        lanes: dict[str, list[tuple[Msg, BotEvent]]] = {}
        for message in messages:
            try:
                event = BotEvent.model_validate_json(message.data)
            except ValidationError as unreadable:
                log.error("an event cannot be read, is this SDK too old? %s", unreadable)  # noqa: TRY400
                await message.term()
                continue
            lanes.setdefault(event.conversation_id, []).append((message, event))
        await asyncio.gather(*(self._lane(lane) for lane in lanes.values()))

    async def _lane(self, lane: list[tuple[Msg, BotEvent]]) -> None:
        failed = False
        for message, event in lane:
            if failed or not await self._one(event):
                failed = True
                await message.nak(delay=_AGAIN_SECONDS)
            else:
                await message.ack()

    async def _one(self, event: BotEvent) -> bool:
        if self._handler is None:
            return False
        try:
            await self._handler(event, Talk(self._api, event))
        except NotYours:
            log.info("people have conversation %s", event.conversation_id)
        except Refused as refused:
            log.warning("conversation %s: %s", event.conversation_id, refused)
        except Exception as error:  # noqa: BLE001 — the handler is not ours
            log.warning("event %s again in a moment: %r", event.event_id, error)
            return False
        return True


class _Api:
    """Relevo's HTTP interface, as far as bots go. The key is a secret: it is shown nowhere."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key

    async def ask(self, method: str, path: str, body: dict[str, Any] | None, once: str) -> Any:
        return await asyncio.to_thread(self._ask, method, path, body, once)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None, once: str) -> Any:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        if once:
            headers["Idempotency-Key"] = once
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)  # noqa: S310 — the operator's own
        try:
            with urllib.request.urlopen(request, timeout=_HTTP_SECONDS) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                told = error.read().decode(errors="replace")
            problem = json.loads(told) if told.startswith("{") else {}
            said = (
                f"{error.code} {problem.get('code', '')}: {problem.get('detail') or problem.get('title') or told[:200]}"
            )
            if problem.get("code") in ("conversation_not_pending", "conversation_not_found"):
                raise NotYours(said) from None
            raise (NotNow if error.code in _NOT_NOW else Refused)(said) from None
        except (OSError, ValueError) as error:
            raise NotNow(repr(error)) from error
