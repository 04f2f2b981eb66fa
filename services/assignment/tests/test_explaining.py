"""What explains a decision agrees with what decides: for every combination, at every moment of any journal, and over HTTP."""

from dataclasses import fields
from itertools import product

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from sqlalchemy import text

from relevo.assignment import records
from relevo.assignment.domain.deciding import decide
from relevo.assignment.domain.explaining import Record, why, why_not
from relevo.assignment.domain.held import Team
from relevo.assignment.domain.inputs import Entry, Opened
from relevo.assignment.domain.policy import Policy
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import Agent, GroupKey, Roster
from relevo.assignment.matcher import Matcher
from relevo.assignment.store import journals, people
from relevo.assignment.store.journals import Note
from relevo.chassis.database import Database
from relevo.chassis.database import Pool as ConnectionPool
from relevo.chassis.outbox import ensure_days
from relevo.chassis.testing import template_database
from relevo.contracts.assignment import Reason
from relevo.contracts.base import new_id
from relevo.contracts.identity import RoleChanged
from relevo.contracts.permissions import Permission

from .journals import T0, journal

KEEPS_FROM = {"removed", "other_inboxes", "other_team", "offline", "away", "off_shift", "busy", "at_capacity"}


def every_agent():
    """Everything that assignment looks at in an agent, in every combination."""
    for active, inboxes, teams, state, in_shift, load in product(
        (True, False),
        (None, frozenset({"i"}), frozenset({"j"})),
        (frozenset(), frozenset({"t"})),
        ("available", "busy", "away", "offline"),
        (None, True, False),
        (0, 1, 2),
    ):
        yield Agent("ana", "Ana", active, state, None, in_shift, 1, load, team_ids=teams, inbox_ids=inboxes)


@pytest.mark.parametrize("team", [None, "t"])
@pytest.mark.parametrize(("fallback", "out_of_shift"), list(product((False, True), repeat=2)))
def test_what_keeps_somebody_from_it_is_said_exactly_when_assignment_gives_it_to_nobody(team, fallback, out_of_shift):
    policy = Policy(busy_as_fallback=fallback, out_of_shift=out_of_shift)
    for agent in every_agent():
        before = Agent(**{one.name: getattr(agent, one.name) for one in fields(Agent)})
        pool = Pool(Roster([agent], policy), {"t": Team("t", "Ventas")})
        (decision,) = decide(pool, [Entry(1, T0, Opened("c", "i", "web", T0, 1, team))])
        waits = Record("queued", "automatic", decision.reason)
        codes = {one.code for one in why_not(before, GroupKey("i", team), policy, waits, when="now")}
        if decision.kind == "assigned":
            assert codes == {"next"}, before
        else:
            assert codes, before
            assert codes <= KEEPS_FROM, before
            # Each is really in the way: without it, and the others, it goes to them; and what is not said is not.
            assert ("at_capacity" in codes) == (before.load >= 1)
            assert ("off_shift" in codes) == (before.in_shift is False and not out_of_shift)
            assert ("busy" in codes) == (before.state == "busy" and not fallback)
            assert codes & {"offline", "away"} == {before.state} & {"offline", "away"}
            assert ("other_team" in codes) == (team is not None and team not in before.team_ids)
            assert ("other_inboxes" in codes) == (before.inbox_ids == {"j"})
            assert ("removed" in codes) == (not before.active)


def record_of(decision, agents):
    return Record(
        decision.kind,
        decision.mode,
        decision.reason,
        decision.assignee_id,
        "Ana",
        decision.from_assignee_id,
        "Bea",
        {one: agents[one].name for one in decision.runners_up},
        decision.waited_seconds,
        decision.policy_version,
        decision.rule,
        decision.offered_to,
        "Cai",
        frozenset(decision.declined),
    )


def agrees(decision, key, policy, then):
    """What is said of everybody is what the decision counted when it fell; `then` answers what an agent was."""
    record = record_of(decision, then)
    assert all(one.es and one.en for one in why(record))
    free, excluded = set(), dict.fromkeys(decision.excluded, 0)
    reached = 0
    for one, agent in then.items():
        sentences = why_not(agent, key, policy, record, when="then")
        codes = [sentence.code for sentence in sentences]
        if (one == decision.assignee_id and decision.kind == "assigned") or one == decision.offered_to:
            assert codes[0] == ("has_it" if decision.kind == "assigned" else "is_offered_it")
            reached, free = reached + 1, free | {one}
            continue
        if not record.compared:
            assert codes[0] == decision.reason.code
            continue
        if codes in (["in_turn"], ["next"]):
            free.add(one)
        if not {"removed", "other_inboxes", "other_team", "passed", "declined", "unskilled"} & set(codes):
            reached += 1
            if one not in free:
                excluded[codes[0]] = excluded.get(codes[0], 0) + 1
    if record.compared:
        assert (reached, excluded) == (decision.candidates, dict(decision.excluded))
        assert set(decision.runners_up) <= free


@pytest.mark.parametrize(
    ("worth", "es", "en"),
    [
        (
            None,
            "va antes la de mayor prioridad y, entre iguales, la que lleva más tiempo esperando",
            "the highest priority goes first and, among equals, what has waited longest",
        ),
        (0, "va antes la que lleva más tiempo esperando", "what has waited longest goes first"),
        (
            5400,
            "va antes la que lleva más tiempo esperando, y cada grado de prioridad cuenta como 1 h 30 min más",
            "what has waited longest goes first, each step of priority counted as 1 h 30 min more",
        ),
    ],
)
def test_whose_turn_is_first_is_said_as_the_policy_has_it(worth, es, en):
    policy = Policy(priority_worth_seconds=worth)
    agent = Agent("ana", "Ana", active=True, state="available", capacity=1, inbox_ids=None)
    waits = Record("queued", "automatic", Reason(code="no_agent_available", es="", en=""))
    (told,) = why_not(agent, GroupKey("i", None), policy, waits, when="now")
    assert told.es == f"Nada se lo impide a Ana: le llegará cuando le toque, pues {es}."
    assert told.en == f"Nothing keeps it from Ana: it comes when its turn is there, for {en}."


def then_of(pool, decision):
    """What everybody was before a decision, from what the pool noted."""
    step = next(n for n, one in enumerate(pool.decisions) if one is decision)
    found = {}
    for (agent, at), one in sorted(pool.agents_then.items(), key=lambda row: row[0][1]):
        if at <= step:
            found[agent] = one
    return found


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_in_any_journal_each_decision_is_explained_as_it_was_counted(seed):
    given_ = [Entry(n, T0, one) for n, one in enumerate(journal(seed, 150), 1)]
    pool = Pool(Roster((), Policy()), {})
    policies = {1: Policy()} | {e.given.policy.version: e.given.policy for e in given_ if hasattr(e.given, "policy")}
    for decision in decide(pool, given_):
        held = pool.held[decision.conversation_id]
        agrees(
            decision,
            GroupKey(held.inbox_id, decision.team_id, decision.passed, held.channel, decision.rule, decision.needs),
            policies[decision.policy_version],
            then_of(pool, decision),
        )


@pytest.fixture
async def database(servers):
    dsn = servers.create_database(template=template_database(servers, "relevo.assignment.migrations"))
    one = Database(ConnectionPool(dsn, service="assignment", size=4, lease_seconds=4), "assignment")
    async with one.begin() as tx:
        await ensure_days(tx)
    yield one
    await one.close()


async def test_what_agents_were_is_read_from_the_records_as_it_was(database):
    account = new_id()
    async with database.begin(account) as tx:
        await journals.append(tx, [Note(account, one) for one in journal(7, 150)])
    async with database.begin(account) as tx:
        entries = await journals.take(tx, account, 1000)
    await Matcher(database, 13).work()
    pool = Pool(Roster((), Policy()), {})
    seen = 0
    for decision in decide(pool, entries):
        then = then_of(pool, decision)
        async with database.begin(account) as tx:
            one = await records.decided(tx, account, decision.conversation_id, decision.version)
            assert one is not None
            assert one.record == Record(
                decision.kind,
                decision.mode,
                decision.reason,
                decision.assignee_id,
                one.record.assignee_name,
                decision.from_assignee_id,
                one.record.from_assignee_name,
                dict.fromkeys(decision.runners_up) | dict(one.record.runners_up),
                decision.waited_seconds,
                decision.policy_version,
                decision.rule,
                decision.offered_to,
                one.record.offered_to_name,
                frozenset(decision.declined),
            )
            for agent_id, wanted in then.items():
                found = await records.agent_then(tx, account, agent_id, one.run, one.step)
                for name in ("active", "state", "in_shift", "capacity", "load", "extra", "team_ids", "inbox_ids"):
                    assert getattr(found, name) == getattr(wanted, name), name
                seen += 1
    assert seen > 100
    async with database.begin(account) as tx:
        for agent in await people.agents(tx, account):
            last = await records.agent_then(tx, account, agent.id, 2**63 - 1, 2**31 - 1)
            assert (last.state, last.load, last.active) == (agent.state, agent.load, agent.active)


async def ask(service, world, one, who, whom, **more):
    path = f"/conversations/{one}/assignment/why-not/{whom}"
    return await service.http.get(path, params=more, headers=world.as_(who))


async def test_why_me_and_why_not_in_words(service, world, settled):
    team = await world.team("Ventas")
    boss = await world.hire("Boss", "administrator", None)
    ana, bea = await world.hire("Ana"), await world.hire("Bea")
    cid, eva = await world.hire("Cid", state="away"), await world.hire("Eva")
    await settled()
    await service.http.put(f"/routing/agents/{eva}/capacity", json={"capacity": 0}, headers=world.as_(boss))
    one = await world.open()
    await settled()
    path = f"/conversations/{one}/assignment/why"
    mine = await service.http.get(path, params={"language": "es"}, headers=world.as_(ana))
    assert mine.status_code == 200, mine.text
    assert [(s["code"], s["text"]) for s in mine.json()["sentences"]] == [
        (
            "round_robin",
            (
                "Turno rotatorio: era el turno de Ana entre 2 agentes disponibles "
                "(3 excluidos: 1 al límite de su capacidad, 1 ausente, 1 desconectado)."
            ),
        ),
        ("runners_up", "Después seguían Bea."),
        ("policy", "Se aplicó la versión 1 de la política de reparto."),
    ]
    # What holds later changes nothing of what held then.
    for who, state in ((bea, "offline"), (cid, "available")):
        await world.status(who, state)
    await settled()
    for whom, words in {
        ana: "It went to Ana.",
        bea: "Bea could have had it, but Ana went first: Bea was number 2.",
        cid: "Cid was away.",
        eva: "Eva had no free slot: 0 of 0 conversations.",
    }.items():
        answer = await ask(service, world, one, boss, whom, language="en")
        assert answer.status_code == 200, answer.text
        assert (answer.json()["when"], answer.json()["sentences"][0]["text"]) == ("then", words)
    mine = await ask(service, world, one, cid, "me", language="es")
    assert [s["text"] for s in mine.json()["sentences"]] == ["Cid estaba ausente."]

    # While it waits, what holds now.
    waits = await world.open(team_id=team)
    await settled()
    now = (await ask(service, world, waits, boss, bea, language="en")).json()
    assert (now["when"], [s["code"] for s in now["sentences"]]) == ("now", ["other_team", "offline"])
    assert now["sentences"][0]["text"] == "Bea is not in the conversation's team."
    await service.http.post(f"/conversations/{waits}/assignment", json={"assignee_id": "me"}, headers=world.as_(boss))
    by_hand = (await ask(service, world, waits, boss, ana, language="en")).json()
    assert [s["code"] for s in by_hand["sentences"]] == ["self", "other_team"]
    then = (await ask(service, world, waits, boss, bea, language="en", version=1)).json()
    assert (then["when"], [s["code"] for s in then["sentences"]]) == ("then", ["other_team", "offline"])
    assert (await ask(service, world, waits, boss, bea, version=9)).json()["code"] == "decision_not_found"
    assert (await ask(service, world, waits, boss, new_id())).status_code == 404
    assert (await ask(service, world, new_id(), boss, bea)).status_code == 404


async def test_of_others_only_who_may_see_loads_is_told(service, world, settled):
    role = world.roles["agent"]
    kept = role.permissions - {Permission.ROUTING_READ, Permission.ROUTING_MANAGE}
    plain = role.model_copy(update={"id": new_id(), "name": "plain", "permissions": kept, "predefined": False})
    world.roles["plain"] = plain
    await world.tell(RoleChanged(role=plain), plain.id)
    ana, eva = await world.hire("Ana"), await world.hire("Eva", "plain", "away")
    await settled()
    one = await world.open()
    await settled()
    refused = await ask(service, world, one, eva, ana)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_missing")
    for me in ("me", eva):
        assert (await ask(service, world, one, eva, me)).status_code == 200


async def test_a_decision_of_before_it_was_kept_says_so(service, world, settled):
    ana, bea = await world.hire("Ana"), await world.hire("Bea", state="away")
    boss = await world.hire("Boss", "administrator", None)
    await settled()
    one = await world.open()
    await settled()
    async with service.runtime.database.begin(world.account) as tx:
        await tx.execute(text("update decisions set step = null"))
    for whom in (ana, bea):
        answer = (await ask(service, world, one, boss, whom)).json()
        assert [s["code"] for s in answer["sentences"]] == ["not_kept"]
