"""How many conversations agents hold, told to presence for the accounts whose rules look at it."""

from collections.abc import Mapping

from relevo.assignment.domain.policy import Policy
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import Agent
from relevo.assignment.store import people, pools
from relevo.chassis.database import Tx
from relevo.contracts.assignment import AgentLoadChanged


async def watch(tx: Tx, accounts: Mapping[str, bool]) -> None:
    """Begin to tell the loads of these accounts (True), with what they are now, or stop it."""
    for account_id, watched in sorted(accounts.items()):
        pool = await pools.watch_loads(tx, account_id, watched=watched)
        if watched:
            for agent in await people.agents(tx, account_id):
                if agent.active:
                    _emit(tx, account_id, agent, pool.policy, received=0, run=pool.runs)


def tell(tx: Tx, account_id: str, pool: Pool, run: int, *, everybody: bool) -> None:
    """Tell the loads that a run changed (or everybody's), with how many each agent got in it."""
    got: dict[str, int] = {}
    for decision in pool.decisions:
        if decision.kind == "assigned" and decision.assignee_id is not None:
            got[decision.assignee_id] = got.get(decision.assignee_id, 0) + 1
    for agent_id in sorted(pool.roster.agents if everybody else pool.changed_agents):
        _emit(tx, account_id, pool.roster.agents[agent_id], pool.policy, received=got.get(agent_id, 0), run=run)


def _emit(tx: Tx, account_id: str, agent: Agent, policy: Policy, *, received: int, run: int) -> None:
    load = AgentLoadChanged(agent_id=agent.id, open=agent.load, capacity=agent.limit(policy), received=received)
    tx.emit(load, account=account_id, entity=agent.id, sequence=run)
