"""The audit log: filtered, exported, and read by its indexes, on real PostgreSQL."""

import csv
import io
import json
from datetime import timedelta
from urllib.parse import quote

import psycopg
import pytest

from relevo.chassis.testing import unique
from relevo.contracts.base import new_id, now
from relevo.identity.store import audit
from relevo.identity.store.audit import By, Filters, Record

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def export(account, query="", **options):
    answer = await account.call("GET", f"/audit/export{query}", **({"expect": 200} | options))
    return list(csv.DictReader(io.StringIO(answer.text)))


async def listed(account, query):
    return (await account.call("GET", f"/audit?limit=200&{query}", expect=200)).json()["items"]


async def test_what_is_asked_for_is_what_is_listed_and_exported(account):
    began = now()
    role = await account.role("agent")
    agent = await account.new_agent(role["id"])
    await account.call("PATCH", f"/agents/{agent['id']}", {"name": "Ana B"}, If_Match="*", expect=200)
    team = (await account.call("POST", "/teams", {"name": unique()}, expect=201)).json()
    token = await account.signed_in(account.admin_email)
    await account.call("DELETE", f"/teams/{team['id']}", token=token, expect=204)
    for query, actions in (
        (f"entity_id={agent['id']}", ["agent.updated", "agent.created"]),
        (f"entity_id={agent['id']}&action=agent.updated", ["agent.updated"]),
        (f"actor=agent:{account.admin_id}", ["team.removed"]),
        (f"entity_kind=team&since={quote(began.isoformat())}", ["team.removed", "team.created"]),
        (f"since={quote((now() + timedelta(minutes=1)).isoformat())}", []),
        (f"entity_kind=team&until={quote(began.isoformat())}", []),
    ):
        assert [entry["action"] for entry in await listed(account, query)] == actions, query
        assert [row["action"] for row in await export(account, f"?{query}")] == actions, query
    (row,) = await export(account, f"?entity_id={agent['id']}&action=agent.updated")
    (entry,) = await listed(account, f"entity_id={agent['id']}&action=agent.updated")
    assert (json.loads(row["before"])["name"], json.loads(row["after"])["name"]) == ("Ana", "Ana B")
    assert {name: row[name] for name in ("id", "actor_name", "ip")} == {n: entry[n] for n in ("id", "actor_name", "ip")}
    # Whoever takes the log away is in it.
    exported = await listed(account, "action=audit.exported")
    assert exported[0]["after"] == {"entity": agent["id"], "action": "agent.updated"}


async def test_an_export_has_every_act_of_this_account_and_no_formulas(account, other):
    by, at = By("system", "=HYPERLINK(1)"), now()
    async with account.service.runtime.database.begin(account.id, other.id) as tx:
        acts = [Record("test.act", "thing", f"+{n}") for n in range(2500)]
        await audit.append(tx, account.id, by, acts, at=at)
        await audit.append(tx, other.id, by, [Record("test.act", "thing", "theirs")], at=at)
    rows = await export(account, "?action=test.act")
    assert [row["entity_id"] for row in rows] == [f"'+{n}" for n in reversed(range(2500))]
    assert {row["actor_name"] for row in rows} == {"'=HYPERLINK(1)"}
    reader = await account.new_agent((await account.role("auditor"))["id"])
    assert len(await export(account, "?action=test.act", token=await account.signed_in(reader["email"]))) == 2500
    nobody = await account.new_agent((await account.role("agent"))["id"])
    token = await account.signed_in(nobody["email"])
    for path in ("/audit", "/audit/export"):
        await account.call("GET", path, token=token, expect=403)


async def test_every_filter_reads_little_of_a_long_log(account):
    """Rows that a plan reads, not seconds: 20,000 acts, of which each filter wants a handful."""
    rare = new_id()
    async with account.service.runtime.database.begin(account.id) as tx:
        for actor in ("system", f"agent:{rare}"):
            count = 20_000 if actor == "system" else 3
            acts = [Record("x.common" if count > 3 else "x.rare", "thing", new_id()) for _ in range(count)]
            await audit.append(tx, account.id, By(actor, "n"), acts, at=now())
    with psycopg.connect(account.service.dsn, autocommit=True) as connection:
        connection.execute("analyze audit_log")
    for filters in (
        Filters(actor=f"agent:{rare}"),
        Filters(action="x.rare"),
        Filters(entity=rare),
        Filters(since=now() + timedelta(hours=1)),
        Filters(),
    ):
        assert await rows_read(account, filters) < 300, filters


async def rows_read(account, filters):
    """What the statement of a page makes PostgreSQL look at."""
    seen = []

    class Explaining:
        """A transaction that explains what it is asked."""

        def __init__(self, tx):
            self.tx = tx

        async def execute(self, statement, parameters):
            explained = await self.tx.execute(
                type(statement)(f"explain (analyze, format json, timing off) {statement.text}"), parameters
            )
            seen.append(explained.scalar_one())
            return await self.tx.execute(statement, parameters)

    async with account.service.runtime.database.begin(account.id) as tx:
        await audit.page(Explaining(tx), account.id, filters, before=None, limit=51)
    plan = seen[0] if isinstance(seen[0], list) else json.loads(seen[0])
    return looked_at(plan[0]["Plan"])


def looked_at(node):
    own = node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)
    return (own if "Scan" in node["Node Type"] else 0) + sum(looked_at(child) for child in node.get("Plans", []))
