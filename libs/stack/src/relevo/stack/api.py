"""A client of the public HTTP interface, as any program outside would write one."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from relevo.contracts.base import new_id

_AGAIN = {502, 503, 504}
_GONE = 404


class Refused(Exception):
    """The interface refused a request; ``status`` and ``code`` say why, the message in words."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Api:
    """Requests with one bearer token. What a restarting service cannot answer is asked again, once in effect."""

    def __init__(self, edge_url: str, token: str = "", *, patience_seconds: float = 30.0) -> None:
        self._client = httpx.AsyncClient(
            base_url=f"{edge_url}/api/v1",
            timeout=15.0,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=32),
        )
        self._patience = patience_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def get(self, path: str, **parameters: Any) -> Any:
        """The answer's body. Raises Refused."""
        return await self._ask("GET", path, params={k: v for k, v in parameters.items() if v is not None})

    async def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """Post once in effect, however often it takes: the request carries an Idempotency-Key. Raises Refused."""
        return await self._ask("POST", path, json=body, headers={"Idempotency-Key": key or new_id()})

    async def put(self, path: str, body: Any, *, if_match: str | None = None) -> Any:
        """Raises Refused."""
        return await self._ask("PUT", path, json=body, headers={} if if_match is None else {"If-Match": if_match})

    async def delete(self, path: str) -> None:
        """Raises Refused; what is gone already is no error."""
        try:
            await self._ask("DELETE", path)
        except Refused as refusal:
            if refusal.status != _GONE:
                raise

    async def pages(self, path: str, **parameters: Any) -> AsyncIterator[dict[str, Any]]:
        """Every item of a list, page by page."""
        cursor = None
        while True:
            page = await self.get(path, cursor=cursor, limit=200, **parameters)
            for item in page["items"]:
                yield item
            cursor = page["next"]
            if cursor is None:
                return

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience
        delay = 0.05
        while True:
            try:
                response = await self._client.request(method, path, **_present(options))
            except httpx.TransportError as error:
                if loop.time() > end:
                    raise Refused(0, "unreachable", f"{method} {path}: {error!r}") from error
            else:
                if response.status_code not in _AGAIN or loop.time() > end:
                    return _answer(method, path, response)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 1.0)


def _present(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _answer(method: str, path: str, response: httpx.Response) -> Any:
    if response.is_success:
        return response.json() if response.content else None
    raise refused(method, path, response)


def refused(method: str, path: str, response: httpx.Response) -> Refused:
    """What an answer that is no success says; its body was read."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    detail = problem.get("detail") or problem.get("title") or response.reason_phrase
    fields = "; ".join(f"{e.get('pointer')}: {e.get('detail')}" for e in problem.get("errors") or [])
    return Refused(
        response.status_code,
        problem.get("code", "unknown"),
        f"{method} {path} → {response.status_code} {detail}{f' ({fields})' if fields else ''}",
    )
