"""Deleting a whole account: asked for, called off, closed, dropped, certified."""

import gzip
import json
from collections import Counter

import psycopg
import pytest

from relevo.chassis import outbox
from relevo.chassis.bus import until
from relevo.contracts.accounts import AccountDropped, DropAccount, RowsDropped
from relevo.contracts.base import new_id
from relevo.contracts.catalogue import SERVICES
from relevo.contracts.identity import PLATFORM, AccountDeleted
from relevo.contracts.ingest import InboxChanged, InboxState
from relevo.identity import deletions

pytestmark = pytest.mark.asyncio(loop_scope="module")
OPERATOR = {"Authorization": "Bearer setup-token-of-the-tests", "Accept-Language": "en"}
POINTS = ("identity.account_closed", "identity.account_advanced")
OTHERS = [name for name in SERVICES if name != "identity"]


@pytest.fixture(scope="module")
def more_settings():
    return {"RELEVO_ERASURE_SETTLE_SECONDS": "0"}


async def name_of(account):
    return (await account.call("GET", "/account", expect=200)).json()["name"]


async def told(account, template):
    """What notification is to tell, as (kind, role)."""
    await account.service.settle()
    found = []
    for _, headers, body in await account.service.admin.stored("CMD_NOTIFICATION"):
        command = json.loads(body)
        if headers["relevo-account"] == account.id and command["template"] == template:
            found.append((command["kind"], command["role_id"], headers["relevo-actor"]))
    return sorted(found)


def due_now(account):
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute(
            "update account_deletions set due_at = now() - interval '1 second' where account_id = %s", [account.id]
        )


async def certificate(account):
    answer = await account.service.http.get(f"/setup/deleted-accounts/{account.id}", headers=OPERATOR)
    return answer.json() if answer.status_code == 200 else None


async def test_whoever_asks_writes_the_name_and_the_password_and_everybody_who_administers_is_told(account):
    session = await account.signed_in(account.admin_email)
    name = await name_of(account)
    roles = {
        name: (await account.new_role(permissions))["id"]
        for name, permissions in (("deputy", ["account.manage"]), ("clerk", ["directory.read"]))
    }
    refused = [
        ({"name": name, "password": "wrong password"}, session, 403, "wrong_password"),
        ({"name": name}, session, 403, "wrong_password"),
        ({"name": name + "x", "password": account.password}, session, 422, "not_the_accounts_name"),
        ({"name": name, "password": account.password}, None, 403, "not_an_agent"),
    ]
    for body, token, status, code in refused:
        answer = await account.call("POST", "/account/deletion", body, token=token, expect=status)
        assert answer.json()["code"] == code
    clerk = await account.new_agent(roles["clerk"])
    token = await account.signed_in(clerk["email"])
    for method in ("POST", "GET", "DELETE"):
        body = {"name": name, "password": account.password} if method == "POST" else None
        await account.call(method, "/account/deletion", body, token=token, expect=403)
    await account.call("GET", "/account/deletion", expect=404)

    body = {"name": name, "password": account.password}
    first = (await account.call("POST", "/account/deletion", body, token=session, expect=202)).json()
    again = (await account.call("POST", "/account/deletion", body, token=session, expect=202)).json()
    assert first == again == (await account.call("GET", "/account/deletion", expect=200)).json()
    assert first["asked_by_name"] == "Root"
    administrators = (await account.role("administrator"))["id"]
    # Whoever did it is told as well, in case it was not them.
    expected = sorted(
        (kind, role, "system") for kind in ("security", "alert") for role in (administrators, roles["deputy"])
    )
    assert await told(account, "account_deletion_asked") == expected
    await account.call("DELETE", "/account/deletion", expect=204)
    assert await told(account, "account_deletion_called_off") == expected
    assert (await account.call("DELETE", "/account/deletion", expect=404)).json()[
        "code"
    ] == "account_deletion_not_found"
    entries = (await account.call("GET", "/audit", expect=200)).json()["items"]
    actions = [entry["action"] for entry in entries if "deletion" in entry["action"]]
    assert sorted(actions) == ["account.deletion_asked", "account.deletion_called_off"]


async def test_before_the_end_everybody_is_reminded_once(account):
    session = await account.signed_in(account.admin_email)
    body = {"name": await name_of(account), "password": account.password}
    await account.call("POST", "/account/deletion", body, token=session, expect=202)
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute(
            "update account_deletions set due_at = now() + interval '1 day' where account_id = %s", [account.id]
        )

    async def reminded():
        return len(await told(account, "account_deletion_soon")) == 2

    assert await until(reminded, 60)
    await account.call("PATCH", "/account", {"time_zone": "UTC"}, expect=200)  # all works


class Died(OSError):
    """What the worker was doing is gone; it begins anew, as another process would."""


@pytest.fixture(params=[False, True], ids=["undisturbed", "dying every other time at every point"])
def deaths(request, monkeypatch):
    """How often the worker came by each point; it dies there the first time, the third, and so on."""
    passed = Counter()

    def die(name):
        passed[name] += 1
        if request.param and passed[name] % 2:
            raise Died(name)

    monkeypatch.setattr(deletions, "crash_point", die)
    return passed


async def test_once_it_is_due_nobody_gets_in_and_the_end_is_certified(account, other, deaths):
    run = account.service
    session = await account.signed_in(account.admin_email)
    inbox = InboxState(id=new_id(), account_id=account.id, name="x", channel="whatsapp")
    await run.admin.publish(InboxChanged(inbox=inbox), account=account.id, entity=inbox.id, sequence=1)
    issued = (
        await account.call("POST", "/adapter-credentials", {"name": "A", "inbox_id": inbox.id}, expect=201)
    ).json()
    with psycopg.connect(run.dsn) as connection:
        (user,) = connection.execute("select user_key from bus_credentials where id = %s", [issued["id"]]).fetchone()
    refresh = (await account.sign_in(account.admin_email)).json()["refresh_token"]
    body = {"name": await name_of(account), "password": account.password}
    await account.call("POST", "/account/deletion", body, token=session, expect=202)
    assert await certificate(account) is None
    due_now(account)

    async def asked_to_drop(*, sweep):
        await run.settle()
        return any(
            DropAccount.model_validate_json(body).sweep is sweep
            for subject, _, body in await run.admin.stored("CMD_ACCOUNTS")
            if f".{account.id}.drop_account" in subject
        )

    async def dropping():
        return await asked_to_drop(sweep=False)

    assert await until(dropping, 60), await certificate(account)
    assert (await account.sign_in(account.admin_email)).status_code == 401
    for token in (session, account.token):
        assert (await account.call("GET", "/account", token=token)).status_code == 401
    answer = await run.http.post("/sessions/refresh", json={"refresh_token": refresh})
    assert answer.status_code == 401
    events = [
        (headers["ce-type"].split(".")[2], json.loads(body)["deleted"])
        for _, headers, body in await run.admin.stored("EVT_IDENTITY")
        if headers["relevo-account"] == account.id and json.loads(body).get("deleted")
    ]
    assert sorted(events) == [("account_changed", True), ("agent_changed", True), *[("key_changed", True)] * 2]

    drop = (await certificate(account))["id"]

    async def answer_all(*, sweep):
        for number, service in enumerate(OTHERS):
            said = AccountDropped(
                drop_id=drop,
                account_id=account.id,
                sweep=sweep,
                tables=(RowsDropped(table="t", rows=number),),
                log=2,
                messages=3,
                files=1,
            )
            options = {"actor": "system", "sequence": 0, "time": None, "cause": None, "id": None}
            _, row = outbox.outgoing(service, said, account=PLATFORM, entity=account.id, **options)
            await run.admin.nats.jetstream().publish(row.subject, row.body, headers=json.loads(row.headers))

    assert not await asked_to_drop(sweep=True)
    await answer_all(sweep=False)

    async def sweeping():
        return await asked_to_drop(sweep=True)

    assert await until(sweeping, 60), await certificate(account)
    await answer_all(sweep=True)

    async def done():
        return (await certificate(account))["done_at"] is not None

    assert await until(done, 60), await certificate(account)
    found = await certificate(account)
    assert found["state"] == "done"
    assert {part["service"] for part in found["parts"]} == set(SERVICES)
    own = next(part for part in found["parts"] if part["service"] == "identity")
    rows = {one["table"]: one["rows"] for one in own["tables"]}
    assert rows["audit_log"] >= 1
    assert rows["accounts"] == 1
    await run.settle()
    told_of = [
        AccountDeleted.model_validate_json(body)
        for subject, _, body in await run.admin.stored("EVT_IDENTITY")
        if subject.endswith("account_deleted") and account.id in body.decode()
    ]
    assert [(one.account_id, len(one.parts)) for one in told_of] == [(account.id, len(SERVICES))]

    with psycopg.connect(run.dsn) as connection:
        tables = connection.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"
            " and not relispartition and relname not in ('account_drops', 'account_certificates')"
        ).fetchall()
        for (table,) in tables:
            aside = " and subject not like '%%.platform.%%'" if table == "outbox" else ""
            query = f"select t::text from {table} t where (strpos(t::text, %s) > 0 or strpos(t::text, %s) > 0){aside}"
            assert connection.execute(query, [account.id, account.admin_email]).fetchall() == [], table
        # The broker is told of it whenever it is told of anybody's.
        assert connection.execute("select 1 from revoked_users where user_key = %s", [user]).fetchone()
        # And the audit log is what it was for everybody else.
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            connection.execute("delete from audit_log where account_id = %s", [other.id])
    assert await name_of(other)
    assert (await account.call("GET", "/account", token=session)).status_code == 401
    assert deaths.keys() == set(POINTS)
    assert (await account.sign_in(account.admin_email)).status_code == 401
    listed = (await run.http.get("/setup/deleted-accounts", headers=OPERATOR)).json()
    assert listed["items"][0]["account_id"] == account.id


async def test_certificates_are_for_whoever_operates_only(account):
    for path in ("/setup/deleted-accounts", f"/setup/deleted-accounts/{new_id()}"):
        assert (await account.call("GET", path)).status_code == 401
    answer = await account.service.http.get(f"/setup/deleted-accounts/{new_id()}", headers=OPERATOR)
    assert answer.status_code == 404


async def test_who_may_manage_the_account_takes_it_along_and_nobody_else(account, other):
    role = await account.new_role(["directory.read"])
    clerk = await account.new_agent(role["id"])
    token = await account.signed_in(clerk["email"])
    await account.call("GET", "/account/export/identity", token=token, expect=403)
    answer = await account.call("GET", "/account/export/identity", expect=200)
    told = [json.loads(line) for line in gzip.decompress(answer.content).splitlines()]
    assert told[-1]["end"] is True
    emails = {one["row"]["email"] for one in told if one.get("table") == "agents"}
    assert emails == {account.admin_email, clerk["email"]}
    assert other.id not in gzip.decompress(answer.content).decode()
    assert not [one for one in told if "hash" in str(one.get("row", {}))]
