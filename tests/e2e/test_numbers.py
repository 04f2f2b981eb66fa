"""What a whole stack reports of a morning's work is what a recount of its logs says."""

import asyncio
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from e2e.test_rebuild import Log
from recount.comparing import reports_agree
from recount.recount import Asked, Event, Recount, summary
from whole_stack import Account, WholeStack, message

from relevo.contracts.base import now
from relevo.kernel.business_time import WEEKDAYS

SOURCES = ("identity", "presence", "conversation", "assignment", "automation")
SENDERS = 6
NODE = shutil.which("node")
EXAMPLE = Path(__file__).parents[2] / "libs" / "adapter" / "examples" / "metrics.mjs"


def events(stack: WholeStack, account: Account) -> list[Event]:
    """What these services published of the account, as their logs have it."""
    rows = [
        row
        for service in SOURCES
        for row in stack.rows(
            service, "select headers, body from outbox where subject like %s order by id", [f"evt.%{account.id}%"]
        )
    ]
    return [Event.stored(json.loads(headers) if isinstance(headers, str) else headers, body) for headers, body in rows]


async def work(account: Account) -> None:
    """Customers write, are answered, labelled, handed on, resolved, and write again."""
    ana, berta = account.people
    # Open for half of each hour: nothing is all of it, or nothing, for long.
    halves = [
        {"day": day, "opens": f"{hour:02}:00", "closes": f"{hour:02}:30"} for day in WEEKDAYS for hour in range(24)
    ]
    await account.admin.post(
        "/calendars", {"name": "C", "time_zone": "Asia/Kolkata", "weekly": halves, "is_default": True}
    )
    async with account.adapter() as adapter:
        for sender in range(SENDERS):
            await adapter.publish(message(f"{sender}-0", f"s{sender}", "Buenas"))
        for person in account.people:
            await person.be("available")
        for sender in range(SENDERS):
            found = await account.conversation(f"s{sender}")
            where = f"/conversations/{found['id']}"
            one, other = (ana, berta) if sender % 2 else (berta, ana)
            await account.admin.post(f"{where}/assignment", {"assignee_id": one.id})
            await one.api.post(f"{where}/messages", {"text": "Dígame"})
            await one.api.post(f"{where}/messages", {"text": "Es de las de ayer", "private": True})
            if sender % 3 == 0:
                await one.api.post(f"{where}/labels", {"add": ["factura"]})
            await adapter.publish(message(f"{sender}-1", f"s{sender}", "Mi pedido no llega"))
            await account.conversation(f"s{sender}", message_count=4)
            if sender % 3 == 1:
                await account.admin.post(f"{where}/assignment", {"assignee_id": other.id})
            await other.api.post(f"{where}/messages", {"text": "Hoy sin falta"})
            await other.api.post(f"{where}/resolve")
        for sender in range(2):
            await adapter.publish(message(f"{sender}-2", f"s{sender}", "Sigue sin llegar"))
            found = await account.conversation(f"s{sender}", status="open")
            await ana.api.post(f"/conversations/{found['id']}/messages", {"text": "Lo miro"})
    for person in account.people:
        await person.be("offline")


@pytest.mark.timeout(240)
async def test_what_a_stack_reports_is_what_a_recount_of_its_logs_says(stack: WholeStack) -> None:
    began = now().replace(second=0, microsecond=0)
    async with stack.account("ana", "berta") as account:
        await work(account)
        await Log(stack).quiet()
        asked = Asked(began, now().replace(second=0, microsecond=0) + timedelta(minutes=1))
        counted = Recount().hear(events(stack, account))

        async def get(path: str, query: dict[str, str]) -> Any:
            return await account.admin.get(f"/reports/{path}", **query)

        await reports_agree(get, counted, asked, ("Asia/Kolkata",))
        told = {metric: number.count for metric, number in summary(counted, asked).items()}
        assert (told["conversations_opened"], told["conversations_reopened"]) == (SENDERS, 2)
        assert told["first_response"] == SENDERS + 2
        assert told["reply_time"] == 2 * SENDERS + 2
        assert {"transfers", "presence_seconds", "labels_added", "wait_in_queue", "notes"} <= told.keys()


@pytest.mark.skipif(NODE is None, reason="there is no node on this machine to run the example with")
async def test_a_consumer_in_another_language_adds_up_to_the_report(stack: WholeStack) -> None:
    began = now() - timedelta(minutes=1)
    async with stack.account("ana", "berta") as account:
        await work(account)
        await Log(stack).quiet()
        period = {"since": began.isoformat(), "until": (now() + timedelta(minutes=1)).isoformat()}
        report = (await account.admin.get("/reports/summary", **period))["metrics"]
        told = {
            one["metric"]: {"count": one["count"], "sum": pytest.approx(one["sum"])} for one in report if one["count"]
        }
        assert len(told) > 8
        assert NODE is not None
        process = await asyncio.create_subprocess_exec(
            *(NODE, str(EXAMPLE), stack.nats_url, str(account.metrics_creds), account.id),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, wrong = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, wrong.decode()
        found = json.loads(said)
        assert found["facts"] == told
        assert found["deltas"] == told
