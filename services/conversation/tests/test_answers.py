"""Whatever is asked of this service, the answer is one that its OpenAPI document has."""

import itertools
import os
from datetime import timedelta

import pytest
from answers import Questioner

from relevo.chassis.testing import running, stepwise
from relevo.contracts.base import now
from relevo.conversation.app import build

HINTS = {
    "emoji": ["👍", "🎉"],
    "email": ["ana@example.com", "ANA@EXAMPLE.COM", "eva@example.com"],
    "phone": ["+34600111220", "600 111 221", "+34600111229"],
    "code": ["hola", "gracias"],
    "key": ["plan", "saldo"],
    "labels": ["vip", "envío"],
    "add": ["vip", "envío"],
    "language": ["es", "en"],
    "text": ["Hola {contact.name}", "¿Qué tal?"],
    "q": ["hola", "pedido", '"mi pedido"', "from:ana"],
}


@pytest.fixture
def judged(servers, desk_of, world, tmp_path):
    """Asks the running service, so many rounds of so many questions to each operation."""

    def judge(rounds, examples):
        context = running(build, servers, RELEVO_LOOP_STALL_SECONDS="3600", RELEVO_FILES=str(tmp_path))
        with stepwise(context) as (service, run):
            desk = desk_of(service, world)
            agent_id, admin = run(desk.agent("administrator"))
            run(desk.know("inbox", world.inbox))

            def send(method, url, **more):
                return run(service.http.request(method, url, **more))

            questioner = Questioner("conversation", send, lambda _: admin["authorization"].removeprefix("Bearer "))
            questioner.know("inbox_id", world.inbox.id)
            questioner.know("account_id", world.account_id)
            questioner.know("agent_id", agent_id)
            questioner.know("mention", f"agent:{agent_id}")
            for name, values in HINTS.items():
                questioner.know(name, *values)
            questioner.know("until", (now() + timedelta(days=3)).isoformat())
            questioner.know("send_at", (now() + timedelta(days=3)).isoformat())
            customers = itertools.count(600111220)

            async def begin():
                for _ in range(4):
                    await desk.customer_writes(f"34{next(customers)}", "Hola, ¿dónde está mi pedido?")
                listed = await desk.get("/conversations", admin, sort="created", limit=4)
                for row in listed.json()["items"]:
                    questioner.know("conversation_id", row["id"])
                    questioner.know("contact_id", row["contact"]["id"])

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
