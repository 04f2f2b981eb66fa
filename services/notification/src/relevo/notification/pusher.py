"""Brings what waits to people's devices, through the push services of their browsers.

Judged once more before each attempt, as e-mail is. At least once; a device shows one of the same tag once.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from datetime import timedelta
from email.utils import parseaddr
from typing import Any, Final

import httpx
import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from relevo.chassis import Runtime, conversation_facts
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Tx, described
from relevo.contracts.base import now
from relevo.notification.domain import push
from relevo.notification.domain.delivering import Standing, backoff, obstacle
from relevo.notification.settings import Settings
from relevo.notification.store import access, pushes

log = structlog.get_logger("relevo.notification")

_BATCH: Final = 50
_POLL: Final = 1.0
_TIMEOUT: Final = 10.0
_FIRST_PAUSE: Final = timedelta(seconds=15)
_ATTEMPTS: Final = 8
_LIFETIME: Final = timedelta(days=1)
"""For how long a push service keeps it for a device that is away."""
_TOKEN: Final = timedelta(hours=12)
_GONE: Final = (404, 410)
_BUSY: Final = 429
_LONGEST_WAIT: Final = 3600


async def run(runtime: Runtime) -> None:
    """The worker; does nothing without a key. Any number of replicas may run it."""
    settings = runtime.settings
    assert isinstance(settings, Settings)
    key = settings.vapid_key()
    if key is None:
        return
    async with httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False) as client:
        while not runtime.stopping.is_set():
            tried = 0
            try:
                tried = await push_due(runtime, settings, key, client)
            except Exception as error:  # noqa: BLE001 — the database may be away; what waits waits safely
                log.warning("pusher_again", error=described(error))
            if tried < _BATCH:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL):
                        await runtime.stopping.wait()


async def push_due(
    runtime: Runtime, settings: Settings, key: ec.EllipticCurvePrivateKey, client: httpx.AsyncClient
) -> int:
    """Try every push that is due, a batch at most; answers how many were tried or left out."""
    async with runtime.database.begin(door="pushes") as tx:
        due = await pushes.claim(tx, _BATCH, timedelta(seconds=3 * _TIMEOUT))
    if not due:
        return 0
    accounts = {one.account_id for one in due}
    async with runtime.database.begin(*accounts) as tx:
        reasons = await _judged(tx, due, settings)
    answers = await asyncio.gather(
        *(_none() if reason else _attempt(settings, key, client, one) for one, reason in zip(due, reasons, strict=True))
    )
    crash_point("pusher.after_attempt")
    async with runtime.database.begin(*accounts) as tx:
        for one, reason, answer in zip(due, reasons, answers, strict=True):
            if reason:
                await pushes.done(tx, one.id, "dropped", reason)
            else:
                await _note(tx, one, answer)
    return len(due)


async def _none() -> None:
    """Nothing is tried."""


async def _judged(tx: Tx, due: Sequence[Any], settings: Settings) -> list[str | None]:
    """The reason to leave each out, if there is one."""
    accounts = {one.account_id for one in due}
    people = await access.people(tx, accounts, {one.agent_id for one in due})
    facts = await conversation_facts.find(tx, accounts, {one.conversation_id for one in due if one.conversation_id})
    reasons = []
    for one in due:
        person = people.get(one.agent_id)
        standing = Standing(
            seen=bool(one.seen),
            reader=person is not None and person.agent.account_id == one.account_id,
            sees=person is not None and (one.conversation_id is None or person.sees(facts.get(one.conversation_id))),
            refused=None
            if push.is_allowed(one.endpoint, settings.push_hosts)
            else "its host is not among RELEVO_PUSH_HOSTS",
            useless_after=one.useless_after,
        )
        reasons.append(obstacle(standing, now()))
    return reasons


async def _attempt(
    settings: Settings, key: ec.EllipticCurvePrivateKey, client: httpx.AsyncClient, one: Any
) -> httpx.Response | str:
    """The push service's answer, or why there was none."""
    moment = now()
    life = _LIFETIME if one.useless_after is None else min(_LIFETIME, one.useless_after - moment)
    subject = settings.vapid_subject or f"mailto:{parseaddr(settings.mail_from)[1]}"
    headers = {
        "Authorization": push.authorization(key, one.endpoint, subject, moment + _TOKEN),
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream",
        "TTL": str(max(int(life.total_seconds()), 0)),
        "Urgency": "high",
        **({"Topic": one.topic} if one.topic else {}),
    }
    try:
        body = push.encrypted(
            one.payload.encode(), bytes(one.point), bytes(one.secret), own=push.new_key(), salt=secrets.token_bytes(16)
        )
        return await client.post(one.endpoint, content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return type(error).__name__


async def _note(tx: Tx, one: Any, answer: httpx.Response | str | None) -> None:
    if isinstance(answer, httpx.Response) and answer.is_success:
        await pushes.done(tx, one.id, "sent")
        return
    if isinstance(answer, httpx.Response) and answer.status_code in _GONE:
        await pushes.gone(tx, one.subscription_id)
        return
    words = f"the push service answered {answer.status_code}" if isinstance(answer, httpx.Response) else str(answer)
    passing = not isinstance(answer, httpx.Response) or answer.status_code == _BUSY or answer.is_server_error
    if not passing or one.attempts >= _ATTEMPTS:
        log.error("push_failed", push=one.id, attempts=one.attempts, error=words)
        await pushes.done(tx, one.id, "failed", words)
        return
    delay = backoff(_FIRST_PAUSE, one.attempts)
    wanted = answer.headers.get("Retry-After", "") if isinstance(answer, httpx.Response) else ""
    if wanted.isdecimal():
        delay = max(delay, timedelta(seconds=min(int(wanted), _LONGEST_WAIT)))
    log.warning("push_again", push=one.id, attempts=one.attempts, error=words)
    await pushes.again(tx, one.id, delay, words)
