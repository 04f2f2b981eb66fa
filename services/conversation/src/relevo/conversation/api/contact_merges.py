"""Two contacts that are one person: merged, and told apart again."""

from collections.abc import Collection
from dataclasses import replace
from typing import Annotated
from uuid import UUID

import psycopg.errors
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.conversation import ContactMerged, ContactRestored
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ContactSnapshot
from relevo.conversation import labels
from relevo.conversation.api.common import Body, apply_to_all, can_be_undone
from relevo.conversation.api.contacts import ContactOut, ContactReader, answered, no_contact, write
from relevo.conversation.api.owners import tell_conversations
from relevo.conversation.domain.merge import hand_over, merged, restored, unmerged
from relevo.conversation.domain.profile import Edited
from relevo.conversation.store import merges, profiles
from relevo.conversation.store.rows import Row

router = APIRouter(tags=["contacts"])

Merger = Annotated[Principal, Depends(require(Permission.CONTACTS_MERGE))]


class MergeWith(Body):
    """The contact that becomes part of the one in the address, and is gone then."""

    other_id: UUID


class ContactMerge(BaseModel):
    """A merge, and the contact that stayed."""

    id: str
    base_id: str
    other_id: str
    other_name: str
    author: str
    author_name: str
    merged_at: Time
    undoable_until: Time


class Merged(BaseModel):
    """What came of a merge."""

    merge: ContactMerge
    contact: ContactOut


class Unmerged(BaseModel):
    """What came of undoing a merge: the contact that had stayed, and the one who is there again."""

    contact: ContactOut
    restored: ContactOut


class ContactMerges(BaseModel):
    """Merges, the newest first."""

    items: list[ContactMerge]


@router.get("/contacts/{contact_id}/merges")
async def list_contact_merges(who: ContactReader, db: Db, contact_id: UUID) -> ContactMerges:
    """The merges into a contact that can still be undone, the newest first."""
    async with db.begin() as tx:
        if await profiles.read(tx, who.account_id, str(contact_id)) is None:
            raise no_contact()
        rows = await merges.undoable(tx, who.account_id, str(contact_id), now())
    return ContactMerges(items=[_shown(row) for row in rows])


@router.post("/contacts/{contact_id}/merge", status_code=201)
async def merge_contacts(
    *, who: Merger, db: Db, once: Idempotency, response: Response, contact_id: UUID, body: MergeWith
) -> Merged:
    """Make another contact part of this one: what this one has stays, the other fills what it lacks.

    The other's channels, conversations, notes and labels become this one's. It can be undone for thirty days.
    """
    account, moment = who.account_id, now()
    if body.other_id == contact_id:
        raise Problem(
            422,
            "merge_with_itself",
            es="Un contacto no se combina consigo mismo: elige otro.",
            en="A contact is not merged with itself: choose another one.",
            errors=(FieldError("/other_id", es="Elige otro contacto.", en="Choose another contact."),),
        )
    async with db.begin() as tx:
        await once.start(tx)
        rows = await _locked(tx, account, str(contact_id), str(body.other_id))
        base, other = (profiles.person_of(rows[str(id_)]) for id_ in (contact_id, body.other_id))
        edited = merged(base, other)
        await _tell_owner(tx, who, edited)
        channels = await merges.take_channels(tx, account, other.id, base.id)
        moved = await _hand_over(
            tx, who, await merges.conversations_of(tx, account, other.id), edited.person.snapshot, undo=False
        )
        record = {
            "id": new_id(),
            "actor": who.actor,
            "actor_name": who.name,
            "other_active_at": rows[other.id]["last_activity_at"],
            "channels": channels,
            "conversations": moved,
            "notes": await merges.move(tx, account, "notes", from_id=other.id, to_id=base.id),
            "messages": await merges.move(tx, account, "messages", from_id=other.id, to_id=base.id),
            "merged_at": moment,
        }
        await profiles.delete(tx, account, other.id)
        await merges.active(tx, account, base.id, record["other_active_at"])
        await write(tx, who, edited)
        tx.emit(
            ContactMerged(contact_id=other.id, into_id=base.id, merge_id=record["id"]),
            account=account,
            entity=other.id,
            actor=who.actor,
            sequence=other.sequence + 1,
        )
        merge = await merges.add(tx, account, base, other, record)
        times = [row["last_activity_at"] for row in rows.values() if row["last_activity_at"]]
        contact = answered(response, edited.person, max(times, default=None))
        return await once.finish(tx, Merged(merge=_shown(merge), contact=contact))


@router.post("/contacts/merges/{merge_id}/undo")
async def undo_contact_merge(*, who: Merger, db: Db, once: Idempotency, response: Response, merge_id: UUID) -> Unmerged:
    """Tell two contacts apart again: who had become part of another one is there as before, with what was theirs.

    What they wrote since over their own channels goes with them; what people have edited since stays as edited.
    """
    account = who.account_id
    try:
        async with db.begin() as tx:
            await once.start(tx)
            merge = can_be_undone(await merges.read(tx, account, str(merge_id)), now())
            row = await profiles.read(tx, account, merge["base_id"], lock="delete")
            if row is None:
                raise Problem(
                    409,
                    "merge_not_last",
                    es="El contacto que quedó ya no existe o se combinó con otro: deshaz antes esa combinación.",
                    en="The contact that stayed is gone, or was merged with another one: undo that merge first.",
                )
            base = profiles.person_of(row)
            before = merges.person_within(merge["base"])
            other = restored(merges.person_within(merge["other"], merge["other_created_at"]))
            edited = unmerged(base, before, other)
            # A label of theirs may be gone or another's by now: it is again what it was called.
            other = replace(other, labels=tuple(await labels.keys(tx, account, other.labels, used_by=who.actor)))
            back = await merges.conversations_to_give_back(tx, account, merge)
            await _tell_owner(tx, who, edited, but=back)
            await write(tx, who, edited)
            await profiles.insert(tx, [other], merge["other_created_at"])
            await merges.active(tx, account, other.id, merge["other_active_at"])
            await merges.give_channels_back(tx, account, base.id, other.id, merge["channels"])
            await merges.move(tx, account, "notes", from_id=base.id, to_id=other.id, ids=merge["notes"])
            await merges.move(tx, account, "messages", from_id=base.id, to_id=other.id, ids=merge["messages"])
            tx.emit(
                ContactRestored(contact=other.snapshot, profile=other.profile, from_id=base.id, merge_id=str(merge_id)),
                account=account,
                entity=other.id,
                actor=who.actor,
                sequence=other.sequence,
            )
            await _hand_over(tx, who, back, other.snapshot, undo=True)
            await merges.undone(tx, account, str(merge_id))
            again = answered(Response(), other, merge["other_active_at"])
            contact = answered(response, edited.person, row["last_activity_at"])
            return await once.finish(tx, Unmerged(contact=contact, restored=again))
    except psycopg.errors.UniqueViolation:
        raise Problem(
            409,
            "contact_exists",
            es="Otro contacto tiene ahora el correo, el teléfono o el identificador que había que devolver: quítaselo antes.",
            en="Another contact has the e-mail, phone or identifier by now that would go back: take it from them first.",
        ) from None


async def _locked(tx: Tx, account_id: str, *contact_ids: str) -> dict[str, Row]:
    # In the order of their ids, as everybody locks several; nothing new can refer to them until the transaction ends.
    found = {}
    for id_ in sorted(contact_ids):
        row = await profiles.read(tx, account_id, id_, lock="delete")
        if row is None:
            raise no_contact()
        found[id_] = row
    return found


async def _hand_over(tx: Tx, who: Principal, ids: list[str], contact: ContactSnapshot, *, undo: bool) -> list[str]:
    await apply_to_all(tx, who, ids, lambda one, moment: hand_over(one, contact, moment, undo=undo))
    await merges.hand_over(tx, who.account_id, ids, contact.id)
    return sorted(ids)


async def _tell_owner(tx: Tx, who: Principal, edited: Edited, but: Collection[str] = ()) -> None:
    if {"owner_id", "owner_team_id"} & set(edited.changed):
        await tell_conversations(tx, who, edited.person.snapshot, but=but)


def _shown(row: Row) -> ContactMerge:
    return ContactMerge(
        id=row["id"],
        base_id=row["base_id"],
        other_id=row["other_id"],
        other_name=row["other"]["name"],
        author=row["actor"],
        author_name=row["actor_name"],
        merged_at=row["merged_at"],
        undoable_until=row["merged_at"] + merges.UNDOABLE,
    )
