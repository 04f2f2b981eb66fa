"""Two-step verification through the API, on real PostgreSQL and NATS."""

import asyncio
import base64

import psycopg
import pytest

from relevo.chassis.bus import until
from relevo.contracts.base import now
from relevo.identity.domain import totp
from relevo.identity.domain.sign_in import PER_ADDRESS, PER_IP, PER_SECOND_FACTOR

pytestmark = pytest.mark.asyncio(loop_scope="module")
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def nothing_counted(account):
    forget_counts(account)


def forget_counts(account):
    """The limits count by place, and all tests come from one."""
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute("delete from sign_in_attempts")


def code(secret, ahead=0):
    """What the app shows; ``ahead``: how many steps its clock is."""
    return totp.code(base64.b32decode(secret), totp.step_of(now()) + ahead)


def time_passes(account, agent):
    """As if the last code had been used a minute ago."""
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute("update second_factors set last_step = last_step - 2 where agent_id = %s", [agent["id"]])


async def enrolled(account, **more):
    """Somebody with a second factor: agent, access token, secret, recovery codes."""
    agent = await account.new_agent((await account.role("agent"))["id"], **more)
    token = await account.signed_in(agent["email"])
    begun = await account.call("POST", "/me/second-factor", {"password": PASSWORD}, token=token, expect=201)
    secret = begun.json()["secret"]
    assert f"secret={secret}" in begun.json()["uri"]
    confirmed = await account.call("POST", "/me/second-factor/confirm", {"code": code(secret)}, token=token, expect=200)
    return agent, token, secret, confirmed.json()["recovery_codes"]


async def outcome(account, agent, **more):
    answer = await account.sign_in(agent["email"], **more)
    return answer.status_code, answer.json().get("code")


async def test_signing_in_asks_for_a_code_once_it_is_set_up(account):
    agent = await account.new_agent((await account.role("agent"))["id"])
    token = await account.signed_in(agent["email"])
    wrong = await account.call("POST", "/me/second-factor", {"password": "wrong"}, token=token, expect=403)
    assert wrong.json()["code"] == "wrong_password"
    secret = (await account.call("POST", "/me/second-factor", {"password": PASSWORD}, token=token)).json()["secret"]
    # Begun is not confirmed: a secret that the app never got must not lock anybody out.
    assert (await outcome(account, agent))[0] == 201
    refused = await account.call("POST", "/me/second-factor/confirm", {"code": "000000"}, token=token)
    assert (refused.status_code, refused.json()["code"]) == (403, "wrong_code")
    off = {"enabled": False, "since": None, "recovery_codes_left": 0}
    assert (await account.call("GET", "/me/second-factor", token=token, expect=200)).json() == off
    shown = code(secret)
    typed = {"code": f" {shown[:3]} {shown[3:]}"}
    confirmed = await account.call("POST", "/me/second-factor/confirm", typed, token=token)
    assert len(set(confirmed.json()["recovery_codes"])) == totp.RECOVERY_CODES
    mine = (await account.call("GET", "/me/second-factor", token=token, expect=200)).json()
    assert (mine["enabled"], mine["recovery_codes_left"]) == (True, totp.RECOVERY_CODES)

    assert await outcome(account, agent) == (401, "second_factor_needed")
    assert await outcome(account, agent, code="123") == (401, "wrong_code")
    assert await outcome(account, agent, code=code(secret, ahead=1)) == (201, None)
    again = await account.call("POST", "/me/second-factor", {"password": PASSWORD}, token=token, expect=409)
    assert again.json()["code"] == "second_factor_on"
    assert [mail["template"] for mail in await account.mails(agent["email"])] == ["second_factor_on"]
    log = (await account.call("GET", f"/audit?entity_id={agent['id']}", expect=200)).json()["items"]
    assert log[0]["action"] == "second_factor.enabled"


async def test_a_wrong_password_says_nothing_of_the_second_factor(account):
    agent, _, secret, _ = await enrolled(account)
    time_passes(account, agent)
    for more in ({}, {"code": "000000"}, {"code": code(secret)}):
        answer = await account.sign_in(agent["email"], "wrong password", **more)
        assert (answer.status_code, answer.json()["code"]) == (401, "wrong_credentials")
    # And the code was not used up by it.
    assert await outcome(account, agent, code=code(secret)) == (201, None)


async def test_a_code_is_good_once_also_for_two_at_once(account):
    agent, _, secret, _ = await enrolled(account)
    assert await outcome(account, agent, code=code(secret)) == (401, "wrong_code")  # it has confirmed the app
    time_passes(account, agent)
    given = code(secret)
    outcomes = await asyncio.gather(*(outcome(account, agent, code=given) for _ in range(3)))
    assert sorted(outcomes, key=str) == [(201, None), (401, "wrong_code"), (401, "wrong_code")]
    assert await outcome(account, agent, code=given) == (401, "wrong_code")


async def test_recovery_codes_are_good_once_each_and_other_ones_replace_them(account):
    agent, token, secret, codes = await enrolled(account)
    other_agent, _, _, others = await enrolled(account)
    assert await outcome(account, agent, code=others[0]) == (401, "wrong_code")
    outcomes = await asyncio.gather(*(outcome(account, agent, code=codes[0].lower()) for _ in range(2)))
    assert sorted(outcomes, key=str) == [(201, None), (401, "wrong_code")]
    mine = (await account.call("GET", "/me/second-factor", token=token)).json()
    assert mine["recovery_codes_left"] == totp.RECOVERY_CODES - 1
    time_passes(account, agent)
    body = {"password": PASSWORD, "code": code(secret)}
    renewed = await account.call("POST", "/me/second-factor/recovery-codes", body, token=token, expect=200)
    assert await outcome(account, agent, code=codes[1]) == (401, "wrong_code")
    assert await outcome(account, agent, code=renewed.json()["recovery_codes"][1]) == (201, None)
    assert await outcome(account, other_agent, code=others[0]) == (201, None)


async def test_codes_cannot_be_guessed_not_even_between_the_persons_own_sign_ins(account):
    agent, _, _, codes = await enrolled(account)
    statuses = [await outcome(account, agent, code="000000") for _ in range(PER_ADDRESS.attempts)]
    assert set(statuses) == {(401, "wrong_code")}
    assert (await outcome(account, agent, code=codes[0]))[0] == 429
    with psycopg.connect(account.service.dsn) as connection:  # a quarter of an hour passes
        connection.execute("update sign_in_attempts set since = since - interval '16 minutes'")
    assert await outcome(account, agent, code=codes[0]) == (201, None)
    for _ in range(PER_SECOND_FACTOR.attempts - PER_ADDRESS.attempts):
        assert await outcome(account, agent, code="000000") == (401, "wrong_code")
    assert (await outcome(account, agent, code=codes[1]))[0] == 429


async def test_guessing_from_an_open_session_is_limited_too(account):
    _, token, _, _ = await enrolled(account)
    body = {"password": PASSWORD, "code": "000000"}
    answers = [
        await account.call("POST", "/me/second-factor/disable", body, token=token)
        for _ in range(PER_SECOND_FACTOR.attempts + 1)
    ]
    assert [answer.status_code for answer in answers] == [403] * PER_SECOND_FACTOR.attempts + [429]


async def test_being_asked_for_the_code_does_not_lock_an_office_out(account):
    agent, _, _, _ = await enrolled(account)
    for _ in range(3):
        assert await outcome(account, agent) == (401, "second_factor_needed")
    with psycopg.connect(account.service.dsn) as connection:
        counts = [row[0] for row in connection.execute("select attempts from sign_in_attempts").fetchall()]
    assert sorted(counts)[-2:] == [0, 3] or sorted(counts) == [0, 0, 3]
    assert PER_IP.attempts > PER_ADDRESS.attempts


async def test_it_is_switched_off_with_password_and_code(account):
    agent, token, secret, codes = await enrolled(account)
    time_passes(account, agent)
    for body in (
        {"password": "wrong", "code": code(secret)},
        {"password": PASSWORD, "code": "000000"},
    ):
        await account.call("POST", "/me/second-factor/disable", body, token=token, expect=403)
    assert await outcome(account, agent) == (401, "second_factor_needed")
    body = {"password": PASSWORD, "code": codes[0]}
    await account.call("POST", "/me/second-factor/disable", body, token=token, expect=204)
    assert await outcome(account, agent) == (201, None)
    gone = await account.call("POST", "/me/second-factor/disable", body, token=token, expect=409)
    assert gone.json()["code"] == "second_factor_off"
    assert (await account.mails(agent["email"]))[-1]["template"] == "second_factor_off"


async def test_another_password_does_not_take_it_away(account):
    agent, _, _, _ = await enrolled(account)
    await account.service.http.post("/password-resets", json={"email": agent["email"]})

    async def came():
        return bool(await account.mails(agent["email"], "password_reset"))

    assert await until(came, 30)
    token = await account.link_token(agent["email"], "password_reset")
    body = {"token": token, "password": "another staple entirely"}
    assert (await account.service.http.post("/password-resets/complete", json=body)).status_code == 204
    assert await outcome(account, agent, password="another staple entirely") == (401, "second_factor_needed")


async def test_who_lost_it_is_helped_by_a_manager_but_not_by_themselves(account):
    agent, token, _, _ = await enrolled(account)
    path = f"/agents/{agent['id']}/second-factor"
    manager = await account.new_agent((await account.new_role(["agents.manage"], "team"))["id"])
    as_manager = await account.signed_in(manager["email"])
    assert (await account.call("DELETE", path, token=as_manager, expect=403)).json()["code"] == "outranked"
    await account.call("DELETE", path, token=token, expect=403)
    await account.call("DELETE", path, expect=204)
    assert await outcome(account, agent) == (201, None)
    await account.call("DELETE", path, expect=409)
    mine = await account.call("DELETE", f"/agents/{account.admin_id}/second-factor", expect=403)
    assert mine.json()["code"] == "not_oneself"
    assert (await account.mails(agent["email"]))[-1]["template"] == "second_factor_off"


async def test_no_secret_of_it_is_in_the_database(account):
    agent, _, secret, codes = await enrolled(account)
    raw = base64.b32decode(secret)
    with psycopg.connect(account.service.dsn) as connection:
        for table in ("second_factors", "recovery_codes", "audit_log", "outbox", "directory"):
            content = str(connection.execute(f"select t::text from {table} t").fetchall())
            for hidden in (secret, raw.hex(), codes[0], totp.normal_recovery_code(codes[0])):
                assert hidden not in content, table
        kept = connection.execute("select count(*) from recovery_codes where agent_id = %s", [agent["id"]]).fetchone()
        assert kept == (totp.RECOVERY_CODES,)
    await account.call("DELETE", f"/agents/{agent['id']}", expect=204)
    with psycopg.connect(account.service.dsn) as connection:
        for table in ("second_factors", "recovery_codes"):
            left = connection.execute(f"select count(*) from {table} where agent_id = %s", [agent["id"]]).fetchone()
            assert left == (0,)
