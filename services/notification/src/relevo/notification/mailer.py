"""Sends the e-mails that wait, until the mail server took or refused each.

What a person can do without is judged once more before each attempt: it is left out when they have read it, are gone,
may not see the conversation any more, or their address bounces. Sent at least once: a process that dies between the
server's answer and our note of it makes the next one send again, with the same Message-ID.
"""

import asyncio
import base64
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import aiosmtplib
import structlog

from relevo.chassis import Runtime, conversation_facts
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Tx, described
from relevo.contracts.base import now
from relevo.notification.domain.delivering import Standing, backoff, obstacle
from relevo.notification.settings import Settings
from relevo.notification.store import access, mails

log = structlog.get_logger("relevo.notification")

_BATCH: Final = 20
_POLL: Final = 1.0
_PERMANENT: Final = 500


@dataclass(frozen=True, slots=True)
class Letter:
    """A claimed e-mail, and the address that it goes to at this moment."""

    row: Any
    recipient: str


async def run(runtime: Runtime) -> None:
    """The worker; does nothing without a mail server. Any number of replicas may run it."""
    settings = runtime.settings
    assert isinstance(settings, Settings)
    if settings.smtp_url is None:
        return
    while not runtime.stopping.is_set():
        sent = 0
        try:
            sent = await send_due(runtime, settings)
        except Exception as error:  # noqa: BLE001 — the database may be away; the mails wait safely
            log.warning("mailer_again", error=described(error))
        if sent < _BATCH:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL):
                    await runtime.stopping.wait()


async def send_due(runtime: Runtime, settings: Settings) -> int:
    """Try every e-mail that is due, a batch at most; answers how many were tried or left out."""
    lease = timedelta(seconds=settings.smtp_timeout * (_BATCH + 1))
    async with runtime.database.begin(door="mails") as tx:
        due = await mails.claim(tx, _BATCH, lease)
    if not due:
        return 0
    async with runtime.database.begin(*{row.account_id for row in due}) as tx:
        judged = await _judged(tx, due)
    for letter, reason in judged:
        error = None if reason else await _attempt(settings, letter)
        crash_point("mailer.after_attempt")
        async with runtime.database.begin(letter.row.account_id) as tx:
            if reason:
                await mails.given_up(tx, letter.row.id, "dropped", reason)
            else:
                await _note(tx, settings, letter, error)
    return len(due)


async def _judged(tx: Tx, due: Sequence[Any]) -> list[tuple[Letter, str | None]]:
    """Each with the reason to leave it out, if there is one."""
    accounts = {row.account_id for row in due}
    people = await access.people(tx, accounts, {row.agent_id for row in due if row.agent_id})
    facts = await conversation_facts.find(tx, accounts, {row.conversation_id for row in due if row.conversation_id})
    letters = [
        Letter(row, people[row.agent_id].agent.email if row.agent_id in people else row.recipient) for row in due
    ]
    bounces = await mails.bounces(tx, accounts, {letter.recipient for letter in letters})
    judged = []
    for letter in letters:
        row = letter.row
        standing = Standing(useless_after=row.useless_after)
        if row.agent_id is not None:
            person = people.get(row.agent_id)
            bounce = bounces.get((row.account_id, letter.recipient.lower()))
            standing = Standing(
                seen=bool(row.seen),
                reader=person is not None and person.agent.account_id == row.account_id,
                sees=person is not None
                and (row.conversation_id is None or person.sees(facts.get(row.conversation_id))),
                refused=bounce.reason if bounce else None,
                useless_after=row.useless_after,
            )
        judged.append((letter, obstacle(standing, now())))
    return judged


async def _attempt(settings: Settings, letter: Letter) -> Exception | None:
    assert settings.smtp_url is not None
    url = urlsplit(settings.smtp_url.get_secret_value())
    try:
        await aiosmtplib.send(
            _message(settings, letter),
            hostname=url.hostname,
            port=url.port,
            username=unquote(url.username) if url.username else None,
            password=unquote(url.password) if url.password else None,
            use_tls=url.scheme == "smtps",
            timeout=settings.smtp_timeout,
        )
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        return error
    return None


def _message(settings: Settings, letter: Letter) -> EmailMessage:
    mail = letter.row
    message = EmailMessage()
    message["From"] = settings.mail_from
    message["To"] = letter.recipient
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(mail.created_at)
    domain = parseaddr(settings.mail_from)[1].rpartition("@")[2] or "localhost"
    message["Message-ID"] = f"<{mail.id}@{domain}>"
    # Vacation responders and the like shall not answer.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.body_text)
    message.add_alternative(mail.body_html, subtype="html")
    if mail.file is not None:
        pdf = base64.b64decode(mail.file)
        message.add_attachment(pdf, maintype="application", subtype="pdf", filename=mail.file_name)
    return message


def _is_bounce(error: Exception) -> bool:
    """Whether it is the address that the server refused, for good."""
    return isinstance(error, aiosmtplib.SMTPRecipientsRefused) and all(
        one.code >= _PERMANENT for one in error.recipients
    )


def _is_permanent(error: Exception) -> bool:
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return False  # the settings are wrong, not the mail
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return _is_bounce(error)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return error.code >= _PERMANENT
    return isinstance(error, ValueError)  # an address that no header can carry


async def _note(tx: Tx, settings: Settings, letter: Letter, error: Exception | None) -> None:
    mail = letter.row
    if error is None:
        await mails.sent(tx, mail.id)
        await mails.not_bounced(tx, mail.account_id, letter.recipient)
        return
    words = f"{type(error).__name__}: {error}"[:1000]
    if _is_bounce(error):
        await mails.bounced(tx, mail.account_id, letter.recipient, words[:300])
    if _is_permanent(error) or mail.attempts >= settings.mail_attempts:
        log.error("mail_failed", mail=mail.id, attempts=mail.attempts, error=type(error).__name__)
        await mails.given_up(tx, mail.id, "failed", words)
    else:
        log.warning("mail_again", mail=mail.id, attempts=mail.attempts, error=type(error).__name__)
        await mails.again(tx, mail.id, backoff(timedelta(seconds=settings.mail_backoff), mail.attempts), words)
