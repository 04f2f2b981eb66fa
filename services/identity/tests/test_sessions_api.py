"""Sign-in, refresh, sign-out and signing keys through the API, on real PostgreSQL and NATS."""

import asyncio
import json
import os

import jwt
import psycopg
import pytest

from relevo.chassis.testing import running, unique
from relevo.identity import signing
from relevo.identity.app import build
from relevo.identity.domain.sign_in import PER_ADDRESS
from relevo.identity.signing import NoSigningKey

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def person(account, **more):
    """Somebody who can sign in."""
    return await account.new_agent((await account.role("agent"))["id"], **more)


async def refresh(account, token):
    return await account.service.http.post("/sessions/refresh", json={"refresh_token": token})


async def test_who_signs_in_gets_a_token_that_names_them_and_nothing_they_may(account):
    agent = await person(account)
    answer = (await account.sign_in(f"  {agent['email'].upper()} ")).json()
    assert (answer["expires_in"], answer["agent"]["id"]) == (900, agent["id"])
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert set(claims) == {"sub", "acc", "sid", "iat", "exp"}
    assert (claims["sub"], claims["acc"]) == (agent["id"], account.id)
    assert jwt.get_unverified_header(answer["access_token"])["alg"] == "EdDSA"
    me = (await account.call("GET", "/me", token=answer["access_token"], expect=200)).json()
    assert (me["agent"]["id"], me["role"], me["scope"]) == (agent["id"], "agent", "team")


async def test_unknown_address_removed_agent_no_password_and_wrong_password_are_answered_alike(account):
    agent, removed, without = await person(account), await person(account), await person(account, initial_password=None)
    await account.call("DELETE", f"/agents/{removed['id']}", expect=204)
    answers = [
        await account.sign_in(agent["email"], "wrong password"),
        await account.sign_in(f"{unique()}@example.com"),
        await account.sign_in("no address at all"),
        await account.sign_in(removed["email"]),
        await account.sign_in(without["email"]),
        await account.sign_in(agent["email"], account_id="00000000-0000-0000-0000-000000000000"),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1


async def test_an_address_is_locked_after_too_many_wrong_passwords_known_or_not(account):
    agent = await person(account)
    for email in (agent["email"], f"{unique()}@example.com"):
        statuses = [(await account.sign_in(email, "wrong password")).status_code for _ in range(PER_ADDRESS.attempts)]
        assert set(statuses) == {401}
        locked = await account.sign_in(email)
        assert (locked.status_code, locked.json()["code"]) == (429, "too_many_attempts")
        assert 0 < int(locked.headers["retry-after"]) <= PER_ADDRESS.window.total_seconds() + 1
    # Others from the same place still get in.
    assert (await account.sign_in((await person(account))["email"])).status_code == 201


async def test_many_attempts_at_once_do_not_slip_through(account):
    agent = await person(account)
    answers = await asyncio.gather(
        *(account.sign_in(agent["email"], "wrong password") for _ in range(PER_ADDRESS.attempts + 4))
    )
    assert sorted(answer.status_code for answer in answers) == [401] * PER_ADDRESS.attempts + [429] * 4
    with psycopg.connect(account.service.dsn) as connection:  # so that the other tests' IP is not locked
        connection.execute("delete from sign_in_attempts")


async def test_a_right_password_forgives_the_wrong_ones_before(account):
    agent = await person(account)
    for _ in range(2):
        for _ in range(PER_ADDRESS.attempts - 1):
            assert (await account.sign_in(agent["email"], "wrong password")).status_code == 401
        assert (await account.sign_in(agent["email"])).status_code == 201
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute("delete from sign_in_attempts")


async def test_one_address_in_two_accounts_says_which(account, other):
    mine = await person(account)
    theirs = await person(other, email=mine["email"])
    which = await account.sign_in(mine["email"])
    assert (which.status_code, which.json()["code"]) == (409, "account_needed")
    assert {one["id"] for one in which.json()["accounts"]} == {account.id, other.id}
    assert (await account.sign_in(mine["email"], account_id=other.id)).json()["agent"]["id"] == theirs["id"]
    # With passwords that differ nobody hears of the other account.
    third = await person(other, initial_password="another password")
    await person(account, email=third["email"])
    assert (await account.sign_in(third["email"], "another password")).json()["agent"]["id"] == third["id"]


async def test_passwords_that_are_too_easy_are_refused(account):
    role = await account.role("agent")
    body = {"name": "A", "email": f"{unique()}@example.com", "role_id": role["id"], "inbox_ids": None}
    for password, code in (
        ("short", "password_too_short"),
        (body["email"], "password_is_the_address"),
        ("x" * 2000, "password_too_long"),
    ):
        refused = await account.call("POST", "/agents", body | {"initial_password": password}, expect=422)
        assert (refused.json()["code"], refused.json()["errors"][0]["pointer"]) == (code, "/initial_password")


async def test_a_refresh_token_is_good_once_and_reuse_ends_the_session(account):
    agent = await person(account)
    first = (await account.sign_in(agent["email"])).json()
    second = (await refresh(account, first["refresh_token"])).json()
    assert second["refresh_token"] != first["refresh_token"]
    await account.call("GET", "/me", token=second["access_token"], expect=200)
    stolen = await refresh(account, first["refresh_token"])
    assert (stolen.status_code, stolen.json()["code"]) == (401, "session_over")
    for token in (first["access_token"], second["access_token"]):
        await account.call("GET", "/me", token=token, expect=401)
    assert (await refresh(account, second["refresh_token"])).status_code == 401
    await account.service.settle()
    revoked = [
        json.loads(body)
        for _, headers, body in await account.service.admin.stored("EVT_IDENTITY")
        if headers["ce-type"] == "relevo.identity.session_revoked.v1"
    ]
    assert [one["agent_id"] for one in revoked].count(agent["id"]) == 1


async def test_of_two_who_refresh_with_one_token_one_gets_tokens_and_the_session_ends(account):
    first = (await account.sign_in((await person(account))["email"])).json()
    answers = await asyncio.gather(*(refresh(account, first["refresh_token"]) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 401]
    got = next(answer for answer in answers if answer.status_code == 200).json()
    await account.call("GET", "/me", token=got["access_token"], expect=401)


async def test_rubbish_is_no_refresh_token(account):
    for token in ("", "rt_nothing", "ñ" * 50):
        assert (await refresh(account, token)).status_code == 401


async def test_who_signs_out_is_out_and_their_other_session_is_not(account):
    agent = await person(account)
    here, there = (await account.sign_in(agent["email"])).json(), (await account.sign_in(agent["email"])).json()
    await account.call("DELETE", "/sessions/current", token=here["access_token"], expect=204)
    await account.call("GET", "/me", token=here["access_token"], expect=401)
    assert (await refresh(account, here["refresh_token"])).status_code == 401
    await account.call("GET", "/me", token=there["access_token"], expect=200)
    assert (await account.call("DELETE", "/sessions/current")).json()["code"] == "no_session"


async def open_sessions(account, token):
    return (await account.call("GET", "/sessions", token=token, expect=200)).json()["items"]


async def test_i_see_my_sessions_and_end_one_or_all_others_or_all(account):
    agent, stranger = await person(account), await person(account)
    tokens = [await account.signed_in(agent["email"]) for _ in range(4)]
    theirs = await account.signed_in(stranger["email"])
    mine = await open_sessions(account, tokens[0])
    assert [one["current"] for one in mine] == [False, False, False, True]
    assert all(one["ip"] and one["user_agent"].startswith("python-httpx") for one in mine)
    first = (await account.call("GET", "/sessions?limit=3", token=tokens[0], expect=200)).json()
    rest = (await account.call("GET", f"/sessions?limit=3&cursor={first['next']}", token=tokens[0])).json()
    assert [one["id"] for one in first["items"] + rest["items"]] == [one["id"] for one in mine]

    newest = f"/sessions/{mine[0]['id']}"
    await account.call("DELETE", newest, token=theirs, expect=404)
    await account.call("GET", "/me", token=tokens[3], expect=200)
    await account.call("DELETE", newest, token=tokens[0], expect=204)
    await account.call("GET", "/me", token=tokens[3], expect=401)
    await account.call("DELETE", newest, token=tokens[0], expect=404)

    await account.call("DELETE", "/sessions?keep_current=true", token=tokens[0], expect=204)
    assert [one["id"] for one in await open_sessions(account, tokens[0])] == [mine[3]["id"]]
    await account.call("GET", "/me", token=tokens[1], expect=401)
    await account.call("DELETE", "/sessions", token=tokens[0], expect=204)
    await account.call("GET", "/me", token=tokens[0], expect=401)
    await account.call("GET", "/me", token=theirs, expect=200)
    assert (await account.call("GET", "/sessions", expect=403)).json()["code"] == "not_an_agent"
    log = (await account.call("GET", f"/audit?entity_id={agent['id']}", expect=200)).json()["items"]
    assert [entry["action"] for entry in log[:3]] == ["sessions.ended", "sessions.ended", "session.ended"]


async def test_a_manager_signs_out_who_does_not_outrank_them(account, other):
    agent = await person(account)
    token = await account.signed_in(agent["email"])
    manager = await account.new_agent((await account.new_role(["agents.manage"], "team"))["id"])
    as_manager = await account.signed_in(manager["email"])
    for outranking in (account.admin_id, agent["id"]):
        refused = await account.call("DELETE", f"/agents/{outranking}/sessions", token=as_manager, expect=403)
        assert refused.json()["code"] == "outranked"
    await other.call("DELETE", f"/agents/{agent['id']}/sessions", expect=404)
    await account.call("GET", "/me", token=token, expect=200)
    await account.call("DELETE", f"/agents/{agent['id']}/sessions", expect=204)
    await account.call("GET", "/me", token=token, expect=401)


async def test_no_secret_is_in_the_database(account):
    agent = await person(account, initial_password="a very secret password")
    tokens = (await account.sign_in(agent["email"], "a very secret password")).json()
    key = (await account.call("POST", "/api-keys", {"name": "k", "permissions": []}, expect=201)).json()["key"]
    secrets = ["a very secret password", tokens["refresh_token"], tokens["access_token"], key, "PRIVATE KEY"]
    with psycopg.connect(account.service.dsn) as connection:
        tables = connection.execute(
            "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
        ).fetchall()
        for (table,) in tables:
            content = str(
                connection.execute(
                    f"select t::text, encode(convert_to(t::text, 'UTF8'), 'escape') from \"{table}\" t"
                ).fetchall()
            )
            for secret in secrets:
                assert secret not in content, table
                assert secret.encode().hex() not in content, table


async def test_all_replicas_sign_with_one_key_and_another_master_key_does_not_open_it(account, servers):
    service = account.service
    with psycopg.connect(service.dsn) as connection:
        before = connection.execute("select id, public_pem from signing_keys").fetchall()
    assert len(before) == 1
    environment = {
        f"RELEVO_{name}": str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)
        for name, value in (
            (name.upper(), getattr(service.runtime.settings, name))
            for name in (
                "master_key",
                "setup_token",
                "bus_account",
                "bus_signing_seed",
                "bus_operator_seed",
                "bus_system_credentials",
            )
        )
    }
    token = (await account.sign_in(account.admin_email)).json()["access_token"]
    async with running(build, servers, bus=service.bus, dsn=service.dsn, **environment) as second:
        answer = await second.http.get("/me", headers=account.headers(token))
        assert answer.status_code == 200
    other_key = os.urandom(32)
    async with service.runtime.database.begin() as tx:
        with pytest.raises(NoSigningKey, match="RELEVO_MASTER_KEY"):
            await signing.current_key(tx, other_key)
    with psycopg.connect(service.dsn) as connection:
        assert connection.execute("select id, public_pem from signing_keys").fetchall() == before


async def test_text_that_no_database_holds_is_bad_input_and_no_failure(account):
    raw = (
        b'{"email": "\\ud800@example.com", "password": "x"}',
        b'{"email": "a\\u0000@example.com", "password": "a\\u0000b"}',
        b'{"email": "a@example.com", "password": "\\udfff"}',
        b'{"email": "a@example.com"',
        b"[]",
    )
    for body in raw:
        answer = await account.service.http.post(
            "/sessions", content=body, headers={"Content-Type": "application/json", "User-Agent": "x"}
        )
        assert answer.status_code in {400, 401, 422}, answer.text
    for path, body in (
        ("/teams", {"name": "a\x00b"}),
        ("/teams", {"name": "x", "description": "a\x00b"}),
        ("/api-keys", {"name": "a\x00", "permissions": []}),
    ):
        await account.call("POST", path, body, expect=422)
    for path in ("/audit?actor=%00", "/audit?cursor=WyJhIl0", "/teams?cursor=WyJhIl0", "/agents/no-uuid"):
        await account.call("GET", path, expect=422)
