"""What a batch comes to: rows of people's lists, e-mails, web pushes, and the events that say so."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from relevo.chassis.database import Tx
from relevo.contracts.base import new_id
from relevo.contracts.envelope import Envelope
from relevo.contracts.identity import AccountState, AgentState
from relevo.contracts.notification import NotificationCreated, NotificationsRead, Notify
from relevo.notification.domain import push, texts
from relevo.notification.domain.deciding import ESSENTIAL, TOLD_ONCE, Choice, Notice
from relevo.notification.settings import Settings
from relevo.notification.store import lists, mails, pushes
from relevo.notification.store.lists import NewNotification, Seen
from relevo.notification.store.mails import NewMail
from relevo.notification.store.pushes import NewPush

_NO_SERVER: Final = "no mail server is configured (RELEVO_SMTP_URL)"


def emit_created(tx: Tx, row: Any, *, cause: Envelope | None = None, time: datetime | None = None) -> None:
    """Say that something is in somebody's list, for the first time or again."""
    tx.emit(
        NotificationCreated(
            notification_id=str(row.id),
            agent_id=str(row.agent_id),
            kind=row.kind,
            conversation_id=row.conversation_id,
            title=row.title,
            body=row.body,
            created_at=row.created_at,
        ),
        account=row.account_id,
        entity=row.agent_id,
        time=time,
        cause=cause,
    )


def emit_read(
    tx: Tx,
    account_id: str,
    agent_id: str,
    ids: Sequence[str],
    at: datetime,
    *,
    conversation_id: str | None = None,
) -> None:
    """Say that an agent read these, all without ids."""
    tx.emit(
        NotificationsRead(agent_id=agent_id, notification_ids=tuple(ids), conversation_id=conversation_id, at=at),
        account=account_id,
        entity=agent_id,
        actor=f"agent:{agent_id}",
    )


class Telling:
    """Collects what is to be told at a moment, and writes it at once."""

    def __init__(self, settings: Settings, moment: datetime) -> None:
        self.accounts: Mapping[str, AccountState] = {}
        self._sends = settings.smtp_url is not None
        self._console = settings.public_url.rstrip("/")
        self._unseen = timedelta(seconds=settings.mail_unseen_seconds)
        self._moment = moment
        self._rows: list[NewNotification] = []
        self._causes: dict[str, Envelope] = {}
        self._mails: list[NewMail] = []
        self._pushes: list[NewPush] = []
        self.devices: Collection[str] = ()
        """Agents who have devices to push to."""

    def tell(
        self,
        envelope: Envelope,
        agent: AgentState,
        notice: Notice,
        choice: Choice,
        *,
        at: datetime,
        useless_after: datetime | None = None,
    ) -> None:
        """Tell an agent, in their language, by the channels of their choice."""
        text = texts.fill(notice.template, agent.language, notice.data)
        row: NewNotification | None = None
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
                created_at=at,
            )
            self._rows.append(row)
            self._causes[row.id] = envelope
        if choice.email and (self._sends or row is None):
            essential = notice.kind in ESSENTIAL
            mail = self._mail(
                envelope.account,
                notice.dedup_key,
                agent.email,
                text,
                language=agent.language,
                conversation_id=notice.conversation_id,
                footing=None if essential else self._footing(envelope.account, at),
                useless_after=useless_after,
                # What is in the list may be seen there first.
                delay=self._unseen if row is not None else timedelta(0),
                agent_id=None if essential else agent.id,
                notification_id=row.id if row is not None else None,
            )
            self._mails.append(mail)

        if choice.push and agent.id in self.devices:
            self._pushes.append(
                NewPush(
                    account_id=envelope.account,
                    agent_id=agent.id,
                    dedup_key=notice.dedup_key,
                    payload=self._payload(notice, text, at),
                    topic=push.topic(notice.conversation_id) if notice.conversation_id else None,
                    conversation_id=notice.conversation_id,
                    notification_id=row.id if row is not None else None,
                    created_at=self._moment,
                    useless_after=useless_after,
                )
            )

    def write_to(self, envelope: Envelope, command: Notify, address: str) -> None:
        """Write to an address, whoever reads it."""
        text = texts.fill(command.template, command.language, command.data)
        mail = self._mail(
            envelope.account,
            command.dedup_key,
            address,
            text,
            language=command.language,
            useless_after=command.useless_after,
            # So that it is forgotten with the person; whoever reads it need not be of the team.
            conversation_id=command.conversation_id,
            linked=False,
        )
        if command.file is not None:
            mail = replace(mail, file_name=command.file.name, file=command.file.content)
        self._mails.append(mail)

    async def write(self, tx: Tx, seen: Sequence[Seen]) -> None:
        """Write it all. What was seen at once is read at once, and nobody hears of it.

        What is told once until it is read is said by one row, which stands for all of it; only the first is an event.
        """
        rows, row_of = self._gathered()
        of_other_kinds = {_where(row) for row in rows if not _once(row)}
        countable = {_where(row): row for row in rows if _once(row) and _where(row) not in of_other_kinds}
        counted = await lists.count(tx, list(countable.values()))
        new = [row for row in rows if _where(row) not in counted]
        added = await lists.add(tx, new)
        read = await lists.see(tx, seen)
        quiet = {row.id for row in read}
        stored = {id_: id_ for id_ in added} | {countable[where].id: id_ for where, id_ in counted.items()}

        def place(id_: str | None) -> str | None:
            return stored.get(row_of[id_]) if id_ else None

        told = [(mail, place(mail.notification_id)) for mail in self._mails]
        await mails.add(tx, [replace(m, notification_id=id_) for m, id_ in told if id_ or m.notification_id is None])
        pushed = [(one, place(one.notification_id)) for one in self._pushes]
        await pushes.add(
            tx,
            [
                replace(one, notification_id=id_)
                for one, id_ in pushed
                if one.notification_id is None or (id_ is not None and id_ not in quiet)
            ],
        )
        newest = {_where(row): row.id for row in new if row.id in added}
        for row in new:
            if newest.get(_where(row)) != row.id or row.id in quiet:
                continue
            emit_created(tx, row, cause=self._causes[row.id], time=row.created_at)
        for one in read:
            if one.id not in added:
                emit_read(tx, one.account_id, one.agent_id, [one.id], one.at, conversation_id=one.conversation_id)

    def _gathered(self) -> tuple[Sequence[NewNotification], Mapping[str, str]]:
        """The rows, one for what is told once, and by the id of each that was told the id of the one that says it."""
        last: dict[tuple[str, str], NewNotification] = {}
        for row in self._rows:
            if _once(row):
                before = last.get(_where(row))
                last[_where(row)] = row if before is None else replace(row, folds=before.folds + 1)
        row_of = {row.id: last[_where(row)].id if _once(row) else row.id for row in self._rows}
        return [last[_where(row)] if _once(row) else row for row in self._rows if row_of[row.id] == row.id], row_of

    def _payload(self, notice: Notice, text: texts.Text, at: datetime) -> str:
        link = f"{self._console}/conversations/{notice.conversation_id}" if notice.conversation_id else self._console
        told = {
            "kind": notice.kind,
            "title": text.title,
            "body": text.body,
            "conversation_id": notice.conversation_id,
            "url": link or None,
            "tag": push.topic(notice.conversation_id or notice.dedup_key),
            "at": at.isoformat(),
        }
        return push.payload(told)

    def _footing(self, account_id: str, at: datetime) -> texts.Footing:
        account = self.accounts.get(account_id)
        return texts.Footing(at, account.time_zone if account else "UTC", account.name if account else "Relevo")

    def _mail(
        self,
        account_id: str,
        dedup_key: str,
        recipient: str,
        text: texts.Text,
        *,
        language: texts.Language,
        useless_after: datetime | None,
        conversation_id: str | None = None,
        linked: bool = True,
        footing: texts.Footing | None = None,
        delay: timedelta = timedelta(0),
        agent_id: str | None = None,
        notification_id: str | None = None,
    ) -> NewMail:
        linked = linked and bool(self._console and conversation_id)
        link = f"{self._console}/conversations/{conversation_id}" if linked else None
        return NewMail(
            id=new_id(),
            account_id=account_id,
            dedup_key=dedup_key,
            recipient=recipient,
            subject=text.title,
            body_text=texts.mail_text(text, language, link, footing),
            body_html=texts.mail_html(text, language, link, footing),
            created_at=self._moment,
            next_at=self._moment + delay,
            useless_after=useless_after,
            # Kept all the same, so that it can be seen what nobody got.
            error=None if self._sends else _NO_SERVER,
            agent_id=agent_id,
            conversation_id=conversation_id,
            notification_id=notification_id,
        )


def _once(row: NewNotification) -> bool:
    return row.kind in TOLD_ONCE and row.conversation_id is not None


def _where(row: NewNotification) -> tuple[str, str]:
    """Of whose list and which conversation; what is of none stands for itself."""
    return row.agent_id, row.conversation_id or row.id
