"""Every documented route is answered through the edge, by its own service, and to nobody without a token."""

import importlib.util
import os
import re
from typing import Any

import httpx
import pytest
from whole_stack import WholeStack

from relevo.contracts.catalogue import SERVICES
from relevo.contracts.routes import owner
from relevo.stack.documents import _placeholders, openapi

_NOWHERE = "0197a3a0-0000-7000-8000-000000000000"
INSTALLED = [name for name in SERVICES if importlib.util.find_spec(f"relevo.{name}.__main__") is not None]


def operations(service: str) -> list[tuple[str, str, bool, bool]]:
    """Method, path, whether it asks for a token, and whether it answers pages for people."""
    found = []
    for path, methods in openapi(service)["paths"].items():
        for method, operation in methods.items():
            if isinstance(operation, dict):
                page = any("text/html" in answer.get("content", {}) for answer in operation["responses"].values())
                found.append((method.upper(), path, operation.get("x-permission") is not None, page))
    return found


@pytest.mark.parametrize("service", INSTALLED)
def test_every_route_is_answered_by_its_service(
    service: str, stack: WholeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _placeholders().items():
        monkeypatch.setitem(os.environ, name, value)
    found = operations(service)
    assert found
    with httpx.Client(base_url=stack.edge_url, trust_env=False, timeout=10) as client:
        for method, path, guarded, page in found:
            assert owner(path) == service, path
            answer = client.request(method, re.sub(r"\{\w+\}", _NOWHERE, path), json={})
            if page:
                assert not guarded
                assert answer.headers["content-type"] == "text/html; charset=utf-8", (method, path)
                assert answer.status_code in (404, 410), (method, path, answer.text)
                continue
            if not guarded and answer.is_success:  # public, and there is nothing to be wrong about
                assert isinstance(answer.json(), dict), (method, path)
                continue
            assert problem(answer)["status"] == answer.status_code, (method, path)
            if guarded:
                assert answer.status_code == 401, (method, path, answer.text)
            else:
                assert answer.status_code in (401, 404, 410, 422), (method, path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json", (method, path)


def problem(answer: httpx.Response) -> dict[str, Any]:
    document: dict[str, Any] = answer.json()
    return document


def test_the_edge_itself_answers_what_belongs_to_nobody(stack: WholeStack) -> None:
    for path in ("/api/v1/nothing", "/api/v2/conversations", "/metrics", "/readyz"):
        assert httpx.get(f"{stack.edge_url}{path}", trust_env=False).status_code == 404, path


def test_a_refusal_is_whole_although_the_body_was_not_read(stack: WholeStack) -> None:
    # The proxy once lost three answers of a thousand, when a service refused before it had read the body.
    with httpx.Client(base_url=f"{stack.edge_url}/api/v1", trust_env=False, timeout=10) as client:
        for _ in range(1000):
            assert client.post(f"/conversations/{_NOWHERE}/resolve", json={"text": "hola"}).status_code == 401
