"""Rules that come when nobody is available: a timer while it is so, which asks once for the conversations that they are about."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from relevo.automation import alerts_store, store
from relevo.automation.caught_up import behind, put_off
from relevo.automation.domain.alerts import nobody_since
from relevo.automation.domain.reviews import Absence
from relevo.automation.reviews import ask
from relevo.chassis import Received, Runtime, Tx, directory
from relevo.chassis.timers import DueTimer, Timer, cancel, schedule_all
from relevo.contracts import streams
from relevo.contracts.base import now
from relevo.contracts.identity import AgentChanged, TeamChanged
from relevo.contracts.presence import StatusChanged

ABSENCE: Final = "rule_absence"
"""The timers of rules that wait for nobody to be available, by the rule's id."""


class Absences:
    """The handlers and the timers."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None

    def setup(self, runtime: Runtime) -> None:
        """Know the bus, which tells how far the story has come."""
        self._runtime = runtime

    async def on_presence(self, batch: Sequence[Received], tx: Tx) -> None:
        """Somebody came or went. The statuses themselves are kept by the alerts' handler, which comes before."""
        accounts = {received.envelope.account for received in batch if received.is_a(StatusChanged)}
        if accounts:
            await watch(tx, accounts)

    async def on_identity(self, batch: Sequence[Received], tx: Tx) -> None:
        """Who there is, or who is of a team, has changed."""
        accounts = {one.envelope.account for one in batch if one.is_a(TeamChanged) or one.is_a(AgentChanged)}
        if accounts:
            await watch(tx, accounts)

    async def on_absence(self, due: Sequence[DueTimer], tx: Tx) -> None:
        """Timers: where nobody is there still, ask; once until somebody was."""
        assert self._runtime is not None
        if await behind(tx, self._runtime, streams.EVT_PRESENCE, max(timer.due_at for timer in due)):
            await put_off(tx, ABSENCE, due)
            return
        await watch(tx, {timer.account_id for timer in due})


async def watch(tx: Tx, accounts: set[str], only: str | None = None) -> None:
    """Order what is due of these accounts' rules, set the timers of what will be, and take back those that are moot.

    ``only``: of this rule. Who holds a rule must not wait for the others: somebody who holds those may wait for it.
    """
    rules = await store.on_absence(tx, accounts, only)
    if not rules:
        return
    statuses = await alerts_store.statuses(tx, accounts)
    people = {account: await _people(tx, account) for account in sorted(accounts)}
    moment = now()
    waiting: list[Timer] = []
    moot: list[str] = []
    asked: dict[str, datetime] = {}
    for rule, asked_since in rules:
        absence = Absence.model_validate(rule.absence)
        since = nobody_since(people[rule.account_id].get(absence.team_id, ()), statuses, rule.created_at)
        if since is None or (asked_since is not None and since <= asked_since):
            moot.append(rule.id)
        elif (at := since + timedelta(minutes=absence.minutes)) > moment:
            waiting.append(Timer(rule.id, at, account_id=rule.account_id))
        else:
            ask(tx, rule, absence, since, moment)
            asked[rule.id] = since
            moot.append(rule.id)
    await store.absences_asked(tx, accounts, asked)
    await cancel(tx, ABSENCE, *moot)
    await schedule_all(tx, ABSENCE, waiting)


async def forget(tx: Tx, rule_id: str) -> None:
    """The rule is gone, or comes otherwise."""
    await cancel(tx, ABSENCE, rule_id)


async def _people(tx: Tx, account: str) -> dict[str | None, Sequence[str]]:
    """Who is of each team, and under None everybody."""
    found: dict[str | None, Sequence[str]] = {team.id: team.member_ids for team in await directory.teams(tx, account)}
    found[None] = [agent.id for agent in await directory.agents(tx, account)]
    return found
