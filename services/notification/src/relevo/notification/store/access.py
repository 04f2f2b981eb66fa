"""People with their roles: who may see which conversation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text

from relevo.chassis.auth import viewer_of
from relevo.chassis.database import Tx
from relevo.contracts.identity import AgentState, RoleState
from relevo.kernel.access import ConversationFacts, Viewer, may_see

# What is known already is not read again: agent and role change with their numbers only.
_PEOPLE = text("""
    select a.id, v.version, case when k.version is distinct from v.version then a.state end as agent,
           case when k.version is distinct from v.version then r.state end as role
    from directory a
    left join directory r on r.kind = 'role' and r.id = a.state ->> 'role_id' and r.account_id = a.account_id
        and not r.deleted
    cross join lateral (select concat_ws('/', a.sequence, r.id, r.sequence) as version) v
    left join unnest(cast(:known as text[]), cast(:versions as text[])) as k(id, version) on k.id = a.id
    where a.kind = 'agent' and not a.deleted and a.account_id = any(cast(:accounts as text[]))
      and (a.id = any(cast(:agents as text[])) or a.state ->> 'role_id' = any(cast(:roles as text[])))
""")


_KNOWN: Final = 5_000
"""People who are kept at most."""


@dataclass(frozen=True, slots=True)
class Person:
    """An active agent, and what their role lets them see (None: their role is not known here)."""

    agent: AgentState
    viewer: Viewer | None

    def sees(self, facts: ConversationFacts | None) -> bool:
        """Whether they may see a conversation of which this is known; of one that nothing is known of, never."""
        return self.viewer is not None and facts is not None and may_see(self.viewer, facts)


Known = dict[str, tuple[str, Person]]
"""People by id, each with the version of agent and role that it was made of."""


async def people(
    tx: Tx,
    accounts: Collection[str],
    agents: Collection[str],
    roles: Sequence[str] = (),
    known: Known | None = None,
) -> Mapping[str, Person]:
    """The active ones of these agents, and all with these roles, by id.

    Whoever asks again and again keeps what is ``known`` between: it is filled here, and is never older than the directory.
    """
    known = {} if known is None else known
    if len(known) > _KNOWN:
        known.clear()
    asked = sorted(agents) if not roles else sorted(known)
    remembered = [id_ for id_ in asked if id_ in known]
    rows = await tx.execute(
        _PEOPLE,
        {
            "accounts": sorted(accounts),
            "agents": sorted(agents),
            "roles": sorted(roles),
            "known": remembered,
            "versions": [known[id_][0] for id_ in remembered],
        },
    )
    found: dict[str, Person] = {}
    for row in rows:
        if row.agent is not None:
            agent = AgentState.model_validate(row.agent)
            role = RoleState.model_validate(row.role) if row.role is not None else None
            known[row.id] = row.version, Person(agent, viewer_of(agent, role) if role is not None else None)
        person = known[row.id][1]
        if person.agent.active:
            found[row.id] = person
    return found
