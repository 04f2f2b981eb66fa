"""Who may see which conversation: the facts of conversations, and people with their roles."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text

from relevo.chassis.auth import viewer_of
from relevo.chassis.database import Tx
from relevo.contracts.identity import AgentState, RoleState
from relevo.contracts.snapshots import AccessFacts, ConversationSnapshot
from relevo.kernel.access import ConversationFacts, Viewer, may_see

_PROJECT = text("""
    insert into conversation_facts as f
        (id, account_id, inbox_id, team_id, assignee_id, participant_ids, owner_id, sequence)
    select id, account_id, inbox_id, team_id, assignee_id, cast(participant_ids as uuid[]), owner_id, sequence
    from unnest(
        cast(:ids as uuid[]), cast(:accounts as uuid[]), cast(:inboxes as uuid[]), cast(:teams as uuid[]),
        cast(:assignees as uuid[]), cast(:participants as text[]), cast(:owners as uuid[]), cast(:sequences as bigint[]))
        as n(id, account_id, inbox_id, team_id, assignee_id, participant_ids, owner_id, sequence)
    on conflict (id) do update
        set inbox_id = excluded.inbox_id, team_id = excluded.team_id, assignee_id = excluded.assignee_id,
            participant_ids = excluded.participant_ids, owner_id = excluded.owner_id, sequence = excluded.sequence
        where excluded.sequence > f.sequence
""")
_FACTS = text("""
    select cast(id as text) as id, cast(account_id as text) as account_id, cast(inbox_id as text) as inbox_id,
           cast(team_id as text) as team_id, cast(assignee_id as text) as assignee_id,
           cast(participant_ids as text[]) as participant_ids, cast(owner_id as text) as owner_id
    from conversation_facts where account_id = any(cast(:accounts as uuid[])) and id = any(cast(:ids as uuid[]))
""")
_PEOPLE = text("""
    select a.state as agent, r.state as role
    from directory a
    left join directory r on r.kind = 'role' and r.id = a.state ->> 'role_id' and r.account_id = a.account_id
        and not r.deleted
    where a.kind = 'agent' and not a.deleted and a.account_id = any(cast(:accounts as text[]))
      and (a.id = any(cast(:agents as text[])) or a.state ->> 'role_id' = any(cast(:roles as text[])))
""")


@dataclass(frozen=True, slots=True)
class Person:
    """An active agent, and what their role lets them see (None: their role is not known here)."""

    agent: AgentState
    viewer: Viewer | None

    def sees(self, facts: ConversationFacts | None) -> bool:
        """Whether they may see a conversation of which this is known; of one that nothing is known of, never."""
        return self.viewer is not None and facts is not None and may_see(self.viewer, facts)


async def project(tx: Tx, snapshots: Iterable[ConversationSnapshot]) -> None:
    """Keep the access facts of these conversations; an older state never replaces a newer one."""
    latest: dict[str, ConversationSnapshot] = {}
    for one in snapshots:
        if one.id not in latest or one.sequence > latest[one.id].sequence:
            latest[one.id] = one
    rows = [latest[id_] for id_ in sorted(latest)]
    if not rows:
        return
    await tx.execute(
        _PROJECT,
        {
            "ids": [row.id for row in rows],
            "accounts": [row.account_id for row in rows],
            "inboxes": [row.inbox_id for row in rows],
            "teams": [row.team_id for row in rows],
            "assignees": [row.assignee_id for row in rows],
            "participants": ["{" + ",".join(row.participant_ids) + "}" for row in rows],
            "owners": [row.owner_id for row in rows],
            "sequences": [row.sequence for row in rows],
        },
    )


def facts_of(account_id: str, access: AccessFacts) -> ConversationFacts:
    """An event's access facts as the rule reads them."""
    return ConversationFacts(
        account_id,
        access.inbox_id,
        access.team_id,
        access.assignee_id,
        frozenset(access.participant_ids),
        access.owner_id,
    )


async def facts(tx: Tx, accounts: Collection[str], ids: Collection[str]) -> dict[str, ConversationFacts]:
    """What is known of these conversations, by id."""
    if not ids:
        return {}
    rows = await tx.execute(_FACTS, {"accounts": sorted(accounts), "ids": sorted(ids)})
    return {
        row.id: ConversationFacts(
            row.account_id, row.inbox_id, row.team_id, row.assignee_id, frozenset(row.participant_ids), row.owner_id
        )
        for row in rows
    }


async def people(
    tx: Tx, accounts: Collection[str], agents: Collection[str], roles: Sequence[str] = ()
) -> Mapping[str, Person]:
    """The active ones of these agents, and all with these roles, by id."""
    rows = await tx.execute(_PEOPLE, {"accounts": sorted(accounts), "agents": sorted(agents), "roles": sorted(roles)})
    found: dict[str, Person] = {}
    for row in rows:
        agent = AgentState.model_validate(row.agent)
        if agent.active:
            role = RoleState.model_validate(row.role) if row.role is not None else None
            found[agent.id] = Person(agent, viewer_of(agent, role) if role is not None else None)
    return found
