"""Invitations through the API, on real PostgreSQL and NATS: sent, sent again, cancelled, accepted once."""

import asyncio
from datetime import datetime, timedelta

import psycopg
import pytest

from relevo.chassis.testing import unique
from relevo.contracts.base import now
from relevo.contracts.notification import Notify
from relevo.identity import housekeeping
from relevo.identity.domain.links import INVITATIONS_PER_ACCOUNT, LIFETIME, MAILS_PER_AGENT, OPENED_PER_IP, Purpose

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHOSEN = "a password of my own"


@pytest.fixture(autouse=True)
def nothing_counted(account):
    """The limits count by place, and all tests come from one."""
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute("delete from sign_in_attempts")


async def invite(account, role="agent", **more):
    """Somebody who was invited; their agent, as the manager sees it."""
    body = {
        "name": "Eva",
        "email": f"{unique('eva')}@example.com",
        "role_id": (await account.role(role))["id"],
        "inbox_ids": None,
    } | more
    return (await account.call("POST", "/agents", body, expect=201)).json()


async def accept(account, token, password=CHOSEN, **more):
    return await account.service.http.post(
        "/invitations/accept", json={"token": token, "password": password, **more}, headers={"Accept-Language": "en"}
    )


def run_out(account, agent):
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute("update links set expires_at = now() - interval '1 second' where agent_id = %s", [agent])


async def actions(account, agent):
    log = (await account.call("GET", f"/audit?entity_id={agent}", expect=200)).json()["items"]
    return [entry["action"] for entry in reversed(log)]


async def test_who_is_invited_gets_a_mail_chooses_a_password_and_is_in(account):
    agent = await invite(account, language="es")
    assert (agent["status"], agent["active"], agent["last_seen_at"]) == ("pending", False, None)
    left = datetime.fromisoformat(agent["invitation_expires_at"]) - now()
    assert abs(left - LIFETIME[Purpose.INVITATION]) < timedelta(minutes=1)
    (mail,) = await account.mails(agent["email"])
    assert (mail["kind"], mail["language"], mail["data"]["name"]) == ("invitation", "es", "Eva")
    assert mail["data"]["link"].startswith("http://localhost:8080/invitation#")
    assert mail["useless_after"] is not None
    token = await account.link_token(agent["email"])
    read = await account.service.http.post("/invitations/read", json={"token": token})
    assert (read.status_code, read.json()["email"], read.json()["name"]) == (200, agent["email"], "Eva")

    entered = await accept(account, token, name="Eva Luna", language="en")
    assert entered.status_code == 201, entered.text
    assert (entered.json()["agent"]["name"], entered.json()["agent"]["status"]) == ("Eva Luna", "confirmed")
    me = await account.call("GET", "/me", token=entered.json()["access_token"], expect=200)
    assert me.json()["agent"]["id"] == agent["id"]
    assert (await account.sign_in(agent["email"], CHOSEN)).status_code == 201
    listed = {one["id"]: one for one in (await account.call("GET", "/agents", expect=200)).json()["items"]}
    assert listed[agent["id"]]["status"] == "confirmed"
    assert listed[agent["id"]]["invitation_expires_at"] is None
    assert now() - datetime.fromisoformat(listed[agent["id"]]["last_seen_at"]) < timedelta(minutes=1)
    assert await actions(account, agent["id"]) == ["agent.created", "invitation.sent", "invitation.accepted"]


async def test_an_invited_person_can_do_nothing_before_they_accept(account):
    agent = await invite(account, role="administrator")
    assert (await account.sign_in(agent["email"])).status_code == 401
    # An invitation is no administrator: the only real one stays.
    demote = {"role_id": (await account.role("agent"))["id"]}
    for method, body in (("DELETE", None), ("PATCH", demote)):
        refused = await account.call(method, f"/agents/{account.admin_id}", body, If_Match="*", expect=409)
        assert refused.json()["code"] == "last_administrator"


async def test_a_link_is_good_once_and_of_two_at_once_one_gets_in(account):
    agent = await invite(account)
    token = await account.link_token(agent["email"])
    answers = await asyncio.gather(*(accept(account, token, f"password number {n}") for n in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 410, 410, 410]
    winner = next(n for n, answer in enumerate(answers) if answer.status_code == 201)
    assert (await account.sign_in(agent["email"], f"password number {winner}")).status_code == 201
    again = await accept(account, token)
    assert (again.status_code, again.json()["code"]) == (410, "link_over")


async def test_what_is_no_invitation_any_more_is_all_answered_alike(account):
    replaced, late, cancelled = await invite(account), await invite(account), await invite(account)
    tokens = [await account.link_token(one["email"]) for one in (replaced, late, cancelled)]
    await account.call("POST", f"/agents/{replaced['id']}/invitation", expect=202)
    run_out(account, late["id"])
    await account.call("DELETE", f"/agents/{cancelled['id']}/invitation", expect=204)
    answers = [await accept(account, token) for token in (*tokens, "nothing", "", "ñ" * 40)]
    assert {answer.status_code for answer in answers} == {410}
    assert len({answer.text for answer in answers}) == 1
    await account.call("GET", f"/agents/{cancelled['id']}", expect=404)
    # The new link is good, and what ran out can be sent again.
    assert (await accept(account, await account.link_token(replaced["email"]))).status_code == 201
    shown = (await account.call("GET", f"/agents/{late['id']}", expect=200)).json()
    assert datetime.fromisoformat(shown["invitation_expires_at"]) < now()
    sent = (await account.call("POST", f"/agents/{late['id']}/invitation", expect=202)).json()
    assert datetime.fromisoformat(sent["invitation_expires_at"]) > now()
    assert (await accept(account, await account.link_token(late["email"]))).status_code == 201


async def test_accepting_and_cancelling_at_once_leave_one_of_both(account):
    for _ in range(3):
        agent = await invite(account)
        token = await account.link_token(agent["email"])
        entered, cancelled = await asyncio.gather(
            accept(account, token), account.call("DELETE", f"/agents/{agent['id']}/invitation")
        )
        assert (entered.status_code, cancelled.status_code) in {(201, 409), (410, 204)}


async def test_who_is_confirmed_is_invited_no_more(account):
    agent = await account.new_agent((await account.role("agent"))["id"])
    for method in ("POST", "DELETE"):
        refused = await account.call(method, f"/agents/{agent['id']}/invitation", expect=409)
        assert refused.json()["code"] == "agent_confirmed"
    assert await account.mails(agent["email"]) == []


async def test_another_address_gets_another_link(account):
    agent = await invite(account)
    wrong = await account.link_token(agent["email"])
    email = f"{unique('right')}@example.com"
    await account.call("PATCH", f"/agents/{agent['id']}", {"email": email}, If_Match="*", expect=200)
    assert (await accept(account, wrong)).status_code == 410
    assert (await accept(account, await account.link_token(email))).status_code == 201


async def test_a_password_that_is_too_easy_leaves_the_link_good(account):
    agent = await invite(account)
    token = await account.link_token(agent["email"])
    refused = await accept(account, token, "short")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/password")
    assert (await accept(account, token)).status_code == 201


async def test_nobody_invites_or_handles_who_holds_more(account, other):
    role = await account.new_role(["agents.manage"], "team")
    manager = await account.signed_in((await account.new_agent(role["id"]))["email"])
    boss = await invite(account, role="administrator")
    for method in ("POST", "DELETE"):
        refused = await account.call(method, f"/agents/{boss['id']}/invitation", token=manager, expect=403)
        assert refused.json()["code"] == "outranked"
    body = {"name": "X", "email": f"{unique()}@example.com", "role_id": boss["role_id"], "inbox_ids": None}
    assert (await account.call("POST", "/agents", body, token=manager, expect=403)).json()["code"] == "not_held"
    assert await account.mails(body["email"]) == []
    theirs = await invite(other)
    for method in ("POST", "DELETE"):
        await account.call(method, f"/agents/{theirs['id']}/invitation", expect=404)
    # Addresses, invitations and when somebody was seen are for who manages agents.
    reader = await account.new_role(["directory.read"], "none")
    token = await account.signed_in((await account.new_agent(reader["id"]))["email"])
    seen = (await account.call("GET", f"/agents/{boss['id']}", token=token, expect=200)).json()
    assert (seen["email"], seen["invitation_expires_at"], seen["last_seen_at"]) == (None, None, None)


async def test_mails_are_not_sent_without_end(account):
    agent = await invite(account)
    for _ in range(MAILS_PER_AGENT.attempts - 1):
        await account.call("POST", f"/agents/{agent['id']}/invitation", expect=202)
    refused = await account.call("POST", f"/agents/{agent['id']}/invitation", expect=429)
    assert (refused.json()["code"], int(refused.headers["retry-after"]) > 0) == ("too_many_attempts", True)
    assert len(await account.mails(agent["email"])) == MAILS_PER_AGENT.attempts
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute("update sign_in_attempts set attempts = %s", [INVITATIONS_PER_ACCOUNT.attempts])
    body = {"name": "Y", "email": f"{unique()}@example.com", "role_id": agent["role_id"], "inbox_ids": None}
    await account.call("POST", "/agents", body, expect=429)


async def test_links_are_not_tried_without_end(account):
    answers = [await accept(account, "nothing") for _ in range(OPENED_PER_IP.attempts + 1)]
    assert [answer.status_code for answer in answers] == [410] * OPENED_PER_IP.attempts + [429]


async def test_one_invitation_for_one_key_however_often_it_is_sent(account):
    body = {
        "name": "Zoe",
        "email": f"{unique()}@example.com",
        "role_id": (await account.role("agent"))["id"],
        "inbox_ids": None,
    }
    answers = await asyncio.gather(
        *(account.call("POST", "/agents", body, expect=201, Idempotency_Key="one") for _ in range(3))
    )
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(await account.mails(body["email"])) == 1


async def test_a_token_that_was_sent_is_in_no_table_of_identity(account):
    agent = await invite(account)
    token = await account.link_token(agent["email"])
    async with account.service.runtime.database.begin(door="retention") as tx:
        await housekeeping.tidy(tx, now() + housekeeping.SENT_KEPT)
    with psycopg.connect(account.service.dsn) as connection:
        tables = connection.execute(
            "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
        ).fetchall()
        for (table,) in tables:
            content = connection.execute(
                f"select t::text, encode(convert_to(t::text, 'UTF8'), 'escape') from \"{table}\" t"
            ).fetchall()
            assert token not in str(content), table
            assert token.encode().hex() not in str(content), table
        (left,) = connection.execute("select body from outbox where stream = 'CMD_NOTIFICATION' limit 1").fetchone()
    # A stream that is filled again from there sends nobody anything.
    assert Notify.model_validate_json(left).useless_after < now()
    assert (await accept(account, token)).status_code == 201
