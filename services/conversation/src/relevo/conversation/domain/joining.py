"""Two conversations of one contact become one, and are told apart again.

The base goes on under its own id. The other one is over: resolved and archived, with where it went. No message moves and
none gets another number: what was said in the other is shown where the base tells of the merge, in its own order.
"""

from dataclasses import dataclass
from datetime import datetime

from relevo.contracts.conversation import (
    ConversationAbsorbed,
    ConversationEvent,
    ConversationMerged,
    ConversationSplit,
    ConversationUnmerged,
)
from relevo.conversation.domain import life
from relevo.conversation.domain.participants import MAX_PARTICIPANTS, change_participants
from relevo.conversation.domain.properties import MAX_LABELS, change_labels
from relevo.conversation.domain.state import Change, Conversation, Refused, following


@dataclass(frozen=True, slots=True)
class Join:
    """What a merge changed, so that it can be undone.

    ``place``: the number of the base's event that tells of it. ``reopen``, ``unarchive``: the other was unresolved, or not
    archived. ``labels`` and ``participant_ids`` came to the base by it. The waiting times are those before it.
    """

    id: str
    base_id: str
    other_id: str
    place: int
    reopen: bool
    unarchive: bool
    labels: tuple[str, ...]
    participant_ids: tuple[str, ...]
    base_waiting: datetime | None
    other_waiting: datetime | None


def join(base: Conversation, other: Conversation, merge_id: str, now: datetime) -> tuple[Join, Change, Change]:
    """Make the other part of the base: what is kept, and what happens to base and other.

    Who held or took part in the other takes part in the base; it gets the other's labels, as many as it holds. Raises
    Refused when they are not one contact's, the base is put away, or somebody would wait in a closed one.
    """
    b, o = base.state, other.state
    if b.contact.id != o.contact.id:
        raise Refused(
            "other_contact",
            es="Son de contactos distintos: combina antes los contactos.",
            en="They are of different contacts: merge the contacts first.",
            pointer="/other_id",
        )
    if b.archived:
        raise Refused(
            "conversation_archived",
            es="La conversación está archivada: recupérala primero.",
            en="The conversation is archived: unarchive it first.",
        )
    if other.unresolved and not base.unresolved:
        raise Refused(
            "base_is_resolved",
            es="La otra está abierta y esta cerrada: combínalas al revés o reabre esta.",
            en="The other one is open and this one is closed: merge them the other way round, or reopen this one.",
        )
    events: list[ConversationEvent] = []
    gone = other
    if not o.archived:
        away = life.archive(other, now)
        gone, events = away.conversation, list(away.events)
    before = gone.state
    gone = following(gone, merged_into=b.id)
    events.append(ConversationMerged(conversation=gone.state, before=before.access, merge_id=merge_id))

    people = [one for one in (o.assignee_id, *o.participant_ids) if one and one != b.assignee_id]
    people = [one for one in dict.fromkeys(people) if one not in b.participant_ids]
    people = people[: max(MAX_PARTICIPANTS - len(b.participant_ids), 0)]
    labels = [one for one in o.labels if one not in b.labels][: max(MAX_LABELS - len(b.labels), 0)]
    joined = change_participants(base, people, (), now)
    labelled = change_labels(joined.conversation, labels, (), now)
    kept, told = labelled.conversation, [*joined.events, *labelled.events]
    waiting = [at for at in (b.waiting_since, o.waiting_since) if at is not None]
    access = kept.state.access
    kept = following(
        kept, waiting_since=min(waiting, default=None), last_activity_at=max(b.last_activity_at, o.last_activity_at)
    )
    absorbed = ConversationAbsorbed(conversation=kept.state, before=access, other_id=o.id, merge_id=merge_id)
    record = Join(
        id=merge_id,
        base_id=b.id,
        other_id=o.id,
        place=kept.state.sequence,
        reopen=other.unresolved,
        unarchive=not o.archived,
        labels=tuple(labels),
        participant_ids=tuple(people),
        base_waiting=b.waiting_since,
        other_waiting=o.waiting_since,
    )
    return record, Change(kept, now, (*told, absorbed)), Change(gone, now, tuple(events))


def split(base: Conversation, other: Conversation, record: Join, now: datetime) -> tuple[Change, Change]:
    """Undo a merge: what happens to base and other. What came into the base since stays there.

    The other is open again if it was, a new cycle of it; whoever still waits since before the merge waits where they did.
    """
    b = base.state
    joined = [at for at in (record.base_waiting, record.other_waiting) if at is not None]
    unanswered = base.unresolved and b.waiting_since is not None and b.waiting_since == min(joined, default=None)

    taken = change_participants(base, (), record.participant_ids, now)
    labelled = change_labels(taken.conversation, (), record.labels, now)
    kept, told = labelled.conversation, [*taken.events, *labelled.events]
    access = kept.state.access
    kept = following(kept, waiting_since=record.base_waiting if unanswered else b.waiting_since)
    apart = ConversationSplit(conversation=kept.state, before=access, other_id=record.other_id, merge_id=record.id)

    events: list[ConversationEvent] = []
    back = other
    if record.unarchive:
        unarchived = life.unarchive(back, now)
        back, events = unarchived.conversation, [*events, *unarchived.events]
    if record.reopen:
        reopened = life.reopen(back, now)
        back, events = reopened.conversation, [*events, *reopened.events]
    before = back.state
    waits = record.other_waiting if record.reopen and unanswered else None
    back = following(back, merged_into=None, waiting_since=waits)
    events.append(ConversationUnmerged(conversation=back.state, before=before.access, from_id=b.id, merge_id=record.id))
    return Change(kept, now, (*told, apart)), Change(back, now, tuple(events))


def over() -> Refused:
    """What anybody is told who acts on a conversation that has become part of another one."""
    return Refused(
        "conversation_merged",
        es="Esta conversación forma parte de otra: sigue en aquella o deshaz la combinación.",
        en="This conversation is part of another one: go on in that one, or undo the merge.",
    )
