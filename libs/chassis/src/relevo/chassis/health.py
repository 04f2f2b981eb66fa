"""Is the process alive, is it ready, and what does it measure: /livez, /readyz, /metrics. And the loop's watchdog."""

import asyncio
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from relevo.chassis import telemetry

STALLED_EXIT_CODE: Final = 70
_CHECK_SECONDS: Final = 2.0

Check = Callable[[], Awaitable[str | None]]
"""Answers None when well, else what is missing, in words for whoever runs the process."""


class Health:
    """The named checks that readiness consists of."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """Make readiness depend on this check too; the same name again replaces it."""
        self._checks[name] = check

    async def missing(self) -> dict[str, str]:
        """What is missing, by name; empty when ready. A check that raises or hangs counts as missing."""
        names = list(self._checks)
        answers = await asyncio.gather(*(self._ask(self._checks[name]) for name in names))
        return {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}

    @staticmethod
    async def _ask(check: Check) -> str | None:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                return await check()
        except TimeoutError:
            return f"no answer within {_CHECK_SECONDS:g} s"
        except Exception as error:  # noqa: BLE001 — whatever it is, it is what is missing
            return f"{type(error).__name__}: {error}"


def router(service: str, health: Health) -> APIRouter:
    """The three addresses that probes and Prometheus read; not part of the API."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/livez")
    async def livez() -> dict[str, str]:
        return {"service": service, "status": "alive"}

    @routes.get("/readyz")
    async def readyz() -> JSONResponse:
        missing = await health.missing()
        status = "not ready" if missing else "ready"
        return JSONResponse({"service": service, "status": status, "missing": missing}, 503 if missing else 200)

    @routes.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(telemetry.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return routes


class LoopWatchdog:
    """Ends the process (exit code 70, stacks of all threads on standard error) when its event loop stands still.

    A thread, because the loop is what fails: a client that spins or a handler that blocks stops timers, signals and
    probes alike. Time in which the whole process was stopped does not count.
    """

    def __init__(self, service: str, limit_seconds: float, end: Callable[[], None] | None = None) -> None:
        self._lag = telemetry.LOOP_LAG.labels(service)
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
            self._lag.set(max(0.0, now - self._handle.when()))
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
