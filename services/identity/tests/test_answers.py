"""Whatever is asked of this service, the answer is one that its OpenAPI document has."""

import os

import psycopg
import pytest
from answers import Questioner

from relevo.chassis.testing import stepwise

HINTS = {
    "email": ["ana@example.com", "eva@example.com"],
    "name": ["Ventas", "Eva Ruiz"],
    "language": ["es", "en"],
    "time_zone": ["Europe/Madrid", "America/Lima"],
    "permissions": ["conversations.read", "contacts.read"],
    "initial_password": ["correct horse battery"],
    "password": ["correct horse battery"],
    "current_password": ["correct horse battery"],
    "code": ["123456"],
}


@pytest.fixture
def judged(servers, a_service, found_account):
    """Asks the running service, so many rounds of so many questions to each operation."""

    def judge(rounds, examples):
        with stepwise(a_service(servers, RELEVO_LOOP_STALL_SECONDS="3600")) as (service, run):
            account = run(found_account(service))
            tokens = []

            async def credential(again):
                """The key of an administrator and their session in turns; a new account when it was asked to end them."""
                if again and (await account.call("GET", "/me", token=tokens[0])).status_code == 401:
                    await begin()
                tokens.reverse()
                return tokens[0]

            def send(method, url, **more):
                return run(service.http.request(method, url, **more))

            async def begin():
                nonlocal account
                with psycopg.connect(
                    service.dsn
                ) as connection:  # many questions are wrong passwords, from this address
                    connection.execute("delete from sign_in_attempts")
                account = await found_account(service)
                tokens[:] = [account.token, await account.signed_in(account.admin_email)]
                for name in [name for name in questioner.known if name.endswith("_id")]:
                    del questioner.known[name]
                role = await account.role("agent")
                questioner.know("role_id", role["id"])
                for _ in range(3):
                    questioner.know("agent_id", (await account.new_agent(role["id"]))["id"])

            questioner = Questioner("identity", send, lambda again: run(credential(again)))
            for name, values in HINTS.items():
                questioner.know(name, *values)

            return questioner.ask(rounds, examples, lambda: run(begin()))

    return judge


def test_every_answer_is_a_documented_one(judged):
    found = judged(int(os.environ.get("RELEVO_TEST_ROUNDS", "1")), int(os.environ.get("RELEVO_TEST_EXAMPLES", "2")))
    assert not found.wrong, found.text()


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_every_answer_is_a_documented_one_to_many_questions(judged):
    found = judged(20, 5)
    assert not found.wrong, found.text()
