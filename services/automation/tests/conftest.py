"""What the service needs to start, and somebody who receives webhooks."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relevo.chassis.bus import until


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, and leave to post to this machine."""
    monkeypatch.setenv("RELEVO_MASTER_KEY", base64.b64encode(bytes(32)).decode())
    monkeypatch.setenv("RELEVO_WEBHOOKS_ALLOW_PRIVATE", "true")


class Receiver:
    """Somebody's webhook: takes what comes, and answers with `status`."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        self.url = ""

    async def take(self, request: Request) -> Response:
        self.got.append((dict(request.headers), await request.body()))
        return Response(status_code=self.status)

    async def has(self, count: int) -> list[dict[str, Any]]:
        """What was posted, once there is so much."""

        async def there() -> bool:
            return len(self.got) >= count

        assert await until(there, 30), self.got
        assert len(self.got) == count
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = Starlette(routes=[Route("/hook", receiver.take, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    assert await until(started, 30, every=0.01)
    receiver.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.should_exit = True
        await task
