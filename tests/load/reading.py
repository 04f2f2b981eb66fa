"""How many rows a question reads, by what the database itself tells: EXPLAIN (ANALYZE, BUFFERS)."""

import json
from dataclasses import dataclass
from typing import Any

from questions import Ask
from sqlalchemy import text

from relevo.chassis.database import Database
from relevo.chassis.statements import rendered
from relevo.kernel.access import Viewer


@dataclass
class Reading:
    """What the statements of one question did."""

    rows: int = 0
    buffers: int = 0
    planning_ms: float = 0.0
    execution_ms: float = 0.0


class _Undo(Exception):
    """Ends a transaction without keeping it."""


async def read(database: Database, ask: Ask, viewer: Viewer) -> Reading:
    """Ask, explaining every statement that reads, in a transaction that is undone."""
    reading = Reading()
    try:
        async with database.begin(viewer.account_id) as tx:
            # A small table is read faster from end to end; here it stands for a large one.
            await tx.execute(text("set local enable_seqscan = off"))
            execute = tx.execute

            async def explained(statement: Any, parameters: Any = None) -> Any:
                sql, values = rendered(statement, parameters)
                if sql.lstrip().lower().startswith(("select", "with")) and "set_config" not in sql:
                    cursor = await tx.conn.execute(f"explain (analyze, buffers, format json) {sql}", values)
                    _add(reading, (await cursor.fetchone())[0])
                return await execute(statement, parameters)

            tx.execute = explained  # type: ignore[method-assign]
            await ask(tx, viewer)
            raise _Undo
    except _Undo:
        return reading


def _add(reading: Reading, told: Any) -> None:
    (whole,) = json.loads(told) if isinstance(told, str) else told
    reading.planning_ms += whole["Planning Time"]
    reading.execution_ms += whole["Execution Time"]
    plan = whole["Plan"]
    reading.buffers += plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0)
    _walk(reading, plan)


def _walk(reading: Reading, node: dict[str, Any]) -> None:
    if "Scan" in node["Node Type"] and ("Relation Name" in node or "Index Name" in node):
        left_out = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        reading.rows += round((node["Actual Rows"] + left_out) * node["Actual Loops"])
    for part in node.get("Plans", ()):
        _walk(reading, part)
