"""Surveys come due: who is to be asked is asked, in the transaction that takes the timer."""

from collections.abc import Sequence
from datetime import timedelta

from relevo.chassis import directory
from relevo.chassis.database import Tx
from relevo.chassis.timers import DueTimer, Handler
from relevo.contracts.base import new_id, now
from relevo.contracts.ingest import SurveySettings
from relevo.contracts.routes import API
from relevo.conversation import metrics, store
from relevo.conversation.changes import Changes
from relevo.conversation.domain import surveys
from relevo.conversation.domain.surveys import Asking, Resolved, Survey
from relevo.conversation.store import files
from relevo.conversation.store import surveys as rows
from relevo.conversation.store.rows import Key


def asker(public_url: str) -> Handler:
    """What sends the surveys that are due. Without an address that people use, only those that need no link."""
    base = public_url.rstrip("/")

    async def on_survey(due: Sequence[DueTimer], tx: Tx) -> None:
        found = await store.conversations.lock(tx, ((one.account_id, one.key) for one in due))
        inboxes = await directory.inboxes(tx, (one.state.inbox_id for one in found.values()))
        accounts = await directory.accounts(tx, {one.account_id for one in due})
        people: list[Key] = [(account_id, one.state.contact.id) for (account_id, _), one in found.items()]
        before = await rows.last_asked(tx, people)
        changes, moment = Changes(found), now()
        sent: list[tuple[Survey, str]] = []
        secrets: dict[str, bytes] = {}
        for timer in due:
            conversation = found.get((timer.account_id, timer.key))
            inbox = inboxes.get(conversation.state.inbox_id) if conversation else None
            settings = inbox.survey if inbox and inbox.enabled else None
            if settings is None and inbox and inbox.enabled and timer.payload.get("ordered"):
                # A rule asks where the inbox does not by itself.
                settings = SurveySettings(way="link" if base else "reply")
            person: Key = (timer.account_id, conversation.state.contact.id if conversation else "")
            resolved = Resolved(timer.payload["cycle"], timer.payload["agent_id"], timer.payload["team_id"])
            why = surveys.why_not(conversation, resolved, settings, before.get(person), moment)
            if why is None and settings and settings.way == "link" and not base:
                why = "no_public_url"
            metrics.SURVEYS.labels(why or "sent").inc()
            if why is not None or conversation is None or settings is None:
                continue
            account = accounts.get(timer.account_id)
            survey = Survey(
                id=new_id(),
                account_id=timer.account_id,
                conversation_id=timer.key,
                cycle=resolved.cycle,
                way=settings.way,
                agent_id=resolved.agent_id,
                team_id=resolved.team_id,
                language=surveys.language_for(
                    conversation.state.contact.language, account.language if account else "es"
                ),
                sent_at=moment,
                answer_until=moment + timedelta(days=settings.answer_days),
                change_days=settings.change_days,
            )
            if timer.account_id not in secrets:
                secrets[timer.account_id] = await files.secret(tx, timer.account_id)
            secret = secrets[timer.account_id]
            link = f"{base}{API}/csat/{surveys.token(secret, timer.account_id, survey.id)}"
            changes.apply(surveys.ask(conversation, Asking(survey, new_id(), link), moment), actor="system")
            sent.append((survey, conversation.state.inbox_id))
            before[person] = moment
        await rows.add(tx, sent)
        await changes.save(tx)

    return on_survey
