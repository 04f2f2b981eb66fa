"""Bus: what happens in conversations, and what other services ask to tell somebody."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from relevo.chassis import directory
from relevo.chassis.database import Tx
from relevo.chassis.received import Received
from relevo.contracts.base import new_id, now
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.conversation import AssigneeChanged, MessageCreated
from relevo.contracts.envelope import Envelope
from relevo.contracts.identity import AgentState
from relevo.contracts.notification import NotificationCreated, Notify
from relevo.notification import store
from relevo.notification.domain import texts
from relevo.notification.domain.deciding import ESSENTIAL, Choice, Notice, of_assignment, of_mention
from relevo.notification.domain.texts import Language
from relevo.notification.settings import Settings
from relevo.notification.store import NewMail, NewNotification

_ASSIGNED = BY_MODEL[AssigneeChanged].name
_SAID = BY_MODEL[MessageCreated].name
_MENTIONING = b'"mentions":["'
"""Within the body of every message that mentions somebody; text that people write has its quotes escaped."""
_NO_SERVER = "no mail server is configured (RELEVO_SMTP_URL)"


@dataclass
class _Outgoing:
    """What a batch comes to."""

    rows: list[NewNotification] = field(default_factory=list)
    causes: dict[str, Envelope] = field(default_factory=dict)
    mails: list[NewMail] = field(default_factory=list)

    async def write(self, tx: Tx) -> None:
        added = await store.add_notifications(tx, self.rows)
        await store.add_mails(tx, self.mails)
        for row in self.rows:
            if row.id in added:
                tx.emit(
                    NotificationCreated(
                        notification_id=row.id,
                        agent_id=row.agent_id,
                        kind=row.kind,
                        conversation_id=row.conversation_id,
                        title=row.title,
                        body=row.body,
                        created_at=row.created_at,
                    ),
                    account=row.account_id,
                    entity=row.agent_id,
                    time=row.created_at,
                    cause=self.causes[row.id],
                )


class Handlers:
    """The handlers, with the settings that they need."""

    def __init__(self, settings: Settings) -> None:
        self._sends = settings.smtp_url is not None
        self._console = settings.public_url.rstrip("/")

    async def on_conversation(self, batch: Sequence[Received], tx: Tx) -> None:
        """Tell people what was assigned to them and where they are mentioned."""
        # Most of what passes concerns nobody here: it is left undecoded.
        concerned = [r for r in batch if r.type == _ASSIGNED or (r.type == _SAID and _MENTIONING in r.body)]
        if not concerned:
            return
        accounts = {r.envelope.account for r in concerned}
        members = {
            account: {team.id: team.member_ids for team in await directory.teams(tx, account)} for account in accounts
        }
        notices = [(r.envelope, notice) for r in concerned for notice in _notices(r, members[r.envelope.account])]
        if not notices:
            return
        people = await _people(tx, accounts)
        choices = await store.choices(tx, {notice.agent_id for _, notice in notices} & set(people))
        outgoing = _Outgoing()
        moment = now()
        for envelope, notice in notices:
            agent = people.get(notice.agent_id)
            if agent is not None and agent.account_id == envelope.account:
                choice = choices.get((agent.id, notice.kind), Choice())
                self._tell(outgoing, envelope, agent, notice=notice, choice=choice, moment=moment, useless_after=None)
        await outgoing.write(tx)

    async def on_commands(self, batch: Sequence[Received], tx: Tx) -> None:
        """Tell people what other services ask for, once per dedup key, unless it is too late to be of use."""
        moment = now()
        asked = [
            (r.envelope, r.data)
            for r in batch
            if r.is_a(Notify) and (r.data.useless_after is None or r.data.useless_after > moment)
        ]
        if not asked:
            return
        people = await _people(tx, {envelope.account for envelope, _ in asked})
        choices = await store.choices(tx, {n.agent_id for _, n in asked if n.agent_id} & set(people))
        outgoing = _Outgoing()
        for envelope, wanted in asked:
            agent = people.get(wanted.agent_id or "")
            if wanted.agent_id is not None:
                if agent is None or agent.account_id != envelope.account:
                    continue  # removed in the meantime: there is nobody to tell
                notice = Notice(agent.id, wanted.kind, wanted.template, wanted.dedup_key, wanted.data)
                choice = choices.get((agent.id, wanted.kind), Choice())
                if wanted.kind in ESSENTIAL:
                    choice = Choice(in_app=False, email=True)
                self._tell(
                    outgoing,
                    envelope,
                    agent,
                    notice=notice,
                    choice=choice,
                    moment=moment,
                    useless_after=wanted.useless_after,
                )
            elif wanted.address:
                text = texts.fill(wanted.template, wanted.language, wanted.data)
                outgoing.mails.append(
                    self._mail(
                        envelope.account,
                        wanted.dedup_key,
                        wanted.address,
                        text=text,
                        language=wanted.language,
                        conversation_id=None,
                        moment=moment,
                        useless_after=wanted.useless_after,
                    )
                )
        await outgoing.write(tx)

    def _tell(
        self,
        outgoing: _Outgoing,
        envelope: Envelope,
        agent: AgentState,
        *,
        notice: Notice,
        choice: Choice,
        moment: datetime,
        useless_after: datetime | None,
    ) -> None:
        text = texts.fill(notice.template, agent.language, notice.data)
        if choice.in_app:
            row = NewNotification(
                id=new_id(),
                account_id=envelope.account,
                agent_id=agent.id,
                kind=notice.kind,
                dedup_key=notice.dedup_key,
                conversation_id=notice.conversation_id,
                title=text.title,
                body=text.body,
                created_at=moment,
            )
            outgoing.rows.append(row)
            outgoing.causes[row.id] = envelope
        if choice.email and (self._sends or not choice.in_app):
            outgoing.mails.append(
                self._mail(
                    envelope.account,
                    notice.dedup_key,
                    agent.email,
                    text=text,
                    language=agent.language,
                    conversation_id=notice.conversation_id,
                    moment=moment,
                    useless_after=useless_after,
                )
            )

    def _mail(
        self,
        account_id: str,
        dedup_key: str,
        recipient: str,
        *,
        text: texts.Text,
        language: Language,
        conversation_id: str | None,
        moment: datetime,
        useless_after: datetime | None,
    ) -> NewMail:
        link = f"{self._console}/conversations/{conversation_id}" if self._console and conversation_id else None
        return NewMail(
            id=new_id(),
            account_id=account_id,
            dedup_key=dedup_key,
            recipient=recipient,
            subject=text.title,
            body_text=texts.mail_text(text, language, link),
            body_html=texts.mail_html(text, language, link),
            created_at=moment,
            useless_after=useless_after,
            # Kept all the same, so that it can be seen what nobody got.
            error=None if self._sends else _NO_SERVER,
        )


def _notices(received: Received, members: dict[str, tuple[str, ...]]) -> list[Notice]:
    envelope, data = received.envelope, received.data
    if isinstance(data, AssigneeChanged):
        return of_assignment(envelope.id, data, envelope.actor)
    if isinstance(data, MessageCreated):
        return of_mention(envelope.id, data, members)
    return []


async def _people(tx: Tx, accounts: Iterable[str]) -> dict[str, AgentState]:
    """The active agents of these accounts, by id."""
    return {agent.id: agent for account in accounts for agent in await directory.agents(tx, account) if agent.active}
