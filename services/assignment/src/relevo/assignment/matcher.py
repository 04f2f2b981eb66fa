"""The matcher: takes what waits in the journals, decides, writes, publishes. One at a time for a pool, any replica."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any

import psycopg

from relevo.assignment import asking, due, loads, noticing
from relevo.assignment.domain.deciding import apply
from relevo.assignment.domain.held import Decision, Had, Held, Refusal, Team
from relevo.assignment.domain.inputs import (
    PRIORITIES,
    AgentDue,
    AgentEdited,
    Assign,
    Closed,
    ConversationDue,
    CustomerWaits,
    Described,
    Entry,
    OfferAnswered,
    Opened,
    PolicyEdited,
    Ranked,
    Reopened,
    StatusGiven,
    TeamEdited,
)
from relevo.assignment.domain.moments import dues
from relevo.assignment.domain.policy import Policy
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import GroupKey, Roster
from relevo.assignment.metrics import DECISIONS, FAILED, MATCHING_SECONDS, RUN_SECONDS
from relevo.assignment.settings import Settings
from relevo.assignment.store import conversations, decisions, journals, people, pools, stays
from relevo.assignment.store.journals import Unreadable
from relevo.assignment.store.pools import PoolRow
from relevo.chassis.calendars import calendars
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database, Tx, described, is_transient
from relevo.chassis.service import Runtime
from relevo.contracts.assignment import (
    AssignmentEvent,
    ConversationAssigned,
    ConversationOffered,
    ConversationQueued,
    ConversationUnassigned,
    EndedOffer,
)
from relevo.contracts.base import new_id
from relevo.kernel.calendars import Calendars

_REMEMBERED_POOLS = 64
FIRST_CHUNK, LARGEST_CHUNK = 4, 256
"""How many conversations of a queue are read at once: mostly one slot was freed; if it was more, twice as many."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run did: how many inputs it took, and the refusals among them."""

    taken: int
    refused: Mapping[int, Refusal]


@dataclass(slots=True)
class _Remembered:
    runs: int
    roster: Roster
    teams: dict[str, Team]


class Matcher:
    """Decides for pools, and remembers their agents between runs.

    The memory of a pool is good as long as the pool's counter of runs is what this process left there: nothing else
    changes agents and teams. When another replica has run since, the agents that it changed are read again, and only they.
    """

    def __init__(self, database: Database, batch: int) -> None:
        self.database = database
        self.batch = batch
        self._memory: OrderedDict[str, _Remembered] = OrderedDict()

    async def work(self) -> int:
        """Decide on everything that waits in pools that no other replica works on; answers how many inputs."""
        taken = 0
        while True:
            # Looked at again after each pass: another replica may have found a pool locked by us, and gone.
            async with self.database.begin(door="matcher") as tx:
                accounts = await journals.pending(tx)
            count = sum([await self._work_pool(account_id) for account_id in accounts])
            taken += count
            if not count:
                return taken

    async def _work_pool(self, account_id: str) -> int:
        try:
            return await self._one_run(account_id, self.batch)
        except Exception as error:
            if not _of_the_input(error):
                raise
        # Something in this batch cannot be decided on. One by one, so that it alone is put aside.
        taken = 0
        for _ in range(self.batch):
            try:
                count = await self._one_run(account_id, 1)
            except Exception as error:
                if not _of_the_input(error):
                    raise
                count = await self._put_aside(account_id, error)
            taken += count
            if not count:
                break
        return taken

    async def _one_run(self, account_id: str, limit: int) -> int:
        began = time.perf_counter()
        async with self.database.begin(account_id) as tx:
            pool_row = await pools.lock_pool(tx, account_id, wait=False)
            if pool_row is None:
                return 0
            # Forgotten until this is committed: what fails leaves in memory what is not so.
            known = await _up_to_date(tx, pool_row, self._memory.pop(account_id, None))
            run = await decide(tx, pool_row, known.roster, known.teams, limit=limit)
            crash_point("matcher.before_commit")
        crash_point("matcher.after_commit")
        if run.taken:
            RUN_SECONDS.observe(time.perf_counter() - began)
            known.runs += 1
        self._memory[account_id] = known
        while len(self._memory) > _REMEMBERED_POOLS:
            self._memory.popitem(last=False)
        return run.taken

    async def _put_aside(self, account_id: str, error: Exception) -> int:
        async with self.database.begin(account_id) as tx:
            pool_row = await pools.lock_pool(tx, account_id, wait=False)
            if pool_row is None:
                return 0
            first = (await journals.take(tx, account_id, 1))[:1]
            await journals.done(tx, pool_row.runs, {row.id: f"{type(error).__name__}: {error}"[:1000] for row in first})
        FAILED.inc(len(first))
        return len(first)


def _of_the_input(error: Exception) -> bool:
    """Whether an input is to blame, so that the same again fails again; else the matcher waits, and loses nothing."""
    if is_transient(error):
        return False
    if not isinstance(error, psycopg.Error):
        return True
    state = error.sqlstate or ""
    # A constraint of ours has a name; a table that lacks a partition for the day does not.
    named = error.diag.constraint_name is not None
    return state.startswith("22") or (state.startswith("23") and named)


async def _up_to_date(tx: Tx, pool: PoolRow, known: _Remembered | None) -> _Remembered:
    if known is None or known.roster.policy != pool.policy:
        return await _load(tx, pool)
    if known.runs == pool.runs:
        return known
    for agent in await people.changed_agents(tx, pool.account_id, after_run=known.runs):
        known.roster.put(agent)
    known.roster.gained = True  # what waits since then may be for somebody who was free before
    return _Remembered(pool.runs, known.roster, await people.teams(tx, pool.account_id))


async def _load(tx: Tx, pool: PoolRow) -> _Remembered:
    agents, teams = await people.agents(tx, pool.account_id), await people.teams(tx, pool.account_id)
    return _Remembered(pool.runs, Roster(agents, pool.policy), teams)


async def decide_now(tx: Tx, pool: PoolRow, journal_id: int, batch: int) -> Refusal | None:
    """Decide on everything up to and with one input, in this transaction; the pool is locked. Answers why not, if not."""
    known = await _load(tx, pool)
    while True:
        run = await decide(tx, pool, known.roster, known.teams, limit=batch, until=journal_id)
        if journal_id in run.refused:
            return run.refused[journal_id]
        if run.taken < batch:
            return None
        pool = await pools.lock_pool(tx, pool.account_id, wait=True) or pool


async def decide(
    tx: Tx, pool_row: PoolRow, roster: Roster, teams: dict[str, Team], *, limit: int, until: int | None = None
) -> Run:
    """One run: take up to `limit` inputs (none beyond `until`), decide, write, publish. The pool is locked.

    Changes `roster` and `teams`: forget them when the transaction fails.
    """
    account_id = pool_row.account_id
    rows = [row for row in await journals.take(tx, account_id, limit) if until is None or row.id <= until]
    if not rows:
        return Run(0, {})
    run = pool_row.runs + 1
    entries = [row for row in rows if isinstance(row, Entry)]
    outcome: dict[int, str | None] = {row.id: row.error if isinstance(row, Unreadable) else None for row in rows}
    held = await _concerned(tx, account_id, entries, teams, roster)
    policies = (roster.policy, *(one.given.policy for one in entries if isinstance(one.given, PolicyEdited)))
    asks_last_agent = any(one.asks_last_agent for one in policies)
    pool = Pool(
        roster,
        teams,
        turn=pool_row.turn,
        held=held,
        waiting=await conversations.waiting_keys(tx, account_id),
        had=await _had(tx, account_id, held, entries) if asks_last_agent else None,
    )
    refused: dict[int, Refusal] = {}
    waiting: dict[int, str] = {}
    matching = 0.0
    for entry in entries:
        began = time.perf_counter()
        refusal = apply(pool, entry)
        if refusal == "conversation_not_found" and isinstance(entry.given, Assign) and entry.given.mode == "automation":
            waiting[entry.id] = entry.given.conversation_id
            del outcome[entry.id]
        elif refusal is not None:
            refused[entry.id] = refusal
            outcome[entry.id] = refusal
        chunk = FIRST_CHUNK
        while short := pool.drain(entry):
            matching += time.perf_counter() - began
            await _extend(tx, account_id, pool, short, chunk, asks_last_agent=asks_last_agent)
            began = time.perf_counter()
            chunk = min(2 * chunk, LARGEST_CHUNK)
        pool.note_stays(entry.at)
        matching += time.perf_counter() - began
    MATCHING_SECONDS.observe(matching)
    crash_point("matcher.after_decisions")
    await _write(tx, account_id, pool, run, governed=pool.policy if pool.policy != pool_row.policy else None)
    if pool_row.tells_loads:
        governed = any(isinstance(entry.given, PolicyEdited) for entry in entries)
        loads.tell(tx, account_id, pool, run, everybody=governed)
    crash_point("matcher.after_claims")
    await journals.done(tx, run, outcome)
    await journals.wait_for(tx, waiting)
    # Also of this very batch: what was put aside may stand before the opening that it waits for.
    opened = {entry.given.conversation_id for entry in entries if isinstance(entry.given, Opened | Reopened)}
    await journals.wait_no_more(tx, account_id, opened)
    return Run(len(rows), refused)


async def _concerned(
    tx: Tx, account_id: str, entries: list[Entry], teams: Mapping[str, Team], roster: Roster
) -> list[Held]:
    """The conversations that these inputs may touch, apart from those that wait."""
    named, agents, changed_teams, came, asked = set(), set(), set(), set(), set()
    for entry in entries:
        match entry.given:
            case (
                Opened()
                | Reopened()
                | Closed()
                | Ranked()
                | Described()
                | Assign()
                | CustomerWaits()
                | ConversationDue()
                | OfferAnswered()
            ):
                named.add(entry.given.conversation_id)
            case AgentDue():
                agents.add(entry.given.agent_id)
            case StatusGiven():
                came.add(entry.given.agent_id)
                asked.add(entry.given.agent_id)
            case AgentEdited() if not entry.given.active:
                agents.add(entry.given.agent_id)
                asked.add(entry.given.agent_id)
            case AgentEdited():
                asked.add(entry.given.agent_id)
            case TeamEdited():
                team = teams.get(entry.given.team_id)
                if team is None or entry.given.deleted or entry.given.auto_assign != team.auto_assign:
                    changed_teams.add(entry.given.team_id)
            case _:
                pass
    open_anew = any(
        isinstance(one.given, PolicyEdited) and not roster.policy.same_for_open(one.given.policy) for one in entries
    )
    if open_anew:
        agents.update(roster.agents)
        came.update(roster.agents)
        asked.update(roster.agents)

    def offered(agent_id: str) -> bool:
        agent = roster.agents.get(agent_id)
        return agent is not None and agent.offered > 0

    found = {one.id: one for one in await conversations.held(tx, account_id, named)}
    for more in (
        await conversations.queued(tx, account_id) if open_anew else [],
        await conversations.lying(tx, account_id) if open_anew else [],
        await conversations.held_of_agents(tx, account_id, agents),
        await conversations.held_of_teams(tx, account_id, changed_teams),
        await conversations.kept_for(tx, account_id, came),
        await conversations.offered_to(tx, account_id, {one for one in asked if offered(one)}),
    ):
        for one in more:
            found.setdefault(one.id, one)
    return list(found.values())


async def _had(tx: Tx, account_id: str, held: Iterable[Held], entries: Iterable[Entry] = ()) -> dict[str, Had]:
    """Who had the last conversation of each contact whose conversations these are, or are opened by these inputs."""
    came = {entry.given.contact_id for entry in entries if isinstance(entry.given, Opened | Reopened)}
    contacts = came | {one.contact_id for one in held}
    return await conversations.had(tx, account_id, {one for one in contacts if one is not None})


async def _extend(
    tx: Tx, account_id: str, pool: Pool, short: set[GroupKey], chunk: int, *, asks_last_agent: bool
) -> None:
    wanted = {key: pool.seen(key) for key in sorted(short, key=lambda key: (key[0], key[1] or ""))}
    worth = pool.policy.priority_worth_seconds
    found = await conversations.heads(tx, account_id, wanted, chunk, worth=worth)
    had = await _had(tx, account_id, chain.from_iterable(found.values())) if asks_last_agent else {}
    for key, more in found.items():
        pool.extend(key, more, complete=len(more) < chunk, had=had)


async def _write(tx: Tx, account_id: str, pool: Pool, run: int, *, governed: Policy | None) -> None:
    made = [(new_id(), decision) for decision in pool.decisions]
    last = {decision.conversation_id: decision_id for decision_id, decision in made}
    agents = pool.roster.agents
    await conversations.save_held(tx, account_id, (pool.held[one] for one in sorted(pool.changed_held)), last)
    await stays.save(tx, account_id, pool.stays)
    await people.save_agents(tx, account_id, (agents[one] for one in sorted(pool.changed_agents)))
    await people.save_agents_then(tx, account_id, run, pool.agents_then, pool.noted_at)
    await people.save_teams(tx, account_id, (pool.teams[one] for one in sorted(pool.changed_teams)))
    await decisions.save_decisions(tx, account_id, run, made)
    await pools.save_pool(tx, account_id, turn=pool.turn, runs=run, governed=governed)
    await due.schedule(tx, account_id, dues(pool))
    await asking.tell(tx, account_id, made, pool.roster)
    if pool.policy.waiting_notice is not None:
        told = [pool.held[one] for one in sorted(pool.to_tell)]
        await noticing.tell(tx, account_id, pool.policy.waiting_notice, told)
    waited = any(decision.waited_seconds is not None for _, decision in made)
    known = (await calendars(tx, [account_id]))[account_id] if waited else Calendars(())
    for decision_id, decision in made:
        DECISIONS.labels(decision.kind).inc()
        tx.emit(
            event_of(decision, decision_id, pool.held[decision.conversation_id], known),
            account=account_id,
            entity=decision.conversation_id,
            actor=decision.actor,
            sequence=decision.version,
            time=decision.entry.at,
            cause=decision.entry.cause,
        )


def event_of(decision: Decision, decision_id: str, held: Held, known: Calendars) -> AssignmentEvent:
    """The decision as others learn of it; how long one waited also in business time, where a calendar counts."""
    given = {
        "conversation_id": decision.conversation_id,
        "inbox_id": held.inbox_id,
        "channel": held.channel,
        "version": decision.version,
        "assignee_id": decision.assignee_id,
        "team_id": decision.team_id,
        "from_assignee_id": decision.from_assignee_id,
        "from_team_id": decision.from_team_id,
        "mode": decision.mode,
        "reason": decision.reason,
        "decision_id": decision_id,
        "queued_at": decision.queued_at,
        "ended_offer": None if decision.ended is None else EndedOffer(**decision.ended._asdict()),
    }
    if decision.kind == "assigned":
        return ConversationAssigned(
            **given,
            waited_seconds=decision.waited_seconds,
            needs=dict(decision.needs),
            **_business_time(decision, held, known),
        )
    if decision.kind == "offered":
        assert decision.offered_to is not None
        assert decision.offered_until is not None
        return ConversationOffered(
            **given,
            agent_id=decision.offered_to,
            until=decision.offered_until,
            priority=PRIORITIES[decision.rank],
            needs=dict(decision.needs),
        )
    if decision.kind == "queued":
        return ConversationQueued(**given, priority=PRIORITIES[decision.rank], needs=dict(decision.needs))
    return ConversationUnassigned(**given)


def _business_time(decision: Decision, held: Held, known: Calendars) -> dict[str, Any]:
    counting = known.of(inbox_id=held.inbox_id, team_id=decision.team_id)
    if counting is None or decision.waited_seconds is None:
        return {}
    end = decision.entry.at
    waited = counting.seconds(end - timedelta(seconds=decision.waited_seconds), end)
    return {"business_hours": counting.at(end), "waited_business_seconds": waited}


async def run(runtime: Runtime, wanted: asyncio.Event) -> None:
    """The worker: decide whenever `wanted` is set, and now and then, until the process stops."""
    settings = runtime.settings
    assert isinstance(settings, Settings)
    matcher = Matcher(runtime.database, settings.matcher_batch)
    failures = 0
    while not runtime.stopping.is_set():
        wanted.clear()
        try:
            await matcher.work()
            failures = 0
        except Exception as error:  # noqa: BLE001  (the database may be away; the same again will do)
            failures += 1
            runtime.log.warning("matcher_again", error=described(error))
            await asyncio.sleep(min(0.05 * 2**failures, 5.0))
            continue
        try:
            async with asyncio.timeout(settings.matcher_poll):
                await wanted.wait()
        except TimeoutError:
            continue
