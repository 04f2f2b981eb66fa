"""People with their roles: who may see which conversation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text

from relevo.chassis.auth import viewer_of
from relevo.chassis.database import Tx
from relevo.contracts.identity import AgentState, RoleState
from relevo.kernel.access import ConversationFacts, Viewer, may_see

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
