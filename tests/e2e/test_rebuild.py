"""The log outlives its streams: everything archived, the streams purged, and the projections read again are the same."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import httpx
import nats
import psycopg
import pytest
from aged import age, archive
from contract.test_projections import built
from e2e.test_erasing import Marks, bearer, webchat
from whole_stack import Account, WholeStack, message, until

from relevo.chassis.jobs import projections
from relevo.contracts.base import new_id, now
from relevo.contracts.catalogue import SERVICES
from relevo.contracts.streams import STREAMS

PROJECTIONS = {
    **{(service, "directory"): ("directory",) for service in SERVICES},
    ("reporting", "reports"): ("facts", "rollup_minute", "rollup_hour", "rollup_day", "rollup_month"),
    ("assignment", "conversation_facts"): ("conversation_facts",),
    ("realtime", "conversation_facts"): ("conversation_facts", "chats"),
    ("automation", "agents_there"): ("agents_there",),
    ("automation", "alert_statuses"): ("alert_statuses",),
    ("automation", "labels"): ("label_names",),
    ("reporting", "labels"): ("label_names",),
}
LONG_AGO = date(2025, 1, 1)
SENDERS, EACH = 6, 4
RECEIVED = SENDERS * EACH + 1
"""And what the visitor of the web page wrote."""


class Log:
    """What an operator could do to a running stack's databases and streams, and what they hold."""

    def __init__(self, stack: WholeStack) -> None:
        self.stack = stack

    @contextmanager
    def database(self, service: str) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self.stack.told(service)["RELEVO_DATABASE_URL"]) as connection:
            yield connection

    def dump(self, service: str, tables: tuple[str, ...]) -> dict[str, list[str]]:
        """Every row of these tables as text, in the order of that text."""
        return {
            table: [row[0] for row in self.stack.rows(service, f"select t::text from {table} t order by 1")]
            for table in tables
        }

    def dumps(self) -> dict[tuple[str, str], dict[str, list[str]]]:
        return {key: self.dump(key[0], tables) for key, tables in PROJECTIONS.items()}

    def oids(self) -> dict[tuple[str, str], list[int]]:
        return {
            (service, name): [
                self.stack.rows(service, f"select '{table}'::regclass::oid::bigint")[0][0] for table in tables
            ]
            for (service, name), tables in PROJECTIONS.items()
        }

    async def quiet(self) -> None:
        """Wait until nothing has moved for a while anywhere: rows, positions, what waits."""
        seen: list[Any] = []

        async def settled() -> bool:
            found = [
                self.stack.rows(
                    service,
                    "select (select count(*) from outbox where stream_seq is null), (select coalesce(max(id), 0) from outbox),"
                    " (select coalesce(sum(seq), 0) from position)",
                )[0]
                for service in SERVICES
            ]
            seen.append(found)
            await asyncio.sleep(0.2)  # the pace of looking, not a wait for something
            return len(seen) > 8 and all(one == found for one in seen[-8:]) and not any(row[0] for row in found)

        await until(settled, "quiet", 60)

    async def purge(self) -> None:
        """Empty every stream that services read in order."""
        client = await nats.connect(
            self.stack.nats_url,
            user_credentials=str(self.stack.home / "secrets" / "topology.creds"),
            inbox_prefix="_INBOX_topology",
        )
        for stream in STREAMS:
            if stream.partitions:
                await client.jetstream().purge_stream(stream.name)
                info = await client.jetstream().stream_info(stream.name)
                assert info.state.messages == 0
        await client.close()

    def rebuild(self, service: str, projection: str) -> dict[str, Any]:
        """As `relevo rebuild` runs it, without the second interpreter."""
        done = subprocess.run(
            [sys.executable, "-m", f"relevo.{service}", "rebuild", projection, "--json"],
            env=self.stack.told(service) | {"RELEVO_LOG_LEVEL": "warning"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{service} {projection}: {done.stdout}{done.stderr}"
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return said


async def traffic(stack: WholeStack, account: Account) -> None:
    """Customers write, one of them on the web page; people answer, resolve and go; a rule labels, labels are merged."""
    await account.admin.post(
        "/rules",
        {
            "name": "Facturas",
            "trigger": "message_received",
            "conditions": {"field": "message.text", "operator": "any_word", "value": ["factura"]},
            "actions": [{"type": "add_labels", "labels": ["factura"]}],
        },
    )
    for person in account.people:
        await person.be("available")
    async with account.adapter() as adapter:
        for n in range(EACH):
            for sender in range(SENDERS):
                await adapter.publish(message(f"{sender}-{n}", f"s{sender}", f"Mensaje {n}, con una factura"))
            for sender in range(SENDERS):
                found = await account.conversation(f"s{sender}", status="open", labels=["factura"])
                where = f"/conversations/{found['id']}"
                await account.admin.post(f"{where}/messages", {"text": "Se la enviamos"})
                if n % 2:
                    await account.admin.post(f"{where}/resolve")
    await webchat(stack, account, Marks())
    invoices = await account.admin.post("/labels", {"name": "Facturas de hoy"})
    await account.admin.post("/labels", {"name": "Envío"})
    (used,) = [one async for one in account.admin.pages("/labels") if one["key"] == "factura"]
    async with httpx.AsyncClient(base_url=f"{stack.edge_url}/api/v1", headers=bearer(account)) as plain:
        path = f"/labels/{used['id']}"
        seen = {"If-Match": (await plain.get(path)).headers["ETag"], "Idempotency-Key": new_id()}
        done = await plain.post(f"{path}/merge", json={"into": invoices["id"]}, headers=seen)
        assert done.is_success, done.text

    async def merged() -> bool:
        return (await account.admin.get(f"/labels/{used['id']}"))["state"] == "merged"

    await until(merged, "labels that are merged", 60)
    for person in account.people:
        await person.be("offline")


async def answers(account: Account, began: Any, ended: Any) -> list[Any]:
    """What the reports say of a period that is over."""
    period = {"since": began.isoformat(), "until": ended.isoformat()}
    facts = [
        fact
        for metric in ("messages_in", "resolution", "labels_added")
        async for fact in account.admin.pages("/reports/facts", metric=metric, **period)
    ]
    series = await account.admin.get("/reports/series", metric="messages_in", bucket="hour", **period)
    return [await account.admin.get("/reports/summary", **period), series, facts]


@pytest.mark.deep
@pytest.mark.timeout(400)
async def test_projections_read_again_from_the_archive_are_the_same_byte_for_byte(stack: WholeStack) -> None:
    log = Log(stack)
    began = now().replace(second=0, microsecond=0)
    async with stack.account("ana", "berta") as account:
        await traffic(stack, account)
        await log.quiet()
        ended = now().replace(second=0, microsecond=0) + timedelta(minutes=1)
        before, told = log.dumps(), await answers(account, began, ended)
        assert all(any(tables.values()) for tables in before.values())
        assert any(metric["metric"] == "messages_in" and metric["count"] == RECEIVED for metric in told[0]["metrics"])

        rows = age(stack, LONG_AGO)
        archived = archive(stack)
        assert sum(one["rows"] for one in archived) == rows > 0
        assert {one["service"] for one in archived} == set(SERVICES)
        assert all(stack.rows(service, "select count(*) from outbox") == [(0,)] for service in SERVICES)
        await log.purge()

        # Nothing of the reports is left but what the log can give.
        with log.database("reporting") as connection:
            connection.execute("truncate facts, rollup_minute, rollup_hour, rollup_day, rollup_month")
        made = log.oids()
        for service, projection in PROJECTIONS:
            log.rebuild(service, projection)
        assert log.dumps() == before
        assert await answers(account, began, ended) == told
        assert all(made[key] != found for key, found in log.oids().items())

        # A service that has never read anything gets the whole log by itself.
        key = ("realtime", "conversation_facts")
        with log.database("realtime") as connection:
            connection.execute("truncate conversation_facts")
            connection.execute("delete from position where stream = 'EVT_CONVERSATION'")
            connection.execute("delete from handled where stream = 'EVT_CONVERSATION'")
        assert stack.signal("realtime", signal.SIGKILL)

        async def whole() -> bool:
            return log.dump("realtime", PROJECTIONS[key]) == before[key]

        await until(whole, "the whole log in a service that begins anew", 30)

        # And the line goes on.
        async with account.adapter() as adapter:
            await adapter.publish(message("after", "s-after", "Después de todo"))
            await account.conversation("s-after", status="open")
        await log.quiet()
        done = stack.relevo("rebuild", "reporting", "reports")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "reports: done" in done.stdout
        period = {"since": began.isoformat(), "until": now().isoformat()}
        summary = {m["metric"]: m["count"] for m in (await account.admin.get("/reports/summary", **period))["metrics"]}
        assert summary["messages_in"] == RECEIVED + 1


def test_every_projection_of_every_service_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    every = {
        (service, name): projection.tables
        for service in SERVICES
        for name, projection in projections(built(service, monkeypatch)).items()
    }
    assert every == PROJECTIONS


def test_a_projection_that_does_not_exist_is_refused_by_name(stack: WholeStack) -> None:
    done = stack.relevo("rebuild", "reporting", "nonsense")
    assert done.returncode == 2
    assert done.stderr.strip() == "rebuild: reporting has no projection nonsense; there are: directory, reports, labels"
    listed = stack.relevo("rebuild", "reporting")
    assert listed.returncode == 0
    assert "reports: facts, rollup_minute, rollup_hour, rollup_day, rollup_month (from EVT_ASSIGNMENT" in listed.stdout
