"""The account's labels: names become keys at every door, and what a merge or a deletion leaves to do is done in batches."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from relevo.chassis import timers
from relevo.chassis.database import Tx
from relevo.chassis.timers import DueTimer
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import ContactUpdated, LabelChanged, LabelsChanged
from relevo.contracts.envelope import Envelope
from relevo.conversation import store
from relevo.conversation.changes import Changes
from relevo.conversation.domain import profile, properties
from relevo.conversation.domain.state import Change
from relevo.conversation.store import labels, profiles, segments
from relevo.conversation.store.rows import Key, Row
from relevo.kernel.conditions.replacing import with_values
from relevo.kernel.labels import meant
from relevo.kernel.text import fold

LABELS: Final = "labels"
"""The timers of labels that are merged or deleted, by label id: each does one batch and sets the next."""
BATCH: Final = 100
LABEL_FIELDS: Final = frozenset({"labels"})
"""What filters of contacts compare with keys of labels."""


@dataclass(frozen=True, slots=True)
class Use:
    """Somebody puts a label, by any name, on something: it comes to be if there is none."""

    account_id: str
    name: str
    actor: str
    cause: Envelope | None = None


async def take(tx: Tx, used: Iterable[Use], also: Iterable[Key] = ()) -> Mapping[Key, str]:
    """The keys of what these (account, name) mean, those of labels that are used and new among them.

    What is used cannot go away before the commit. ``also`` are names that make no label: one that means none is its
    own key. Do it before conversations are locked.
    """
    uses = {(use.account_id, use.name): use for use in used}
    wanted = {*uses, *also}
    known = await labels.known(tx, wanted, hold=bool(uses))
    found = {key: meant(key[1], known.get(key[0], ())) for key in wanted}
    # However often it is spelled otherwise, it is one: the first spelling names it.
    made: dict[Key, str] = {}
    for account, name in uses:
        if found[account, name] is None:
            made.setdefault((account, fold(name)), name)
    new = [(new_id(), account, name, uses[account, name].actor) for (account, _), name in made.items()]
    for row in await labels.add(tx, new):
        use = uses[row["account_id"], row["name"]]
        told(tx, row, use.actor, use.cause)
    return {(account, name): means or made.get((account, fold(name)), name) for (account, name), means in found.items()}


async def keys(tx: Tx, account_id: str, names: Iterable[str], *, used_by: str | None = None) -> list[str]:
    """The keys of what these names mean, each once, in order. ``used_by``: who puts them on something."""
    given = list(names)
    uses = [Use(account_id, name, used_by) for name in given] if used_by else []
    found = await take(tx, uses, ((account_id, name) for name in given))
    return list(dict.fromkeys(found[account_id, name] for name in given))


def told(tx: Tx, row: Row, actor: str, cause: Envelope | None = None, *, deleted: bool = False) -> None:
    """Tell of a label as it is now."""
    tx.emit(
        LabelChanged(label=labels.state_of(row), deleted=deleted),
        account=row["account_id"],
        entity=row["id"],
        actor=actor,
        sequence=row["version"],
        cause=cause,
    )


async def merge(tx: Tx, row: Row, into: Row, actor: str) -> Row:
    """One label becomes another one: its names, views and segments at once, what has it in batches."""
    account = row["account_id"]
    row = await labels.write(tx, row, actor, state="merging", into_key=into["key"])
    await labels.follow(tx, account, row["key"], into["key"])
    for segment in await segments.all_of(tx, account):
        after = with_values(segment["filter"], LABEL_FIELDS, {row["key"]: into["key"]})
        if after != segment["filter"]:
            await segments.rewrite(tx, account, segment["id"], after)
    told(tx, row, actor)
    await _begin(tx, row, actor)
    return row


async def delete(tx: Tx, row: Row, actor: str) -> Row:
    """A label goes from the catalogue at once, from what has it in batches."""
    row = await labels.write(tx, row, actor, state="deleting", into_key=None)
    told(tx, row, actor, deleted=True)
    await _begin(tx, row, actor)
    return row


async def _begin(tx: Tx, row: Row, actor: str) -> None:
    await timers.schedule(tx, LABELS, row["id"], now(), {"actor": actor}, account_id=row["account_id"])


async def on_labels(due: Sequence[DueTimer], tx: Tx) -> None:
    """The next batch of each label that is merged or deleted, with an event for every conversation and contact."""
    for timer in due:
        account, actor = timer.account_id, timer.payload["actor"]
        row = await labels.read(tx, account, timer.key)
        if row is None or row["state"] not in {"merging", "deleting"}:
            continue
        # The row is locked by now: nobody is just putting it on, and what was put on is there to be seen.
        if await _conversations(tx, row, actor) or await _contacts(tx, row, actor):
            soon = now() - timedelta(seconds=1)
            await timers.schedule(tx, LABELS, timer.key, soon, timer.payload, account_id=account)
        elif row["state"] == "deleting":
            await labels.drop(tx, row)
        else:
            await labels.write(tx, row, actor, state="merged")


async def _conversations(tx: Tx, row: Row, actor: str) -> bool:
    account = row["account_id"]
    ids = await labels.conversations_having(tx, account, row["key"], BATCH)
    changes = Changes(await store.conversations.lock(tx, ((account, id_) for id_ in ids)))
    moment = now()
    for conversation in list(changes.conversations.values()):
        change = properties.change_labels(conversation, _instead(row), (row["key"],), moment)
        changes.apply(_for_all(change, "merge" if row["into_key"] else "deletion"), actor=actor)
    await changes.save(tx)
    return bool(ids)


async def _contacts(tx: Tx, row: Row, actor: str) -> bool:
    account = row["account_id"]
    ids = await labels.contacts_having(tx, account, row["key"], BATCH)
    held = [profiles.person_of(found) for found in await profiles.locked(tx, account, ids)]
    edits = [edited for person in held if (edited := profile.label(person, _instead(row), (row["key"],))).changed]
    await profiles.update(tx, [edited.person for edited in edits])
    for edited in edits:
        person = edited.person
        data = ContactUpdated(contact=person.snapshot, profile=person.profile, changed=edited.changed)
        tx.emit(data, account=account, entity=person.id, actor=actor, sequence=person.sequence)
    return bool(ids)


def _instead(row: Row) -> tuple[str, ...]:
    return (row["into_key"],) if row["into_key"] else ()


def _for_all(change: Change, cause: Any) -> Change:
    events = (
        event.model_copy(update={"cause": cause}) if isinstance(event, LabelsChanged) else event
        for event in change.events
    )
    return replace(change, events=tuple(events))
