"""Supervisors are told when an agent, or a team, has been in a state for too long: once, to them and to webhooks."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from relevo.automation import alerts_store as store
from relevo.automation.alerts_store import Told
from relevo.automation.caught_up import behind, put_off
from relevo.automation.domain.alerts import Alert, Status, after, due, holds_since
from relevo.automation.webhooks import Webhooks
from relevo.chassis import Received, Runtime, Tx, directory
from relevo.chassis.timers import DueTimer, Timer, cancel, schedule_all
from relevo.contracts import streams
from relevo.contracts.automation import AlertRaised
from relevo.contracts.base import now
from relevo.contracts.envelope import Envelope
from relevo.contracts.identity import AgentState, TeamChanged, TeamState
from relevo.contracts.notification import Notify
from relevo.contracts.presence import StatusChanged

ALERT: Final = "alert"


class Alerts:
    """The handlers and the timers."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks
        self._runtime: Runtime | None = None

    def setup(self, runtime: Runtime) -> None:
        """Know the bus, which tells how far the story has come."""
        self._runtime = runtime

    async def on_presence(self, batch: Sequence[Received], tx: Tx) -> None:
        """Keep the statuses, and set the timers of the alerts that watch who changed."""
        await keep(batch, tx)
        changed = {r.data.status.agent_id for r in batch if r.is_a(StatusChanged)}
        if changed:
            await watch(tx, {r.envelope.account for r in batch}, changed)

    async def on_identity(self, batch: Sequence[Received], tx: Tx) -> None:
        """Who is of a team has changed."""
        accounts = {r.envelope.account for r in batch if r.is_a(TeamChanged)}
        if accounts:
            await watch(tx, accounts)

    async def on_alert(self, given: Sequence[DueTimer], tx: Tx) -> None:
        """Timers of alerts: tell what is still so."""
        assert self._runtime is not None
        if await behind(tx, self._runtime, streams.EVT_PRESENCE, max(timer.due_at for timer in given)):
            await put_off(tx, ALERT, given)
            return
        accounts = {timer.account_id for timer in given}
        alerts = {alert.id: alert for alert in await store.enabled(tx, accounts)}
        statuses = await store.statuses(tx, accounts)
        tellings = await store.tellings(tx, accounts)
        teams = await _teams(tx, accounts)
        agents = {agent.id: agent for account in accounts for agent in await directory.agents(tx, account)}
        present = now()
        later: list[Timer] = []
        due_now: list[Told] = []
        for timer in given:
            alert, subject = alerts.get(timer.payload["alert"]), timer.payload["subject"]
            if alert is None:
                continue
            since = holds_since(alert, statuses, _members(alert, teams)).get(subject)
            at = None if since is None else due(alert, since, tellings.get((alert.id, subject)))
            if since is None or at is None:
                continue
            if at > present:
                # It was otherwise in between: the time runs anew.
                later.append(_timer(alert, subject, at))
            else:
                due_now.append(Told(alert, subject, since))
        await schedule_all(tx, ALERT, later)
        await store.told(tx, due_now, at=present)
        events: list[tuple[Envelope, AlertRaised]] = []
        for told in due_now:
            who: AgentState | TeamState | None = agents.get(told.subject_id) or teams.get(told.subject_id)
            status = statuses.get(told.subject_id) if told.subject_id in agents else None
            events.append(_tell(tx, told.alert, status, who.name if who is not None else "—"))
        await self._webhooks.add(tx, events)


def _tell(tx: Tx, alert: Alert, status: Status | None, name: str) -> tuple[Envelope, AlertRaised]:
    event = AlertRaised(
        alert_id=alert.id,
        kind=alert.kind,
        subscriber_id=alert.subscriber_id,
        agent_id=status.agent_id if status is not None else None,
        team_id=alert.team_id,
        state=status.state if status is not None else None,
        minutes=alert.minutes,
    )
    envelope = tx.emit(event, account=alert.account_id, entity=alert.id)
    command = Notify(
        dedup_key=f"alert:{envelope.id}",
        kind="alert",
        agent_id=alert.subscriber_id,
        template=f"alert_status_{event.state}" if alert.kind == "status" else f"alert_{alert.kind}",
        data={"name": name, "minutes": alert.minutes},
    )
    tx.emit(command, account=alert.account_id, entity=alert.id)
    return envelope, event


async def keep(batch: Sequence[Received], tx: Tx) -> None:
    """EVT_PRESENCE: the status of each agent; a projection."""
    told = [(r, r.data) for r in batch if r.is_a(StatusChanged)]
    if not told:
        return
    agents = {event.status.agent_id for _, event in told}
    statuses = await store.statuses_of(tx, {r.envelope.account for r, _ in told}, agents)
    changed: dict[str, Status] = {}
    for received, event in told:
        status = event.status
        given = Status(
            status.agent_id,
            received.envelope.account,
            status.state,
            status.since,
            None,
            status.in_shift,
            received.envelope.sequence,
        )
        changed[status.agent_id] = after(changed.get(status.agent_id) or statuses.get(status.agent_id), given)
    await store.keep(tx, changed.values())


async def watch(tx: Tx, accounts: set[str], changed: set[str] | None = None) -> None:
    """Set the timers of these accounts' alerts (of those that watch who changed), and take back those that are moot."""
    alerts = await store.enabled(tx, accounts)
    if not alerts:
        return
    teams = await _teams(tx, accounts)
    concerned = [
        alert
        for alert in alerts
        if changed is None or alert.agent_id in changed or changed & set(_members(alert, teams))
    ]
    if not concerned:
        return
    statuses = await store.statuses(tx, accounts)
    tellings = await store.tellings(tx, accounts)
    wanted: list[Timer] = []
    moot: list[str] = []
    for alert in concerned:
        so = holds_since(alert, statuses, _members(alert, teams))
        subjects = {alert.agent_id or "", alert.team_id or "", *_members(alert, teams)} - {""}
        for subject in sorted(subjects):
            at = due(alert, so[subject], tellings.get((alert.id, subject))) if subject in so else None
            if at is None:
                moot.append(_key(alert, subject))
            else:
                wanted.append(_timer(alert, subject, at))
    await cancel(tx, ALERT, *moot)
    await schedule_all(tx, ALERT, wanted)


async def _teams(tx: Tx, accounts: set[str]) -> dict[str, TeamState]:
    return {team.id: team for account in sorted(accounts) for team in await directory.teams(tx, account)}


def _members(alert: Alert, teams: Mapping[str, TeamState]) -> Sequence[str]:
    team = teams.get(alert.team_id or "")
    return team.member_ids if team is not None else ()


def _key(alert: Alert, subject: str) -> str:
    return f"{alert.id}:{subject}"


def _timer(alert: Alert, subject: str, at: datetime) -> Timer:
    return Timer(_key(alert, subject), at, {"alert": alert.id, "subject": subject}, alert.account_id)
