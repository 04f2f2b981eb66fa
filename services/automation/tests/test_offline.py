"""The answer while nobody is there: to whom, once until somebody was, with when somebody is back."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from relevo.automation import offline_store as store
from relevo.automation.app import build
from relevo.automation.domain.inbox_answers import moment_in_words
from relevo.automation.domain.offline import DEFAULT_TEXTS, Group, Setting, is_there, question_of
from relevo.automation.offline_store import Seen
from relevo.chassis.testing import running
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import MessageCreated
from relevo.contracts.identity import AgentChanged, AgentState
from relevo.contracts.permissions import Permission
from relevo.contracts.presence import AgentStatus, StatusChanged
from relevo.contracts.snapshots import ContactSnapshot

from .samples import ACCOUNT, INBOX, NOON, said
from .test_out_of_hours import _inbox, _said, _write, hours, wrote
from .test_service import _key

SETTING = Setting(ACCOUNT, INBOX, enabled=True)
PATH = f"/offline-answers/{INBOX}"


@pytest.mark.parametrize(
    "event",
    [
        said("Hola", human=False),  # an autoresponder: the two would thank each other for ever
        said("Hola", kind="outgoing"),
        said("Hola", kind="note"),
        said("Hola", contact=ContactSnapshot(id=new_id(), blocked=True)),
        said("Hola", status="pending"),
        said("Hola", status="resolved"),
        wrote(),  # out of hours: that has its own answer
    ],
)
def test_what_gets_no_answer_whoever_is_there(event: MessageCreated) -> None:
    assert question_of(event, SETTING, inbox_team=None, told_closed=True) is None
    assert question_of(said("Hola"), SETTING, inbox_team=None, told_closed=True) is not None


def test_an_inbox_that_has_no_answer_out_of_hours_gives_this_one() -> None:
    assert question_of(wrote(), SETTING, inbox_team=None, told_closed=False) is not None
    assert question_of(wrote(hours(is_open=True)), SETTING, inbox_team=None, told_closed=True) is not None
    assert question_of(said("Hola"), None, inbox_team=None, told_closed=False) is None
    assert question_of(said("Hola"), Setting(ACCOUNT, INBOX), inbox_team=None, told_closed=False) is None


def test_whom_it_asks_after() -> None:
    team, holder = new_id(), new_id()
    plain = question_of(said("Hola"), SETTING, inbox_team=team, told_closed=False)
    assert plain is not None
    assert (plain.group.team_id, plain.group.holder_id, plain.group.only) == (team, None, False)
    given = said("Hola", team_id=(other := new_id()), assignee_id=holder)
    held = question_of(given, SETTING, inbox_team=team, told_closed=False)
    assert held is not None
    assert (held.group.team_id, held.group.holder_id, held.group.only) == (other, holder, False)
    alone = Setting(ACCOUNT, INBOX, enabled=True, holder=True)
    found = question_of(given, alone, inbox_team=None, told_closed=False)
    assert found is not None
    assert found.group.only


@pytest.mark.parametrize(
    ("state", "in_shift", "there"),
    [
        ("available", None, True),
        ("available", True, True),
        ("busy", None, True),
        ("available", False, False),
        ("away", True, False),
        ("offline", None, False),
    ],
)
def test_who_is_there(state, in_shift, there) -> None:
    assert is_there(state, in_shift) is there


def test_nobody_knows_when() -> None:
    assert moment_in_words(None, "Europe/Madrid", NOON, "es") == "lo antes posible"


# -- the service ------------------------------------------------------------------------------------------------------


class Team:
    """Agents of the inbox, whose statuses a test tells one after another."""

    def __init__(self, service) -> None:
        self.service = service
        self.told: dict[str, tuple[str, int]] = {}

    async def hire(self, **more) -> str:
        agent = AgentState(
            id=new_id(), account_id=ACCOUNT, name="Eva", email=f"{new_id()}@example.com", role_id=new_id(), **more
        )
        await self.service.admin.publish(AgentChanged(agent=agent), account=ACCOUNT, entity=agent.id, sequence=1)
        return agent.id

    async def is_(self, agent: str, state: str, **more) -> None:
        previous, sequence = self.told.get(agent, ("offline", 0))
        self.told[agent] = state, sequence + 1
        status = AgentStatus(agent_id=agent, state=state, since=now(), cause="manual", **more)
        event = StatusChanged(status=status, previous=previous, previous_since=now() - timedelta(hours=1))
        await self.service.admin.publish(event, account=ACCOUNT, entity=agent, sequence=sequence + 1)
        await self.service.settle()


async def _enable(service, **more) -> dict[str, str]:
    await _inbox(service)
    headers = await _key(service, Permission.AUTOMATIONS_MANAGE)
    body = {"enabled": True, "text_es": "Volvemos {{back}}.", "text_en": "Back {{back}}.", **more}
    answer = await service.http.put(PATH, json=body, headers={**headers, "If-Match": "*"})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"'), answer.text
    return headers


async def test_who_writes_while_nobody_is_there_is_told_when_somebody_is_back_once_until_then(servers) -> None:
    async with running(build, servers) as service:
        await _enable(service)
        team = Team(service)
        ana, eva = await team.hire(), await team.hire()
        await team.hire(inbox_ids=(new_id(),))  # works elsewhere
        await team.is_(ana, "available")
        back = (now() + timedelta(days=7)).replace(microsecond=0)
        await team.is_(eva, "offline", back_at=back)
        one, two = new_id(), new_id()
        await _write(service, said("Hola", id=one))
        assert await _said(service) == []  # Ana is there
        await team.is_(ana, "away")
        await _write(
            service, said("Hola", id=one, language="es"), said("¿Hola?", id=one), said("Hi", id=two, language="en")
        )
        found = dict(await _said(service))
        assert len(await _said(service)) == 2
        words = {language: moment_in_words(back, "Europe/Madrid", now(), language) for language in ("es", "en")}
        assert found == {one: f"Volvemos {words['es']}.", two: f"Back {words['en']}."}
        await _write(service, said("Hola", id=one))
        assert len(await _said(service)) == 2  # the same absence
        await team.is_(ana, "busy")
        await _write(service, said("Hola", id=new_id()))
        assert len(await _said(service)) == 2  # who is busy answers in the end
        await team.is_(ana, "offline")
        await _write(service, said("Hola", id=one))
        assert len(await _said(service)) == 2  # another absence, but within the hour
        async with service.runtime.database.begin(ACCOUNT) as tx:
            await tx.execute(text("update offline_answered set answered_at = answered_at - interval '2 hours'"))
        await _write(service, said("Hola", id=one))
        assert [of for of, _ in await _said(service)].count(one) == 2


async def test_who_was_there_in_between_has_gone_anew_also_when_both_are_read_at_once(servers) -> None:
    first, again = now() - timedelta(hours=3), now() - timedelta(minutes=5)
    group = Group(ACCOUNT, INBOX, holder_id=(agent := new_id()), only=True)
    of = AgentState(id=agent, account_id=ACCOUNT, name="Eva", email="eva@example.com", role_id=new_id())
    async with running(build, servers) as service:
        await service.admin.publish(AgentChanged(agent=of), account=ACCOUNT, entity=agent, sequence=1)
        await service.settle()
        async with service.runtime.database.begin(ACCOUNT) as tx:
            # Of a batch the last is kept; it tells of a departure of its own.
            for sequence, gone in ((1, first), (2, None), (3, again)):
                await store.keep(
                    tx,
                    [
                        Seen(
                            ACCOUNT,
                            agent,
                            there=False,
                            gone_since=gone,
                            since=gone or now(),
                            back_at=None,
                            sequence=sequence,
                        )
                    ],
                )
                found = (await store.attendance(tx, [group], now()))[group]
                assert (found.somebody, found.gone_since) == (False, gone or first)


async def test_the_team_that_has_it_counts_and_whoever_holds_it(servers) -> None:
    async with running(build, servers) as service:
        headers = await _enable(service)
        team, sales = Team(service), new_id()
        ana, eva = await team.hire(team_ids=(sales,)), await team.hire()
        await team.is_(eva, "available")
        await _write(service, said("Hola", id=(of_team := new_id()), team_id=sales))
        assert [of for of, _ in await _said(service)] == [of_team]  # Ana, its only member, was never there
        await _write(service, said("Hola", team_id=sales, assignee_id=eva))
        assert len(await _said(service)) == 1  # Eva holds it, and is there
        await _write(service, said("Hola", assignee_id=ana))
        assert len(await _said(service)) == 1  # who holds it is gone, and Eva is there
        body = {"enabled": True, "holder": True}
        await service.http.put(PATH, json=body, headers={**headers, "If-Match": '"1"'})
        await _write(service, said("Hola", id=(held := new_id()), assignee_id=ana))
        assert [of for of, _ in await _said(service)] == [of_team, held]


async def test_it_is_not_given_beside_the_answer_out_of_hours_nor_to_machines(servers) -> None:
    async with running(build, servers) as service:
        headers = await _enable(service)
        body = {"enabled": True, "text_es": "Cerrado.", "text_en": "Closed."}
        await service.http.put(f"/out-of-hours/{INBOX}", json=body, headers={**headers, "If-Match": "*"})
        closed = hours(now() + timedelta(hours=5))
        one = new_id()
        await _write(service, wrote(closed, id=one), said("Gracias, estoy de vacaciones", human=False))
        assert [text for _, text in await _said(service)] == ["Cerrado."]
        await _write(service, wrote(closed, id=one))
        assert len(await _said(service)) == 1
        await _write(service, wrote(hours(is_open=True), id=one))
        assert [text for _, text in await _said(service)] == ["Cerrado.", "Volvemos lo antes posible."]


async def test_what_it_says_is_kept_for_those_who_may(servers) -> None:
    async with running(build, servers) as service:
        await _inbox(service)
        headers = await _key(service, Permission.AUTOMATIONS_MANAGE)
        first = await service.http.get(PATH, headers=headers)
        assert (first.json()["enabled"], first.json()["version"], first.headers["etag"]) == (False, 0, '"0"')
        assert first.json()["default_es"] == DEFAULT_TEXTS["es"]
        body = {"enabled": True, "holder": True, "text_es": " Hola "}
        assert (await service.http.put(PATH, json=body, headers=headers)).status_code == 428
        kept = await service.http.put(PATH, json=body, headers={**headers, "If-Match": '"0"'})
        assert (kept.json()["text_es"], kept.json()["holder"], kept.json()["version"]) == ("Hola", True, 1)
        assert (await service.http.put(PATH, json=body, headers={**headers, "If-Match": '"0"'})).status_code == 412
        listed = (await service.http.get("/offline-answers", headers=headers)).json()["items"]
        assert [(one["inbox_id"], one["enabled"]) for one in listed] == [(INBOX, True)]
        wrong = {"enabled": True, "text_en": "{{next_opening}}"}
        bad = await service.http.put(PATH, json=wrong, headers={**headers, "If-Match": "*"})
        assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "/text_en")
        stranger = await _key(service, Permission.AUTOMATIONS_MANAGE, account=new_id())
        assert (await service.http.get(PATH, headers=stranger)).status_code == 404
        powerless = await _key(service, Permission.CONVERSATIONS_READ)
        assert (await service.http.get(PATH, headers=powerless)).status_code == 403
