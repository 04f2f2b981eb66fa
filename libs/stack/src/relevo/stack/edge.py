"""The edge: Caddy in front of everything, one origin, paths routed to the services' replicas."""

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
from swagger_ui_bundle import swagger_ui_path

from relevo.contracts.routes import API, Route
from relevo.stack.errors import Exit, StackError
from relevo.stack.place import Place
from relevo.stack.process import Child, binary, end_leftover, spawn, tail

MAX_REQUEST_BYTES = 50_000_000
_READY_SECONDS = 20.0
_STOP_SECONDS = 15.0

_PAGE = """<!doctype html>
<html lang="es"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Relevo</title>
<body style="font:16px/1.5 system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem">
<h1>Relevo</h1>
<p lang="es">Relevo está en marcha. La interfaz HTTP está en <code>/api/v1</code>; <a href="/docs/">su descripción</a>.</p>
<p lang="en">Relevo is running. The HTTP interface is at <code>/api/v1</code>; <a href="/docs/">its description</a>.</p>
"""

_DOCS_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Relevo · API</title>
<link rel="stylesheet" href="swagger-ui.css">
<body style="margin:0"><div id="swagger-ui"></div>
<script src="swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", docExpansion: "none", filter: true});</script>
"""
_DOCS_FILES = ("swagger-ui.css", "swagger-ui-bundle.js")


Pool = Mapping[str, Any]
"""A service's replicas, as Caddy's reverse proxy is told of them."""


def loopback(ports: Iterable[int]) -> Pool:
    """Replicas on this machine."""
    return {"upstreams": [{"dial": f"127.0.0.1:{port}"} for port in ports]}


def named(host: str, port: int) -> Pool:
    """Whatever replicas the name has just now."""
    found = {"source": "a", "name": host, "port": str(port), "refresh": "1s", "versions": {"ipv4": True}}
    return {"dynamic_upstreams": found}


def pages() -> dict[str, str]:
    """The browsable page of the API, by file name: Swagger UI over the merged document, all of it served from here."""
    return {
        "index.html": _DOCS_PAGE,
        "openapi.json": (resources.files("relevo.stack") / "pages" / "openapi.json").read_text("utf-8"),
        **{name: (Path(swagger_ui_path) / name).read_text("utf-8") for name in _DOCS_FILES},
    }


@dataclass(slots=True)
class Edge:
    """One Caddy. `upstreams` are the loopback ports of each service's replicas."""

    place: Place
    host: str
    port: int
    routes: Sequence[Route]
    upstreams: Mapping[str, Sequence[int]]
    log: Path
    child: Child | None = None

    @property
    def url(self) -> str:
        shown = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host  # noqa: S104 — compared, not bound
        return f"http://{shown}:{self.port}"

    @property
    def pid_file(self) -> Path:
        return self.place.root / "edge.pid"

    def start(self) -> None:
        end_leftover(self.pid_file)
        program = self.place.program(binary("caddy"))
        folder = self.place.folder("edge")
        self.place.folder("edge/docs")
        for name, page in pages().items():
            self.place.write(folder / "docs" / name, page)
        pools = {service: loopback(ports) for service, ports in self.upstreams.items() if ports}
        told = configuration(self.routes, pools, listen=f"{self.host}:{self.port}", docs=folder, storage=folder)
        config = self.place.write(folder / "caddy.json", text(told))
        self.child = spawn(
            "edge",
            [str(program), "run", "--config", str(config)],
            log=self.log,
            pid_file=self.pid_file,
            run_as=self.place.run_as,
            environment={"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
        )
        deadline = time.monotonic() + _READY_SECONDS
        while not self.ready():
            if not self.child.alive() or time.monotonic() > deadline:
                self.stop()
                raise StackError(f"the edge (Caddy) did not start:\n{tail(self.log)}", code=Exit.FAILED)
            time.sleep(0.05)

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.child is not None and self.child.alive()

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop(_STOP_SECONDS)
            self.child = None

    def ready(self) -> bool:
        try:
            return "<title>Relevo</title>" in httpx.get(f"{self.url}/", timeout=2, trust_env=False).text
        except httpx.TransportError:
            return False


def configuration(
    routes: Sequence[Route], pools: Mapping[str, Pool], *, listen: str, docs: Path, storage: Path
) -> dict[str, Any]:
    """Caddy's configuration. `docs`: the folder that holds the folder docs; `storage`: where Caddy may write."""
    headers = {
        "X-Content-Type-Options": ["nosniff"],
        "X-Frame-Options": ["DENY"],
        "Referrer-Policy": ["no-referrer"],
    }
    handlers: list[dict[str, Any]] = [
        {
            "handle": [
                {"handler": "headers", "response": {"set": headers, "delete": ["Server", "Via"], "deferred": True}},
                {"handler": "request_body", "max_size": MAX_REQUEST_BYTES},
            ]
        },
        *(_proxy(route.pattern, pools[route.service]) for route in routes if route.service in pools),
        {
            "match": [{"path": [f"{API}/*", API]}],
            "handle": [
                _answer(
                    404,
                    "application/problem+json",
                    json.dumps(
                        {
                            "type": "about:blank",
                            "title": "Not Found",
                            "status": 404,
                            "code": "no_such_route",
                            "detail": "No hay nada en esta ruta. / Nothing is at this path.",
                        }
                    ),
                )
            ],
            "terminal": True,
        },
        {
            "match": [{"path": ["/docs"]}],
            "handle": [
                {"handler": "static_response", "status_code": 308, "headers": {"Location": ["/docs/"]}},
            ],
            "terminal": True,
        },
        {
            "match": [{"path": ["/docs/*"]}],
            "handle": [{"handler": "file_server", "root": str(docs)}],
            "terminal": True,
        },
        {
            "match": [{"path": ["/"]}],
            "handle": [_answer(200, "text/html; charset=utf-8", _PAGE)],
            "terminal": True,
        },
        {"handle": [_answer(404, "text/plain; charset=utf-8", "404\n")]},
    ]
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "WARN"}}},
        "storage": {"module": "file_system", "root": str(storage)},
        "apps": {
            "http": {
                "grace_period": "10s",
                "servers": {
                    "edge": {
                        "listen": [listen],
                        "automatic_https": {"disable": True},
                        "protocols": ["h1", "h2c"],
                        "read_header_timeout": "10s",
                        "max_header_bytes": 32768,
                        "routes": handlers,
                    }
                },
            }
        },
    }


def text(told: Mapping[str, Any]) -> str:
    """A configuration as Caddy reads it."""
    return json.dumps(told, indent=1)


def _proxy(pattern: str, pool: Pool) -> dict[str, Any]:
    segments = "/".join("[^/]+" if segment == "*" else re.escape(segment) for segment in pattern.strip("/").split("/"))
    return {
        "match": [{"path_regexp": {"pattern": f"^{API}/{segments}(/|$)"}}],
        "handle": [
            {
                "handler": "reverse_proxy",
                **pool,
                "flush_interval": -1,
                # A service that answers before it has read the body (401, 403) else loses its answer now and then: the
                # proxy drops a connection whose request it is still copying from the client.
                "request_buffers": 65536,
                # A replica that restarts is stepped over, and the last one waited for.
                "load_balancing": {
                    "selection_policy": {"policy": "least_conn"},
                    "try_duration": "5s",
                    "try_interval": "100ms",
                },
                "health_checks": {"passive": {"fail_duration": "1s"}},
                "stream_close_delay": "5s",
            }
        ],
        "terminal": True,
    }


def _answer(status: int, content_type: str, body: str) -> dict[str, Any]:
    return {
        "handler": "static_response",
        "status_code": status,
        "headers": {"Content-Type": [content_type]},
        "body": body,
    }
