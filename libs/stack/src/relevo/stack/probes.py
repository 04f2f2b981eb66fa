"""Whether what runs also answers: servers and services, asked side by side.

Side by side, so that a server that hangs, and ten services that wait for it, cost one patience and not eleven: meanwhile the
status would tell of a time when all was well.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import httpx
import psycopg

from relevo.stack import readiness

PATIENCE_SECONDS = 3.0
"""Longer than a service waits for its database before it says that it is not there."""
_AT_ONCE = 32


class Probes:
    """Asks many at once. Its threads start no children: these would die with them."""

    def __init__(self) -> None:
        self._client = httpx.Client(timeout=PATIENCE_SECONDS, trust_env=False)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="probe")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def ask(self, questions: Iterable[Callable[[], str]]) -> list[str]:
        """The answers, in the order of the questions: what is wrong, empty where nothing is."""
        return list(self._threads.map(lambda question: question(), questions))

    def service(self, port: int) -> str:
        """What a service misses by its own word; empty when it is ready."""
        try:
            answer = self._client.get(f"http://127.0.0.1:{port}/readyz")
        except httpx.TransportError as error:
            return f"does not answer ({type(error).__name__})"
        if answer.status_code == 200:
            return ""
        try:
            return readiness.told(answer.json()["missing"])
        except (ValueError, KeyError, TypeError, AttributeError):  # whatever took that port, it is none of ours
            return f"answered {answer.status_code}, which is no readiness of a service"

    def page(self, url: str) -> str:
        """Why a server does not answer over HTTP; empty when it does."""
        try:
            self._client.get(url).raise_for_status()
        except httpx.HTTPError as error:
            return type(error).__name__
        return ""


def postgres(dsn: str) -> str:
    """Why PostgreSQL does not let anybody in; empty when it does."""
    try:
        psycopg.connect(dsn, connect_timeout=int(PATIENCE_SECONDS)).close()
    except psycopg.Error as error:
        return type(error).__name__
    return ""
