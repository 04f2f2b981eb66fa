"""Of an account that is gone, all whose words were random marks, no table, stream, segment, file or log line holds any."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import nats.errors
import pytest
from aged import age, archive
from e2e.test_erasing import (
    HELD,
    LONG_AGO,
    STREAMED,
    Marks,
    bearer,
    close_all,
    everything,
    log_lines,
    marked_files,
    marked_streams,
    marked_tables,
    quiet,
    rebuild,
)
from nats.aio.client import Client
from planting import planted
from whole_stack import Account, WholeStack, message, shared_folder, until

from relevo.contracts.base import new_id
from relevo.contracts.catalogue import SERVICES
from relevo.stack.api import Api
from relevo.stack.seed import role_id

ALARMS = ("stream_lost_messages", "stream_went_back", "lane_refused", "partition_refused")
# What moves by itself, while nobody does anything.
RESTLESS = {"presence.agent_status", "realtime.socket_tickets", "identity.sessions", "identity.refresh_tokens"}
COLUMN = """
    select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and not a.attisdropped
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
      and (a.attname = 'account_id' or (c.relname = 'accounts' and a.attname = 'id'))
    order by 1
"""


def brief(folder: Path, **more: str) -> WholeStack:
    """A stack in which accounts have no time of grace."""
    stack = WholeStack(folder)
    stack.environment |= {"RELEVO_ACCOUNT_GRACE_DAYS": "0", **more}
    return stack


@pytest.fixture
def hasty() -> Iterator[WholeStack]:
    with shared_folder() as folder:
        stack = brief(folder)
        try:
            stack.up()
            yield stack
        finally:
            stack.down()


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[WholeStack]:
    """One in which tables whose account is text are forgotten: tests/planted/dropping."""
    path = planted("dropping/table_forgotten", tmp_path / "sources")
    with shared_folder() as folder:
        stack = brief(folder, PYTHONPATH=path)
        try:
            stack.up()
            yield stack
        finally:
            stack.down()


def held(stack: WholeStack, account: Account) -> dict[str, list[Any]]:
    """Every row of an account, of every table of every service, and its part of every log."""
    found = {}
    for service in SERVICES:
        for table, column in stack.rows(service, COLUMN):
            if f"{service}.{table}" not in RESTLESS:
                rows = stack.rows(
                    service, f"select t::text from {table} t where {column}::text = %s order by 1", [account.id]
                )
                found[f"{service}.{table}"] = [row[0] for row in rows]
        log = "select subject, body from outbox where subject like %s order by event_id"
        found[f"{service}.outbox"] = stack.rows(service, log, [f"%.{account.id}.%"])
    return found


async def deleted(stack: WholeStack, account: Account) -> dict[str, Any]:
    """Have it deleted by a person; answers the certificate."""
    password, email = secrets.token_urlsafe(18), f"jefa-{secrets.token_hex(4)}@relevo.example"
    body = {
        "name": "Jefa",
        "email": email,
        "role_id": await role_id(account.admin, "administrator"),
        "inbox_ids": None,
        "initial_password": password,
    }
    await account.admin.post("/agents", body)
    async with Api(stack.edge_url) as api:
        session = await api.post("/sessions", {"email": email, "password": password})
    name = (await account.admin.get("/account"))["name"]
    async with Api(stack.edge_url, session["access_token"]) as person:
        await person.post("/account/deletion", {"name": name, "password": password})
    last: dict[str, Any] = {}

    async def done() -> bool:
        async with httpx.AsyncClient(base_url=f"{stack.edge_url}/api/v1") as operator:
            answer = await operator.get(
                f"/setup/deleted-accounts/{account.id}",
                headers={"Authorization": f"Bearer {stack.secret('setup-token')}"},
            )
        if answer.status_code == 200:
            last.update(answer.json())
        return last.get("done_at") is not None

    await until(done, "the certificate", 150)
    return last


async def lets_in(stack: WholeStack, creds: str) -> bool:
    """Whether the broker still knows a user."""
    client = Client()
    try:
        await client.connect(stack.nats_url, user_credentials=creds, allow_reconnect=False, error_cb=_ignored)
    except nats.errors.Error:
        return False
    finally:
        await client.close()
    return True


async def _ignored(_: Exception) -> None:
    """What goes wrong is raised by connecting."""


def of_the_team(account: Account, marks: Marks, name: str) -> Marks:
    """The marks, and what tells who the account and its people are."""
    found = Marks(marks)
    found["account"] = name.removeprefix("Cuenta ")
    found["person"] = account.people[0].email
    return found


@pytest.mark.deep
@pytest.mark.timeout(600)
async def test_nothing_of_an_account_that_is_gone_is_anywhere_and_the_one_beside_it_is_as_it_was(
    hasty: WholeStack,
) -> None:
    stack, marks, others = hasty, Marks(), Marks()
    async with AsyncExitStack() as both:
        account = await both.enter_async_context(stack.account("ana"))
        other = await both.enter_async_context(stack.account("eva"))
        await everything(stack, account, marks)
        _, talk = await everything(stack, other, others)
        await close_all(other)
        await quiet(stack)
        assert age(stack, LONG_AGO) == sum(one["rows"] for one in archive(stack))
        for one, its in ((account, marks), (other, others)):
            async with one.adapter() as adapter:
                await adapter.publish(message(new_id(), f"+34{its['phone']}", its["after"]))
                await one.conversation(f"+34{its['phone']}", status="open")
        await close_all(other)
        await quiet(stack)
        marks = of_the_team(account, marks, (await account.admin.get("/account"))["name"])
        # The looking finds what there is.
        assert marked_tables(stack, marks) >= HELD | {"identity.agents", "identity.accounts", "reporting.directory"}
        assert await marked_streams(stack, marks) >= STREAMED
        assert marked_files(stack, marks) >= {"files/conversation/archive", "files/ingest/archive"}
        before, lines = held(stack, other), log_lines(stack)
        creds = str(account.adapter_creds)

        certificate = await deleted(stack, account)
        assert {part["service"] for part in certificate["parts"]} == set(SERVICES)
        assert all(part["done_at"] for part in certificate["parts"])
        counted = {part["service"]: part for part in certificate["parts"]}
        assert counted["conversation"]["files"] >= 1
        assert all(counted[service]["log"] > 0 for service in ("conversation", "ingest", "identity", "reporting"))
        await quiet(stack)
        assert marked_tables(stack, marks) == set()
        assert await marked_streams(stack, marks) == set()
        assert marked_files(stack, marks) == set()
        # Its id is where it is said that it is gone, and nowhere else.
        ids = Marks(id=account.id)
        tables = {f"{service}.{table}" for service in SERVICES for table in ("account_drops", "outbox")}
        assert marked_tables(stack, ids) - tables == {"identity.account_certificates"}
        for service in SERVICES:
            theirs = "select subject from outbox where subject like %s and subject not like '%%.platform.%%'"
            assert stack.rows(service, theirs, [f"%{account.id}%"]) == [], service
        assert await marked_streams(stack, ids) == {"CMD_ACCOUNTS", "EVT_IDENTITY"}
        now_held = held(stack, other)
        assert {table for table in before if before[table] != now_held[table]} == set()

        async with httpx.AsyncClient(base_url=f"{stack.edge_url}/api/v1", headers=bearer(account)) as key:
            # 503: of a key that was made within a minute nobody can say that it was not on its way here.
            found = {(await key.get(path)).status_code for path in ("/conversations", "/account", "/queue")}
            assert found <= {401, 503}
        assert not await lets_in(stack, creds)

        # Built anew, and started anew, it is the same; nobody complains of what is not there.
        rebuild(stack, "reporting", "reports")
        rebuild(stack, "realtime", "conversation_facts")
        await asyncio.to_thread(stack.down)
        await asyncio.to_thread(stack.up)
        other.admin = await both.enter_async_context(Api(stack.edge_url, other.api_token))
        assert (await other.admin.get(f"/conversations/{talk}"))["id"] == talk
        async with other.adapter() as adapter:
            await adapter.publish(message(new_id(), f"+34{others['phone']}", "otra vez"))
            await other.conversation(f"+34{others['phone']}", status="open")
        await quiet(stack)
        assert marked_tables(stack, marks) == set()
        assert not [line for line in log_lines(stack)[len(lines) :] if any(alarm in line for alarm in ALARMS)]


@pytest.mark.deep
@pytest.mark.timeout(400)
async def test_a_table_that_is_forgotten_is_found(forgetful: WholeStack) -> None:
    marks = Marks()
    async with forgetful.account("ana") as account:
        await everything(forgetful, account, marks)
        await quiet(forgetful)
        marks = of_the_team(account, marks, (await account.admin.get("/account"))["name"])
        await deleted(forgetful, account)
        found = marked_tables(forgetful, marks)
        assert {table.partition(".")[2] for table in found} >= {"directory"}
        assert {f"{service}.directory" for service in SERVICES} <= found
