"""Structured logs: JSON lines for machines, coloured lines for people, on standard error.

A line says what happened and to which account, conversation, event, correlation and trace (from context variables);
never a message body, never a secret: values whose key looks like one are masked, and so are passwords within URLs.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, TextIO

import structlog
from structlog.contextvars import bound_contextvars
from structlog.typing import Processor

_SECRET = re.compile(
    r"password|passwd|secret|token|authorization|cookie|credential|(^|_)key$|dsn|database_url", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(://[^:/@\s]+:)[^@/\s]+@")
_MASK = "***"
_SAID_EVERY = 60.0


def configure(service: str, *, level: str = "info", form: str = "json", stream: TextIO | None = None) -> None:
    """Route structlog, the standard library's loggers and uvicorn's to one stream in one form (json or console).

    Calling it again replaces the former configuration.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    out = stream or sys.stderr

    def add_service(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line.setdefault("service", service)
        return line

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
        structlog.processors.StackInfoRenderer(),
    ]
    finish: list[Processor]
    if form == "json":
        finish = [
            structlog.processors.format_exc_info,
            mask,
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ]
    else:
        # The plain traceback: the rich one would print local variables, and bodies with them.
        plain = structlog.dev.plain_traceback
        finish = [mask, structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[shared[0], Repeats(), *shared[1:], *finish],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        other = logging.getLogger(name)
        other.handlers.clear()
        other.propagate = True
    # Our own line per request says more and leaves the query string out.
    logging.getLogger("uvicorn.access").disabled = True
    for name in ("uvicorn.error", "faststream", "nats", "httpx", "httpcore", "alembic"):
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


class Repeats:
    """A processor: of warnings of an error that are alike one is said, then one a minute, which tells how many were held back.

    What tries again and again while the database or the broker is away would else fill the log with it. Partitions of a stream
    are alike: they are away together.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def __call__(self, _: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Raises structlog.DropEvent for what is held back."""
        if method != "warning" or "error" not in line:
            return line
        now = self._clock()
        alike = repr(sorted(item for item in line.items() if item[0] != "partition"))
        said, held_back = self._said.get(alike, (now - _SAID_EVERY, 0))
        if now - said < _SAID_EVERY:
            self._said[alike] = said, held_back + 1
            raise structlog.DropEvent
        if held_back:
            line["held_back"] = held_back
        self._said = {one: was for one, was in self._said.items() if now - was[0] < 2 * _SAID_EVERY}
        self._said[alike] = now, 0
        return line


def log_context(**ids: str) -> AbstractContextManager[Any]:
    """Add ids (account, conversation, event_id, correlation, trace) to every line logged within."""
    return bound_contextvars(**ids)


def mask(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide what must not be logged; the processor before the renderer."""
    for key, value in line.items():
        line[key] = _masked(key, value)
    return line


def _masked(key: str, value: Any) -> Any:
    if isinstance(value, str):
        if _SECRET.search(key):
            return _MASK
        return _URL_PASSWORD.sub(rf"\1{_MASK}@", value) if "://" in value else value
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET.search(key):
        return _MASK
    if isinstance(value, Mapping):
        return {str(inner): _masked(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked("", item) for item in value]
    return value
