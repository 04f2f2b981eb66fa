"""Forgotten and changed passwords, changed addresses, through the API on real PostgreSQL and NATS."""

import asyncio
from datetime import datetime

import psycopg
import pytest

from relevo.chassis.bus import until
from relevo.chassis.testing import unique
from relevo.contracts.base import now
from relevo.identity.domain.links import LIFETIME, RESETS_PER_ADDRESS, RESETS_PER_IP, Purpose
from relevo.identity.domain.sign_in import PER_ADDRESS

pytestmark = pytest.mark.asyncio(loop_scope="module")
OLD, NEW = "correct horse battery", "another staple entirely"


@pytest.fixture(autouse=True)
def nothing_counted(account):
    """The limits count by place, and all tests come from one."""
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute("delete from sign_in_attempts")


async def person(account, **more):
    return await account.new_agent((await account.role("agent"))["id"], **more)


async def forget(account, email):
    return await account.service.http.post("/password-resets", json={"email": email}, headers={"Accept-Language": "en"})


async def reset_token(account, email, *, sent=1):
    """Ask for a link, and answer its token; ``sent``: how many there are then."""
    assert (await forget(account, email)).status_code == 202
    email = email.strip().lower()

    async def came():
        return len(await account.mails(email, "password_reset")) >= sent

    assert await until(came, 30)
    return await account.link_token(email, "password_reset")


async def complete(account, token, password=NEW):
    return await account.service.http.post(
        "/password-resets/complete", json={"token": token, "password": password}, headers={"Accept-Language": "en"}
    )


async def asked_and_answered(account):
    """Wait until no request waits for the worker."""

    async def none_left():
        with psycopg.connect(account.service.dsn) as connection:
            return connection.execute("select count(*) from reset_requests").fetchone() == (0,)

    assert await until(none_left, 30)


async def actions(account, agent):
    log = (await account.call("GET", f"/audit?entity_id={agent}", expect=200)).json()["items"]
    return [entry["action"] for entry in reversed(log)]


async def test_a_forgotten_password_is_chosen_anew_and_every_session_ends(account):
    agent = await person(account, language="es")
    sessions = [(await account.sign_in(agent["email"])).json() for _ in range(2)]
    token = await reset_token(account, f"  {agent['email'].upper()} ")
    (mail,) = await account.mails(agent["email"])
    assert (mail["template"], mail["language"]) == ("password_reset", "es")
    assert mail["data"]["link"].startswith("http://localhost:8080/password-reset#")
    assert datetime.fromisoformat(mail["useless_after"]) - now() <= LIFETIME[Purpose.PASSWORD_RESET]
    assert (await account.sign_in(agent["email"], OLD)).status_code == 201  # asking changes nothing
    assert (await complete(account, token)).status_code == 204
    for session in sessions:
        await account.call("GET", "/me", token=session["access_token"], expect=401)
        again = await account.service.http.post("/sessions/refresh", json={"refresh_token": session["refresh_token"]})
        assert again.status_code == 401
    assert (await account.sign_in(agent["email"], OLD)).status_code == 401
    assert (await account.sign_in(agent["email"], NEW)).status_code == 201
    assert (await complete(account, token)).json()["code"] == "link_over"
    assert [mail["template"] for mail in await account.mails(agent["email"])] == ["password_reset", "password_changed"]
    assert await actions(account, agent["id"]) == ["agent.created", "password_reset.sent", "password.reset"]


async def test_the_answer_tells_nobody_which_addresses_are_known(account):
    known, gone = await person(account), await person(account)
    await account.call("DELETE", f"/agents/{gone['id']}", expect=204)
    body = {"name": "P", "email": f"{unique()}@example.com", "role_id": known["role_id"], "inbox_ids": None}
    pending = (await account.call("POST", "/agents", body, expect=201)).json()
    unknown = f"{unique()}@example.com"
    for email in (known["email"], gone["email"], pending["email"], unknown):
        answers = [await forget(account, email) for _ in range(RESETS_PER_ADDRESS.attempts + 1)]
        assert [answer.status_code for answer in answers] == [202] * RESETS_PER_ADDRESS.attempts + [429], email
        assert {answer.text for answer in answers[:-1]} == {"null"}
    assert (await forget(account, "no address")).status_code == 202
    await asked_and_answered(account)
    for nobody in (gone["email"], pending["email"], unknown):
        assert await account.mails(nobody, "password_reset") == []


async def test_the_same_work_is_done_for_known_and_unknown_addresses_before_the_answer(account):
    """Not measured by the clock, which proves nothing on a busy machine, but by what is asked of the database."""
    statements = []
    connection = psycopg.AsyncConnection

    original = connection.execute

    async def counted(self, query, *arguments, **options):
        statements.append((asyncio.current_task(), str(query)))
        return await original(self, query, *arguments, **options)

    agent = await person(account)
    seen = []
    connection.execute = counted
    try:
        for email in (agent["email"], f"{unique()}@example.com"):
            statements.clear()
            assert (await forget(account, email)).status_code == 202
            mine = asyncio.current_task()
            seen.append([query for task, query in statements if task is mine])
    finally:
        connection.execute = original
    assert any("reset_requests" in query for query in seen[0])
    assert seen[0] == seen[1]


async def test_asking_too_often_from_one_place_is_refused(account):
    answers = [await forget(account, f"{unique()}@example.com") for _ in range(RESETS_PER_IP.attempts + 1)]
    assert [answer.status_code for answer in answers] == [202] * RESETS_PER_IP.attempts + [429]


async def test_who_asks_in_somebodys_name_does_not_take_their_link(account):
    agent = await person(account)
    first = await reset_token(account, agent["email"])
    second = await reset_token(account, agent["email"], sent=2)
    assert first != second
    assert (await complete(account, first)).status_code == 204
    # Used, it ends the others.
    assert (await complete(account, second, "yet another one here")).status_code == 410


async def test_one_link_sets_one_password(account):
    agent = await person(account)
    token = await reset_token(account, agent["email"])
    passwords = [f"password number {n}" for n in range(4)]
    answers = await asyncio.gather(*(complete(account, token, password) for password in passwords))
    assert sorted(answer.status_code for answer in answers) == [204, 410, 410, 410]
    winner = next(p for p, answer in zip(passwords, answers, strict=True) if answer.status_code == 204)
    assert (await account.sign_in(agent["email"], winner)).status_code == 201


async def test_links_run_out_and_belong_to_one_purpose(account):
    agent = await person(account)
    token = await reset_token(account, agent["email"])
    for path in ("/invitations/accept", "/email-confirmations"):
        body = {"token": token} | ({"password": NEW} if "accept" in path else {})
        assert (await account.service.http.post(path, json=body)).status_code == 410
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute("update links set expires_at = now() where agent_id = %s", [agent["id"]])
    assert (await complete(account, token)).status_code == 410


async def test_one_address_in_two_accounts_gets_a_link_to_each(account, other):
    mine = await person(account)
    theirs = await person(other, email=mine["email"])
    token = await reset_token(account, mine["email"])
    await asked_and_answered(account)
    assert (await complete(account, token)).status_code == 204
    assert (await account.sign_in(mine["email"], NEW)).json()["agent"]["id"] == mine["id"]
    assert (await account.sign_in(mine["email"], OLD)).json()["agent"]["id"] == theirs["id"]
    assert (await complete(other, await other.link_token(mine["email"], "password_reset"), OLD)).status_code == 204


async def test_a_removed_agent_has_no_link(account):
    agent = await person(account)
    token = await reset_token(account, agent["email"])
    await account.call("DELETE", f"/agents/{agent['id']}", expect=204)
    assert (await complete(account, token)).status_code == 410


async def test_a_reset_lifts_the_lock_of_the_address(account):
    agent = await person(account)
    for _ in range(PER_ADDRESS.attempts + 1):
        locked = await account.sign_in(agent["email"], "wrong password")
    assert locked.status_code == 429
    assert (await complete(account, await reset_token(account, agent["email"]))).status_code == 204
    assert (await account.sign_in(agent["email"], NEW)).status_code == 201


async def test_a_sign_in_with_the_old_password_while_it_changes_gets_no_session(account):
    agent = await person(account)
    token = await reset_token(account, agent["email"])
    passwords = account.service.runtime.extra["passwords"]
    verified, changed = asyncio.Event(), asyncio.Event()
    original = passwords.verify

    async def slow(hashed, password):
        right = await original(hashed, password)
        verified.set()
        await changed.wait()
        return right

    passwords.verify = slow
    try:
        signing_in = asyncio.create_task(account.sign_in(agent["email"], OLD))
        await verified.wait()
        assert (await complete(account, token)).status_code == 204
        changed.set()
        assert (await signing_in).status_code == 401
    finally:
        passwords.verify = original


async def change(account, token, current=OLD, password=NEW):
    body = {"current_password": current, "password": password}
    return await account.call("PUT", "/me/password", body, token=token)


async def test_who_changes_their_password_stays_and_their_other_sessions_end(account):
    agent = await person(account)
    pending = await reset_token(account, agent["email"])
    here, there = await account.signed_in(agent["email"]), await account.signed_in(agent["email"])
    assert (await change(account, here, password="short")).json()["errors"][0]["pointer"] == "/password"
    assert (await change(account, here, password=agent["email"])).status_code == 422
    wrong = await change(account, here, current="not the password")
    assert (wrong.status_code, wrong.json()["code"]) == (403, "wrong_password")
    assert (await change(account, here)).status_code == 204
    await account.call("GET", "/me", token=here, expect=200)
    await account.call("GET", "/me", token=there, expect=401)
    assert (await account.sign_in(agent["email"], OLD)).status_code == 401
    assert (await account.sign_in(agent["email"], NEW)).status_code == 201
    assert (await complete(account, pending)).status_code == 410
    assert "password_changed" in {mail["template"] for mail in await account.mails(agent["email"])}
    assert (await actions(account, agent["id"]))[-1] == "password.changed"
    key = await account.call("PUT", "/me/password", {"current_password": OLD, "password": NEW}, expect=403)
    assert key.json()["code"] == "not_an_agent"


async def test_an_open_session_is_no_way_to_find_out_the_password(account):
    token = await account.signed_in((await person(account))["email"])
    answers = [await change(account, token, current="wrong") for _ in range(PER_ADDRESS.attempts)]
    assert {answer.status_code for answer in answers} == {403}
    assert (await change(account, token)).status_code == 429


async def test_i_change_my_name_and_language_but_nothing_that_is_given(account):
    agent = await person(account)
    token = await account.signed_in(agent["email"])
    mine = (await account.call("PATCH", "/me", {"name": "Ana María", "language": "en"}, token=token, expect=200)).json()
    assert (mine["name"], mine["language"], mine["email"]) == ("Ana María", "en", agent["email"])
    admin = (await account.role("administrator"))["id"]
    for forbidden in ({"role_id": admin}, {"email": "x@example.com"}, {"team_ids": []}):
        await account.call("PATCH", "/me", forbidden, token=token, expect=422)


async def confirm(account, token):
    return await account.service.http.post("/email-confirmations", json={"token": token})


async def test_a_new_address_is_mine_once_it_is_confirmed_there(account):
    agent = await person(account)
    reset = await reset_token(account, agent["email"])
    token, email = await account.signed_in(agent["email"]), f"{unique('new')}@example.com"
    wrong = await account.call("PUT", "/me/email", {"email": email, "password": "wrong"}, token=token, expect=403)
    assert wrong.json()["errors"][0]["pointer"] == "/password"
    asked = (await account.call("PUT", "/me/email", {"email": email, "password": OLD}, token=token, expect=202)).json()
    assert (asked["email"], asked["pending_email"]) == (agent["email"], email)
    assert (await account.sign_in(email, OLD)).status_code == 401
    link = await account.link_token(email, "email_change")
    answers = await asyncio.gather(*(confirm(account, link) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 410, 410]
    assert (await account.sign_in(email, OLD)).status_code == 201
    assert (await account.sign_in(agent["email"], OLD)).status_code == 401
    await account.call("GET", "/me", token=token, expect=200)
    # The old address hears of it, and what was sent there opens nothing.
    assert (await account.mails(agent["email"]))[-1]["template"] == "email_changed"
    assert (await complete(account, reset)).status_code == 410
    assert (await actions(account, agent["id"]))[-2:] == ["email_change.requested", "email_change.confirmed"]


async def test_an_address_that_somebody_took_meanwhile_is_refused(account):
    agent, email = await person(account), f"{unique('both')}@example.com"
    taken = await person(account)
    token = await account.signed_in(agent["email"])
    body = {"email": taken["email"], "password": OLD}
    assert (await account.call("PUT", "/me/email", body, token=token, expect=409)).json()["code"] == "email_taken"
    await account.call("PUT", "/me/email", {"email": email, "password": OLD}, token=token, expect=202)
    await person(account, email=email)
    assert (await confirm(account, await account.link_token(email, "email_change"))).status_code == 409


async def test_an_address_that_a_manager_gives_is_confirmed_too_and_can_be_taken_back(account):
    agent, email = await person(account), f"{unique('given')}@example.com"
    path = f"/agents/{agent['id']}"
    edited = (await account.call("PATCH", path, {"email": email, "name": "Ana B"}, If_Match="*", expect=200)).json()
    assert (edited["name"], edited["email"], edited["pending_email"]) == ("Ana B", agent["email"], email)
    link = await account.link_token(email, "email_change")
    back = await account.call("PATCH", path, {"email": agent["email"]}, If_Match="*", expect=200)
    assert back.json()["pending_email"] is None
    assert (await confirm(account, link)).status_code == 410


async def test_another_password_ends_a_change_of_address_that_a_thief_began(account):
    agent, email = await person(account), f"{unique('thief')}@example.com"
    token = await account.signed_in(agent["email"])
    await account.call("PUT", "/me/email", {"email": email, "password": OLD}, token=token, expect=202)
    assert (await complete(account, await reset_token(account, agent["email"]))).status_code == 204
    assert (await confirm(account, await account.link_token(email, "email_change"))).status_code == 410
