"""Erasing a person everywhere: this service knows who they are, asks all the others, and counts who has done it."""

from collections.abc import Sequence

from relevo.chassis import erasing
from relevo.chassis.database import Tx
from relevo.chassis.erasing import Person
from relevo.chassis.received import Received
from relevo.contracts.erasure import PersonErased
from relevo.conversation.store import erasures

_SENDER = 3
"""The token of a stored subject that names who sent it, which its permissions bind."""


async def on_erasure(batch: Sequence[Received], tx: Tx) -> None:
    """The handler of CMD_ERASURE: another service has done its part."""
    for received in batch:
        if received.is_a(PersonErased):
            told: PersonErased = received.data
            service = received.subject.split(".")[_SENDER]
            await part_done(tx, received.account, told.contact_id, service, sweep=told.sweep)


async def part_done(tx: Tx, account_id: str, contact_id: str, service: str, *, sweep: bool) -> None:
    """Note it; once every log is done with the person, have the streams swept that several services fill."""
    following = await erasures.part_done(tx, account_id, contact_id, service, sweep=sweep)
    if following is None:
        return
    first, next_id = following
    person = await erasing.read(tx, account_id, first)
    assert person is not None, "an erasure is remembered for ever"
    told = person.asked(next_id, sweep=True)
    await erasing.add(tx, account_id, told)
    tx.emit(told, account=account_id, entity=contact_id)


async def finish(tx: Tx, person: Person, sweep: bool) -> None:
    """Note that the part of this service is done."""
    await part_done(tx, person.account_id, person.contact_id, tx.service, sweep=sweep)


async def also(tx: Tx, person: Person) -> None:
    """What requests that were under way wrote since it was asked."""
    await erasures.erase(tx, person)
