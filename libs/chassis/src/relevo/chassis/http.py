"""The HTTP application of a service: routes under /api/v1, probes, one log line per request, problems as errors."""

import importlib.metadata
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import structlog
from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relevo.chassis import health, idempotency, problems, telemetry
from relevo.chassis.auth import Principal, Require
from relevo.chassis.database import Database, described, is_transient
from relevo.chassis.settings import ServiceSettings
from relevo.contracts.base import new_id
from relevo.contracts.routes import API

if TYPE_CHECKING:
    from relevo.chassis.service import Runtime

__all__ = ["Db", "Rt", "body_limit", "create_app"]

log = structlog.get_logger("relevo.http")

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


# Here and in every service, what an endpoint depends on is awaited: the framework runs a plain function on a thread, and waits
# for that one to have its turn.
async def _runtime(request: Request) -> "Runtime":
    runtime: Runtime = request.app.state.runtime
    return runtime


async def _database(request: Request) -> Database:
    database: Database = request.app.state.runtime.database

    def caller() -> tuple[str, ...]:
        # Asked when a transaction begins: dependencies may come in any order.
        principal: Principal | None = getattr(request.state, "principal", None)
        return (principal.account_id,) if principal else ()

    return database.on_behalf_of(caller)


Db = Annotated[Database, Depends(_database)]
"""The service's database as the caller's account sees it, in an endpoint's signature; without a caller: of no account."""
Rt = Annotated["Runtime", Depends(_runtime)]
"""The service's runtime, in an endpoint's signature."""


_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])
_LIMIT: Final = "max_body_bytes"


def body_limit(limit: int) -> Callable[[_Endpoint], _Endpoint]:
    """Let an endpoint take bodies of up to `limit` bytes, whatever the others may; put it beneath the router's own."""

    def mark(endpoint: _Endpoint) -> _Endpoint:
        setattr(endpoint, _LIMIT, limit)
        return endpoint

    return mark


def create_app(
    service: str, router: APIRouter | None, settings: ServiceSettings, lifespan: Lifespan | None = None
) -> FastAPI:
    """The application of a service, whose lifespan sets `app.state.runtime`.

    Operation ids are the endpoints' function names. Raises ValueError when two endpoints have the same name.
    """
    app = FastAPI(
        title=f"Relevo {service}",
        version=_version(service),
        lifespan=lifespan,
        docs_url="/docs" if settings.http_docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.http_docs else None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        # Prometheus and our own log line serve; spans exist when an SDK is configured.
        telemetry={"metrics": False, "logs": False, "operation_spans": False},
    )
    app.state.runtime = None
    if router is not None:
        app.include_router(
            router,
            prefix=API,
            responses={"default": _PROBLEM_RESPONSE},
            dependencies=[Depends(_without_nul), Depends(_known_parameters)],
        )
    app.include_router(health.router(service))
    problems.install(app)
    idempotency.install(app)
    templates = {
        context.endpoint: context.path_format or "" for context in iter_route_contexts(app.routes) if context.endpoint
    }
    app.add_middleware(_Outer, service=service, templates=templates, max_body_bytes=settings.http_max_body_bytes)
    _check_names(app)
    app.state.parameters = {
        operation.endpoint: frozenset(_query_names(operation.dependant))
        for operation in _operations(app)
        if _required(operation.dependant) is not None
    }
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


_POLICY: Final = 1008
"""Why a socket is closed that asks for what cannot be."""


async def _without_nul(request: HTTPConnection) -> None:
    """Refuse a NUL in parameters, also of sockets: no text column takes one. Bodies are cleaned by their models."""
    if b"%00" not in request.scope["query_string"] and "\0" not in request.scope["path"]:
        return
    given = [("query", request.query_params.multi_items()), ("path", request.path_params.items())]
    es, en = "Quita el carácter nulo (%00).", "Take the NUL character (%00) out."
    at = dict.fromkeys(f"/{where}/{name}" for where, pairs in given for name, value in pairs if "\0" in str(value))
    if at and request.scope["type"] == "websocket":
        raise WebSocketException(_POLICY, en)
    if at:
        raise problems.Problem(
            422,
            "validation_failed",
            es=es,
            en=en,
            errors=[problems.FieldError(pointer, es=es, en=en) for pointer in at],
        )


async def _known_parameters(request: HTTPConnection) -> None:
    """Refuse parameters that an operation does not have, where people and keys ask: a filter that is misspelt would be left
    out without a word, and a number of everything taken for a part's. What the world outside calls may carry what it likes.
    """
    known = request.app.state.parameters.get(request.scope.get("endpoint"))
    if known is None or not request.scope["query_string"]:
        return
    strange = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if strange:
        names = ", ".join(sorted(known))
        es = f"No existe este parámetro: usa {names}." if names else "No existe este parámetro: quítalo."
        en = f"There is no such parameter: use {names}." if names else "There is no such parameter: take it out."
        raise problems.invalid_fields([problems.FieldError(f"/query/{name}", es=es, en=en) for name in strange])


def _query_names(dependant: Any) -> Iterator[str]:
    """The names of all query parameters of an operation, its dependencies' too."""
    for field in dependant.query_params:
        model = field.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from (info.alias or name for name, info in model.model_fields.items())
        else:
            yield field.alias
    for dependency in dependant.dependencies:
        yield from _query_names(dependency)


def _version(service: str) -> str:
    try:
        return importlib.metadata.version(f"relevo-{service}")
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version("relevo-chassis")


_PROBLEM_RESPONSE: Final[dict[str, Any]] = {
    "description": "Problem",
    "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}},
}


def _operations(app: FastAPI) -> list[Any]:
    contexts = iter_route_contexts(app.routes)
    return [
        context for context in contexts if isinstance(context.original_route, APIRoute) and context.include_in_schema
    ]


def _check_names(app: FastAPI) -> None:
    seen: set[str] = set()
    for operation in _operations(app):
        if operation.name in seen:
            raise ValueError(f"two endpoints are called {operation.name!r}: operation ids must be unique")
        seen.add(operation.name)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, in which every operation names the permission that it needs (`x-permission`, any of)."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schema = problems.ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(schema.pop("$defs", {}))
    schemas["ProblemBody"] = schema
    for operation in _operations(app):
        found = _required(operation.dependant)
        if found is not None:
            for method in operation.methods or ():
                entry = document["paths"][operation.path_format][method.lower()]
                entry["x-permission"] = [found.only] if found.only else [str(one) for one in found.permissions]
    app.openapi_schema = document
    return document


def _required(dependant: Any) -> Require | None:
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, Require):
            return dependency.call
        if (inner := _required(dependency)) is not None:
            return inner
    return None


_QUIET: Final = frozenset({"/livez", "/readyz", "/metrics"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(r"^[A-Za-z0-9_-]{8,64}$")
_SECURITY: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cache-Control", "no-store"),
)


class _Outer:
    """Around everything: request id, trace, log line, metrics, security headers, size limit, the unexpected error.

    Plain ASGI: the framework's own middleware base class would run every request in a second task.
    """

    def __init__(self, app: ASGIApp, *, service: str, templates: dict[Any, str], max_body_bytes: int) -> None:
        self._app = app
        self._service = service
        self._templates = templates
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = headers.get("x-request-id", "")
        if not _REQUEST_ID.match(request_id):
            request_id = new_id()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                outgoing = MutableHeaders(scope=message)
                outgoing["X-Request-Id"] = request_id
                for name, value in _SECURITY:
                    outgoing.setdefault(name, value)
            await send(message)

        started = time.perf_counter()
        with telemetry.span(f"{self._service} http", headers.get("traceparent")) as traceparent:
            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(correlation=request_id, trace=telemetry.trace_id(traceparent))
            try:
                await self._app(scope, self._limited(scope, receive, headers), sending)
            except Exception as error:
                problem = self._problem(error, scope, request_id)
                if status:
                    raise
                answer = problems.response(problem, problems.language_of(Request(scope)))
                await answer(scope, receive, sending)
            finally:
                self._measure(scope, status, time.perf_counter() - started)

    def _problem(self, error: Exception, scope: Scope, request_id: str) -> problems.Problem:
        if is_transient(error):
            log.warning("request_unavailable", route=self._template(scope), error=described(error))
            return problems.unavailable(
                es="El servicio no está disponible ahora: inténtalo de nuevo en un momento.",
                en="The service is not available right now: try again in a moment.",
            )
        log.error("request_failed", method=scope["method"], route=self._template(scope), exc_info=error)
        return problems.internal(request_id)

    def _limited(self, scope: Scope, receive: Receive, headers: Headers) -> Receive:
        announced = headers.get("content-length", "0")
        left: int | None = None

        async def receiving() -> Message:
            nonlocal left
            if left is None:
                # By now the route is known; nothing of the body was read before.
                limit: int = getattr(scope.get("endpoint"), _LIMIT, self._max_body_bytes)
                left = limit if not announced.isdigit() or int(announced) <= limit else -1
            if left < 0:
                raise HTTPException(413)
            message = await receive()
            if message["type"] == "http.request":
                left -= len(message.get("body", b""))
                if left < 0:
                    raise HTTPException(413)
            return message

        return receiving

    def _template(self, scope: Scope) -> str:
        return self._templates.get(scope.get("endpoint"), "unmatched")

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = self._template(scope)
        telemetry.HTTP_REQUESTS.labels(self._service, method, route, str(status)).inc()
        telemetry.HTTP_SECONDS.labels(self._service, method, route).observe(seconds)
        say = log.debug if route in _QUIET else log.info
        say("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))
