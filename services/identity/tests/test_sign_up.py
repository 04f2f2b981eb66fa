"""Signing up by oneself where the operator lets people, and one person in several accounts."""

import asyncio
import base64

import psycopg
import pytest

from relevo.chassis.testing import unique
from relevo.contracts.base import new_id, now
from relevo.identity import housekeeping, sign_up
from relevo.identity.domain import totp

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHOSEN = "a password of my own"


@pytest.fixture(scope="module")
def more_settings():
    return {"RELEVO_SIGN_UP": "true"}


@pytest.fixture(autouse=True)
def nothing_counted(account):
    """The limits count by place, and all tests come from one."""
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute("delete from sign_in_attempts")


async def post(account, path, body):
    return await account.service.http.post(path, json=body, headers={"Accept-Language": "en"})


def wanted(**more):
    return {"account_name": "Flores", "name": "Eva", "email": f"{unique('eva')}@example.com"} | more


async def mails(account, address):
    """What notification was asked to write there, whatever account it is about."""
    await account.service.settle()
    stored = await account.service.admin.stored("CMD_NOTIFICATION")
    found = [(headers["relevo-account"], body.decode()) for _, headers, body in stored]
    return [one for one in found if f'"{address}"' in one[1]]


async def token_for(account, address):
    _, body = (await mails(account, address))[-1]
    return body.partition("/sign-up#")[2].partition('"')[0]


def accounts_of(account, address):
    with psycopg.connect(account.service.dsn) as connection:
        return connection.execute("select count(*) from agents where email = %s", [address]).fetchone()[0]


async def signed_up(account, password=CHOSEN, **more):
    """Somebody who signed up: their address, their account, and the token of their first session."""
    body = wanted(**more)
    asked = await post(account, "/sign-up", body)
    assert asked.status_code == 202, asked.text
    token = await token_for(account, body["email"])
    done = await post(account, "/sign-up/confirm", {"token": token, "password": password})
    assert done.status_code == 201, done.text
    me = await account.call("GET", "/me", token=done.json()["access_token"], expect=200)
    return body["email"], me.json()["account"]["id"], done.json()["access_token"]


async def test_an_account_is_made_once_its_address_is_confirmed(account):
    assert (await account.service.http.get("/sign-up")).json() == {"open": True}
    body = wanted(language="en", time_zone="America/Bogota")
    asked = await post(account, "/sign-up", body)
    assert (asked.status_code, asked.text) == (202, "null")
    assert accounts_of(account, body["email"]) == 0
    ((account_id, mail),) = await mails(account, body["email"])
    assert '"language":"en"' in mail
    assert "Flores" not in mail
    assert "Eva" not in mail  # nobody's words are sent to strangers
    token = await token_for(account, body["email"])
    read = (await post(account, "/sign-up/read", {"token": token})).json()
    assert (read["account_name"], read["email"]) == ("Flores", body["email"])
    weak = await post(account, "/sign-up/confirm", {"token": token, "password": "short"})
    assert (weak.status_code, weak.json()["code"]) == (422, "password_too_short")
    at_once = [post(account, "/sign-up/confirm", {"token": token, "password": CHOSEN}) for _ in range(2)]
    answers = await asyncio.gather(*at_once)
    assert sorted(answer.status_code for answer in answers) == [201, 410]
    done = next(answer.json() for answer in answers if answer.status_code == 201)
    me = (await account.call("GET", "/me", token=done["access_token"], expect=200)).json()
    made = me["account"]
    assert (made["id"], made["name"], made["language"], made["time_zone"]) == (
        account_id,
        "Flores",
        "en",
        "America/Bogota",
    )
    assert (me["role"], me["agent"]["status"]) == ("administrator", "confirmed")
    assert (await account.sign_in(body["email"], CHOSEN)).status_code == 201
    log = (await account.call("GET", "/audit", token=done["access_token"], expect=200)).json()["items"]
    assert {entry["action"] for entry in log} == {"account.created", "agent.created"}


async def test_every_address_is_answered_alike(account):
    answers = [
        await post(account, "/sign-up", wanted(email=email))
        for email in (account.admin_email, f"{unique('nobody')}@example.com")
    ]
    assert [(one.status_code, one.text) for one in answers] == [(202, "null")] * 2
    assert len(await mails(account, account.admin_email)) == 1


async def test_links_run_out_and_guessing_is_slowed(account):
    body = wanted()
    await post(account, "/sign-up", body)
    token = await token_for(account, body["email"])
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute(
            "update sign_ups set expires_at = now() - interval '1 second' where email = %s", [body["email"]]
        )
    over = await post(account, "/sign-up/confirm", {"token": token, "password": CHOSEN})
    assert (over.status_code, over.json()["code"]) == (410, "link_over")
    assert (await post(account, "/sign-up/read", {"token": "x"})).status_code == 410
    async with account.service.runtime.database.begin(door="retention") as tx:
        await housekeeping.tidy(tx, now())
    with psycopg.connect(account.service.dsn) as connection:
        assert connection.execute("select 1 from sign_ups where email = %s", [body["email"]]).fetchone() is None
    for _ in range(sign_up.PER_ADDRESS.attempts - 1):
        assert (await post(account, "/sign-up", body)).status_code == 202
    limited = await post(account, "/sign-up", body)
    assert limited.status_code == 429
    assert int(limited.headers["retry-after"]) > 0
    statuses = [(await post(account, "/sign-up", wanted())).status_code for _ in range(sign_up.PER_IP.attempts)]
    assert statuses[-1] == 429


async def test_where_the_operator_has_it_off_nobody_signs_up(account, monkeypatch):
    body = wanted()
    await post(account, "/sign-up", body)
    token = await token_for(account, body["email"])
    runtime = account.service.runtime
    monkeypatch.setattr(runtime, "settings", runtime.settings.model_copy(update={"sign_up": False}))
    assert (await account.service.http.get("/sign-up")).json() == {"open": False}
    for path, given in (
        ("/sign-up", wanted()),
        ("/sign-up/read", {"token": token}),
        ("/sign-up/confirm", {"token": token, "password": CHOSEN}),
    ):
        answer = await post(account, path, given)
        assert (answer.status_code, answer.json()["code"]) == (404, "sign_up_closed")


async def invited(account, address):
    """The same person in another account: invited, and in."""
    role = (await account.role("agent"))["id"]
    await account.call(
        "POST", "/agents", {"name": "Eva", "email": address, "role_id": role, "inbox_ids": None}, expect=201
    )
    token = await account.link_token(address)
    done = await post(account, "/invitations/accept", {"token": token, "password": "another password"})
    assert done.status_code == 201, done.text
    return done.json()


async def mine(account, token):
    items = (await account.call("GET", "/me/accounts", token=token, expect=200)).json()["items"]
    return {one["id"]: (one["role"], one["current"]) for one in items}


async def switch(account, token, to, **more):
    return await account.call("POST", "/sessions/switch", {"account_id": to, **more}, token=token)


async def test_one_person_works_in_several_accounts_and_goes_from_one_to_another(account, other):
    address, here, token = await signed_up(account)
    theirs = await invited(account, address)
    assert await mine(account, token) == {here: ("administrator", True), account.id: ("agent", False)}
    assert await mine(account, theirs["access_token"]) == {here: ("administrator", False), account.id: ("agent", True)}
    went = await switch(account, token, account.id)
    assert went.status_code == 201, went.text
    there = went.json()["access_token"]
    me = (await account.call("GET", "/me", token=there, expect=200)).json()
    assert (me["account"]["id"], me["agent"]["id"], me["role"]) == (account.id, theirs["agent"]["id"], "agent")
    assert (await account.call("GET", "/me", token=token, expect=200)).json()["account"]["id"] == here
    log = (await account.call("GET", f"/audit?entity_id={me['agent']['id']}", expect=200)).json()["items"]
    assert log[0]["action"] == "session.switched"
    for wrong, status, code in ((other.id, 404, "account_not_found"), (here, 409, "here_already")):
        refused = await switch(account, token, wrong)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    # Removed from one, they stay in the other.
    await account.call("DELETE", f"/agents/{me['agent']['id']}", expect=204)
    await account.service.settle()
    assert (await account.call("GET", "/me", token=there)).status_code == 401
    assert await mine(account, token) == {here: ("administrator", True)}
    assert (await switch(account, token, account.id)).status_code == 404


async def test_an_address_that_somebody_wrote_down_opens_no_other_account(account, other):
    """Whoever administers one account makes an agent there with another's address, and their password."""
    address, victim, own = await signed_up(account)
    role = await other.role("administrator")
    await other.new_agent(role["id"], email=address, initial_password="known to its maker")
    entered = await other.sign_in(address, "known to its maker", account_id=other.id)
    assert entered.status_code == 201, entered.text
    made = entered.json()["access_token"]
    assert await mine(other, made) == {other.id: ("administrator", True)}
    assert (await switch(other, made, victim)).status_code == 404
    assert await mine(account, own) == {victim: ("administrator", True)}
    assert (await switch(account, own, other.id)).status_code == 404
    key = await other.call("GET", "/me/accounts")
    assert (key.status_code, key.json()["code"]) == (403, "not_an_agent")
    assert (await switch(other, made, new_id())).status_code == 404


async def test_a_second_factor_there_is_asked_for(account):
    address, _, own = await signed_up(account)
    theirs = await invited(account, address)
    token = theirs["access_token"]
    begun = await account.call("POST", "/me/second-factor", {"password": "another password"}, token=token, expect=201)
    secret = base64.b32decode(begun.json()["secret"])
    code = {"code": totp.code(secret, totp.step_of(now()))}
    confirmed = await account.call("POST", "/me/second-factor/confirm", code, token=token, expect=200)
    refused = await switch(account, own, account.id)
    assert (refused.status_code, refused.json()["code"]) == (401, "second_factor_needed")
    wrong = await switch(account, own, account.id, **code)  # used up
    assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong_code")
    recovery = confirmed.json()["recovery_codes"][0]
    assert (await switch(account, own, account.id, code=recovery)).status_code == 201
