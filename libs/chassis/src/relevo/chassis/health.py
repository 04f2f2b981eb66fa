"""Is the process alive, is it ready, and what does it measure: /livez, /readyz, /metrics. And the loop's watchdog."""

import asyncio
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

import psycopg
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text

from relevo.chassis import telemetry
from relevo.chassis.database import Database

STALLED_EXIT_CODE: Final = 70
_DATABASE_SECONDS: Final = 2.0
_PING: Final = text("select 1")


class _Runtime(Protocol):
    @property
    def database(self) -> Database: ...
    def missing(self) -> dict[str, str]: ...


def router(service: str) -> APIRouter:
    """The three addresses that probes and Prometheus read; not part of the API."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/livez")
    async def livez() -> dict[str, str]:
        return {"service": service, "status": "alive"}

    @routes.get("/readyz")
    async def readyz(request: Request) -> JSONResponse:
        missing = await _missing(request.app.state.runtime)
        status = "not ready" if missing else "ready"
        return JSONResponse({"service": service, "status": status, "missing": missing}, 503 if missing else 200)

    @routes.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(telemetry.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return routes


async def _missing(runtime: _Runtime | None) -> dict[str, str]:
    """What is missing, by name; empty when ready."""
    if runtime is None:
        return {"start": "still starting"}
    missing = runtime.missing()
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            await runtime.database.single(_PING)
    except TimeoutError:
        missing["database"] = f"no answer within {_DATABASE_SECONDS:g} s"
    except (psycopg.Error, OSError) as error:
        # The error's own text holds addresses and statements, which are nobody's business here.
        missing["database"] = f"not reachable ({type(error).__name__})"
    return missing


class LoopWatchdog:
    """Ends the process (exit code 70, stacks of all threads on standard error) when its event loop stands still.

    A thread, because the loop is what fails: a client that spins or a handler that blocks stops timers, signals and
    probes alike. Time in which the whole process was stopped does not count.
    """

    def __init__(self, limit_seconds: float, end: Callable[[], None] | None = None) -> None:
        self._limit = limit_seconds
        self._end = end or _die
        self._beats = 0
        self._interval = min(0.5, limit_seconds / 4)
        self._stopped = threading.Event()
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Watch the running loop."""
        self._loop = asyncio.get_running_loop()
        self._tick()
        threading.Thread(target=self._guard, name="loop-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching: before the loop ends."""
        self._stopped.set()
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        if self._handle is not None:
            telemetry.LOOP_LAG.set(max(0.0, now - self._handle.when()))
        self._beats += 1
        self._handle = self._loop.call_at(now + self._interval, self._tick)

    def _guard(self) -> None:
        seen, since = self._beats, time.monotonic()
        while True:
            slept = time.monotonic()
            if self._stopped.wait(self._interval):
                return
            now = time.monotonic()
            # A long sleep of this thread itself means that the process was stopped or starved: no fault of the loop.
            paused = now - slept > 4 * self._interval
            if self._beats != seen or paused:
                seen, since = self._beats, now
            elif now - since >= self._limit:
                self._end()
                return


def _die() -> None:
    faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
    os._exit(STALLED_EXIT_CODE)
