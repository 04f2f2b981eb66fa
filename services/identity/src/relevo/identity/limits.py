"""Counting what must not happen too often. Subjects are kept as SHA-256: no addresses stand in the table."""

import hashlib

from relevo.chassis.database import Database, Tx
from relevo.chassis.problems import Problem
from relevo.contracts.base import now
from relevo.identity import problems
from relevo.identity.domain import sign_in as rules
from relevo.identity.domain.sign_in import Limit
from relevo.identity.store import sign_in as store


def subject(kind: str, value: str) -> str:
    """What is counted, as it is kept."""
    return hashlib.sha256(f"{kind}:{value}".encode()).hexdigest()


async def within(tx: Tx, limit: Limit, kind: str, value: str) -> None:
    """Count one more of these in the transaction. Raises Problem 429 when it is one too many."""
    at, key = now(), subject(kind, value)
    attempts, since = (await store.count_attempt(tx, [key], now=at, stale=at - limit.window))[key]
    if (wait := rules.wait(limit, attempts, since, at)) is not None:
        raise problems.too_many_attempts(wait)


async def check(db: Database, *counted: tuple[Limit, str, str]) -> None:
    """Count one more of each (limit, kind, value), whatever comes of it. Raises Problem 429 when one is too many."""
    refused: Problem | None = None
    async with db.begin() as tx:
        for limit, kind, value in counted:
            try:
                await within(tx, limit, kind, value)
            except Problem as problem:
                refused = refused or problem
    if refused is not None:  # raised after the commit: the count must stand
        raise refused
