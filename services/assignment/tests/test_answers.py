"""Whatever is asked of this service, the answer is one that its OpenAPI document has."""

import os

import pytest
from answers import Questioner

from relevo.assignment.app import build
from relevo.chassis.testing import running, stepwise
from relevo.contracts.base import now

from .conftest import World, decided

HINTS = {
    "strategy": ["round_robin", "most_skilled"],
    "language": ["es", "en"],
    "name": ["vip", "correo"],
    "channel": ["web", "email"],
}


@pytest.fixture
def judged(servers):
    """Asks the running service, so many rounds of so many questions to each operation."""

    def judge(rounds, examples):
        with stepwise(running(build, servers, RELEVO_LOOP_STALL_SECONDS="3600")) as (service, run):
            world = World(service.admin)
            run(world.found())
            boss = run(world.hire("Boss", "administrator"))
            team = run(world.team("Ventas"))

            def send(method, url, **more):
                return run(service.http.request(method, url, **more))

            def token(_):
                return world.as_(boss)["Authorization"].removeprefix("Bearer ")

            questioner = Questioner("assignment", send, token)
            for name, values in {"inbox_id": [world.inbox], "team_id": [team], "agent_id": [boss], **HINTS}.items():
                questioner.know(name, *values)
            questioner.know("at", now().isoformat())

            async def begin():
                for _ in range(4):
                    questioner.know("conversation_id", await world.open())
                await decided(service)

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
