"""Sends the e-mails that wait, until the mail server took or refused each.

Sent at least once: a process that dies between the server's answer and our note of it makes the next one send again,
with the same Message-ID.
"""

import asyncio
import contextlib
from datetime import timedelta
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import aiosmtplib
import structlog

from relevo.chassis import Runtime
from relevo.chassis.crash import crash_point
from relevo.chassis.database import described
from relevo.contracts.base import now
from relevo.notification import store
from relevo.notification.settings import Settings

log = structlog.get_logger("relevo.notification")

_BATCH: Final = 20
_POLL: Final = 1.0
_LONGEST: Final = timedelta(hours=1)
_PERMANENT: Final = 500


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
    """Try every e-mail that is due, a batch at most; answers how many were tried."""
    claim = timedelta(seconds=settings.smtp_timeout * (_BATCH + 1))
    async with runtime.database.begin() as tx:
        due = await store.claim_mails(tx, _BATCH, claim)
    for mail in due:
        error = await _attempt(settings, mail)
        crash_point("mailer.after_attempt")
        async with runtime.database.begin() as tx:
            await _note(tx, settings, mail, error)
    return len(due)


class _TooLate(Exception):
    """Nobody wants it any more."""


async def _attempt(settings: Settings, mail: Any) -> Exception | None:
    if mail.useless_after is not None and mail.useless_after <= now():
        return _TooLate("too late to be of use")
    assert settings.smtp_url is not None
    url = urlsplit(settings.smtp_url.get_secret_value())
    try:
        await aiosmtplib.send(
            _message(settings, mail),
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


def _message(settings: Settings, mail: Any) -> EmailMessage:
    message = EmailMessage()
    message["From"] = settings.mail_from
    message["To"] = mail.recipient
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(mail.created_at)
    domain = parseaddr(settings.mail_from)[1].rpartition("@")[2] or "localhost"
    message["Message-ID"] = f"<{mail.id}@{domain}>"
    # Vacation responders and the like shall not answer.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.body_text)
    message.add_alternative(mail.body_html, subtype="html")
    return message


def _is_permanent(error: Exception) -> bool:
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return False  # the settings are wrong, not the mail
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(one.code >= _PERMANENT for one in error.recipients)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return error.code >= _PERMANENT
    return isinstance(error, ValueError)  # an address that no header can carry


async def _note(tx: Any, settings: Settings, mail: Any, error: Exception | None) -> None:
    if error is None:
        await store.mail_sent(tx, mail.id)
        return
    words = f"{type(error).__name__}: {error}"[:1000]
    if isinstance(error, _TooLate):
        await store.mail_given_up(tx, mail.id, "dropped", str(error))
    elif _is_permanent(error) or mail.attempts >= settings.mail_attempts:
        log.error("mail_failed", mail=mail.id, attempts=mail.attempts, error=type(error).__name__)
        await store.mail_given_up(tx, mail.id, "failed", words)
    else:
        log.warning("mail_again", mail=mail.id, attempts=mail.attempts, error=type(error).__name__)
        delay = min(timedelta(seconds=settings.mail_backoff) * 2 ** (mail.attempts - 1), _LONGEST)
        await store.mail_again(tx, mail.id, delay, words)
