"""Who sees which conversation: lists, details, counts, messages and search agree with the one rule, for every role and scope."""

import random

import pytest
from sqlalchemy import text

from relevo.contracts.base import new_id
from relevo.contracts.permissions import ROLES, ConversationScope, Permission
from relevo.kernel.access import ConversationFacts, Viewer, may_see


async def scattered(desk, chance, people, teams, inboxes):
    """A dozen conversations with random holders; answers their facts by id."""
    for n in range(14):
        inbox = desk.world.inbox.model_copy(update={"id": chance.choice(inboxes)})
        await desk.service.admin.publish(
            desk.world.message(f"c{n}", inbox=inbox).data, account=desk.world.account_id, entity=f"c{n}", sequence=1
        )
    await desk.service.settle()
    facts = {}
    async with desk.service.runtime.database.begin(desk.world.account_id) as tx:
        rows = await tx.execute(
            text("select cast(id as text) as id, cast(inbox_id as text) as inbox from conversations")
        )
        for row in rows:
            given = {
                "id": row.id,
                "team": chance.choice([None, *teams]),
                "assignee": chance.choice([None, *people]),
                "people": chance.sample(people, chance.randrange(2)),
                "owner": chance.choice([None, None, *people]),
            }
            await tx.execute(
                text(
                    "update conversations set team_id = cast(:team as uuid), assignee_id = cast(:assignee as uuid),"
                    " participant_ids = cast(:people as uuid[]), owner_id = cast(:owner as uuid)"
                    " where id = cast(:id as uuid)"
                ),
                given,
            )
            facts[row.id] = ConversationFacts(
                account_id=desk.world.account_id,
                inbox_id=row.inbox,
                team_id=given["team"],
                assignee_id=given["assignee"],
                participant_ids=frozenset(given["people"]),
                owner_id=given["owner"],
            )
    return facts


@pytest.mark.parametrize("seed", range(2))
def test_lists_details_counts_and_search_agree_for_every_role_and_scope(at_desk, seed):
    async def body(desk):
        chance = random.Random(seed)
        teams, inboxes = [new_id() for _ in range(2)], [new_id() for _ in range(2)]
        looks = []
        for role in ROLES:
            for scope in (None, *ConversationScope):
                mine, own = chance.sample(teams, chance.randrange(3)), chance.choice([None, inboxes[:1], inboxes])
                agent, who = await desk.agent(role, teams=tuple(mine), inboxes=own and tuple(own), scope=scope)
                permissions, scope_ = ROLES[role].permissions, scope or ROLES[role].scope
                inbox_ids = None if own is None else frozenset(own)
                viewer = Viewer(desk.world.account_id, agent, permissions, scope_, frozenset(mine), inbox_ids)
                looks.append((role, scope_, viewer, who))
        facts = await scattered(desk, chance, [v.agent_id for _, _, v, _ in looks], teams, inboxes)
        stranger = type(desk)(desk.service, type(desk.world)())
        _, foreign = await stranger.agent("administrator")
        sizes = set()
        for role, scope, viewer, who in looks:
            listed = await desk.get("/conversations", who, limit=200)
            counted = await desk.get("/conversations/counts", who)
            exactly = await desk.get("/conversations/count", who)
            searched = await desk.get("/search/messages", who, q="Hola", limit=50)
            details = {id_: (await desk.get(f"/conversations/{id_}", who)).status_code for id_ in facts}
            messages = {id_: (await desk.get(f"/conversations/{id_}/messages", who)).status_code for id_ in facts}
            if Permission.CONVERSATIONS_READ not in viewer.permissions:
                answers = [listed, counted, exactly, searched]
                assert {one.status_code for one in answers} | {*details.values(), *messages.values()} == {403}, role
                continue
            seen = {id_ for id_, fact in facts.items() if may_see(viewer, fact)}
            sizes.add(len(seen))
            assert {item["id"] for item in listed.json()["items"]} == seen, (role, scope)
            assert details == messages == {id_: 200 if id_ in seen else 404 for id_ in facts}, (role, scope)
            unassigned = [id_ for id_ in seen if facts[id_].assignee_id is None]
            held = [id_ for id_ in seen if facts[id_].assignee_id == viewer.agent_id]
            told = {name: counted.json()[name]["count"] for name in ("open", "unassigned", "mine")}
            assert told == {"open": len(seen), "unassigned": len(unassigned), "mine": len(held)}, (role, scope)
            assert exactly.json()["count"] == len(seen), (role, scope)
            assert searched.json()["next"] is None
            assert {hit["conversation_id"] for hit in searched.json()["items"]} == seen, (role, scope)
        assert len(sizes) > 3, "the draw shows something"
        assert (await desk.get("/conversations", foreign)).json()["items"] == []
        assert (await desk.get("/search/messages", foreign, q="Hola")).json()["items"] == []
        assert {(await desk.get(f"/conversations/{id_}", foreign)).status_code for id_ in facts} == {404}

    at_desk(body)
