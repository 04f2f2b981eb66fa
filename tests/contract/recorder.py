"""A pytest plugin: keeps every statement that a service sends to its database while tests run.

They go to the file that RELEVO_STATEMENTS names, as JSON: by service, in order.
"""

import json
import os
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

_seen: dict[str, set[str]] = {}
_execute = psycopg.AsyncConnection.execute


async def _kept(self: psycopg.AsyncConnection[Any], query: Any, *given: Any, **more: Any) -> psycopg.AsyncCursor[Any]:
    name = self.info.get_parameters().get("application_name", "")
    if name.startswith("relevo-"):
        told = query.as_string(self) if isinstance(query, sql.Composable) else query
        _seen.setdefault(name.removeprefix("relevo-"), set()).add(told)
    return await _execute(self, query, *given, **more)


def pytest_configure() -> None:
    psycopg.AsyncConnection.execute = _kept  # type: ignore[method-assign]


def pytest_unconfigure() -> None:
    kept = {service: sorted(statements) for service, statements in sorted(_seen.items())}
    Path(os.environ["RELEVO_STATEMENTS"]).write_text(json.dumps(kept, indent=1))
