"""Bus: batches in, one transaction, a fixed number of statements whatever the batch holds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog

from relevo.chassis.crash import crash_point
from relevo.chassis.database import Tx
from relevo.chassis.received import Received
from relevo.contracts.assignment import AssignmentEvent
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import (
    AskSurvey,
    ChangeLabels,
    Remind,
    ResolveConversation,
    ReviewConversations,
    SendMessage,
    SetAttributes,
    SetPriority,
    SetStatus,
)
from relevo.contracts.ingest import MessageReceived, StatusReceived
from relevo.contracts.snapshots import ContactSnapshot, MessageSnapshot
from relevo.conversation import bots, commanded, labels, metrics, reviews, store
from relevo.conversation.changes import Changes
from relevo.conversation.domain import amending, assignee, joining, life, properties, surveys, writing
from relevo.conversation.domain import contacts as people
from relevo.conversation.domain.bots import goes_first
from relevo.conversation.domain.contacts import Sighting
from relevo.conversation.domain.state import Incoming, Refused
from relevo.conversation.domain.surveys import Survey
from relevo.conversation.reminders import on_remind
from relevo.conversation.store.contacts import Found
from relevo.conversation.store.rows import Key, LostRace

log = structlog.get_logger("relevo.conversation")

_Channel = tuple[str, str]


async def on_ingest(batch: Sequence[Received], tx: Tx) -> None:
    """Customers' messages and delivery reports join their conversations, in the order accepted."""
    events = [r for r in batch if r.is_a(MessageReceived) or r.is_a(StatusReceived)]
    if not events:
        return
    moment = now()
    senders: dict[_Channel, tuple[Sighting, Received]] = {}
    reported: set[Key] = set()
    for received in events:
        data = received.data
        if isinstance(data, StatusReceived):
            if _is_uuid(data.message_id):
                reported.add((data.inbox.account_id, str(UUID(data.message_id))))
            continue
        channel = (data.inbox.id, data.sender.id)
        if channel not in senders:
            senders[channel] = (people.sighting(data.inbox, data.sender_key, data.sender), received)

    sightings = [seen for seen, _ in senders.values()]
    found = dict(zip(senders, await store.contacts.find_senders(tx, sightings), strict=True))
    contacts, created = await _contacts(tx, sightings, found)
    crash_point("conversation.after_contacts")

    current: dict[_Channel, Key] = {
        channel: (senders[channel][0].account_id, known.conversation_id)
        for channel, known in found.items()
        if known.conversation_id
    }
    changes = Changes(await store.conversations.lock(tx, current.values(), reported))
    sent = await store.messages.find(tx, reported)
    for channel, (seen, received) in senders.items():
        if (contact := contacts[channel]).id in created:
            created.discard(contact.id)
            at = min(received.data.occurred_at, moment)
            changes.contact_created(seen.account_id, contact, at, received.envelope)

    with_bot = await bots.attached(tx, [first.data.inbox for _, first in senders.values()])
    asked = await _asked(tx, events, changes, current)
    answers: dict[_Channel, Survey] = {}
    opening = Counter(
        first.data.inbox.account_id
        for channel, (_, first) in senders.items()
        if not contacts[channel].blocked
        and life.destination(changes.conversations.get(current.get(channel, ("", ""))), first.data.inbox.reopen)
        == "open"
    )
    numbers = {account: iter(given) for account, given in (await store.conversations.new_numbers(tx, opening)).items()}

    for received in events:
        data = received.data
        if isinstance(data, StatusReceived):
            _report(changes, sent, data, received)
            continue
        channel = (data.inbox.id, data.sender.id)
        contact = contacts[channel]
        actor = f"contact:{contact.id}"
        incoming = Incoming(
            id=new_id(),
            text=data.content.text,
            external_id=data.external_id,
            occurred_at=data.occurred_at,
            author_name=data.sender.name or contact.name,
            reply_to=data.reply_to,
            attachments=data.content.attachments,
            human=not data.automatic,
        )
        if contact.blocked:
            changes.withhold(data.inbox.account_id, contact, _withheld(incoming, contact))
            metrics.WITHHELD.inc()
            continue
        conversation = changes.conversations.get(current.get(channel, ("", "")))
        survey, rating = asked.get(channel), _rating(data)
        if conversation and survey and rating and surveys.takes_answer(conversation, survey, moment):
            told, answered = surveys.answer_in_channel(conversation, incoming, survey, rating, moment)
            asked[channel] = answers[channel] = answered
            changes.apply(told, actor=actor, cause=received.envelope)
            continue
        to_bot = goes_first(data.inbox, contact, attached=data.inbox.id in with_bot, human=incoming.human)
        if conversation is None or life.destination(conversation, data.inbox.reopen) == "open":
            begun = life.begin(
                id=new_id(),
                number=next(numbers[data.inbox.account_id]),
                inbox=data.inbox,
                contact=contact,
                source_id=data.sender.id,
                recipient_key=data.sender_key,
                occurred_at=data.occurred_at,
                now=moment,
                subject=data.content.subject,
                language=data.sender.language,
                to_bot=to_bot,
            )
            changes.apply(begun, actor=actor, cause=received.envelope)
            conversation = begun.conversation
            current[channel] = (data.inbox.account_id, conversation.state.id)
        changes.apply(life.receive(conversation, incoming, moment, to_bot=to_bot), actor=actor, cause=received.envelope)
    await changes.save(tx)
    await store.surveys.answered(tx, answers.values())
    await store.profiles.active(tx, {(s.account_id, contacts[s.channel].id): moment for s in sightings})


async def on_assignment(batch: Sequence[Received], tx: Tx) -> None:
    """Assignment's decisions become part of the story; older ones are dropped."""
    events = [r for r in batch if isinstance(r.data, AssignmentEvent)]
    changes = Changes(
        await store.conversations.lock(tx, ((r.envelope.account, r.data.conversation_id) for r in events))
    )
    for received in events:
        data: AssignmentEvent = received.data
        conversation = changes.conversations.get((received.envelope.account, data.conversation_id))
        if conversation is None:
            _ignored("unknown_conversation", received)
            continue
        folded = assignee.fold_assignment(
            conversation,
            version=data.version,
            assignee_id=data.assignee_id,
            team_id=data.team_id,
            reason=data.reason.code,
            mode=data.mode,
            at=received.envelope.time,
        )
        changes.apply(folded, actor=received.envelope.actor, cause=received.envelope)
    await changes.save(tx)


async def on_commands(batch: Sequence[Received], tx: Tx) -> None:
    """What other services ask for, each command once; one that the state does not allow is ignored and counted."""
    fresh = await store.commands.remember(tx, ((r.envelope.account, r.envelope.id) for r in batch))
    wanted: list[Received] = []
    to_review: list[Received] = []
    for received in batch:
        if (key := (received.envelope.account, received.envelope.id)) in fresh:
            fresh.discard(key)
            (to_review if received.is_a(ReviewConversations) else wanted).append(received)
    crash_point("conversation.after_remembering_commands")
    if to_review:
        await reviews.ask(tx, to_review)
    keys = await _label_keys(tx, wanted)
    changes = Changes(
        await store.conversations.lock(tx, ((r.envelope.account, r.data.conversation_id) for r in wanted))
    )
    moment, known = now(), commanded.Known(tx)
    for received in wanted:
        data = received.data
        key = (received.envelope.account, data.conversation_id)
        conversation = changes.conversations.get(key)
        if conversation is None:
            _ignored("unknown_conversation", received)
            continue
        actor = received.envelope.actor
        try:
            if conversation.state.merged_into is not None:
                raise joining.over()
            match data:
                case ChangeLabels():
                    add, remove = ([keys[key[0], name] for name in names] for names in (data.add, data.remove))
                    change = properties.change_labels(conversation, add, remove, moment)
                case SendMessage():
                    change = await commanded.say(known, conversation, data, actor, moment)
                case Remind():
                    await on_remind(tx, changes, received)
                    continue
                case ResolveConversation():
                    change = life.resolve(conversation, moment)
                case SetPriority():
                    change = properties.set_priority(conversation, data.priority, moment)
                case SetAttributes():
                    change = await commanded.attribute(known, conversation, data.attributes, moment)
                case SetStatus():
                    change = await commanded.bring(tx, conversation, data, received.envelope.time, moment)
                case AskSurvey():
                    await commanded.survey(tx, conversation, data, actor, moment)
                    continue
                case _:
                    continue
        except Refused as refused:
            _ignored(refused.code, received)
            continue
        changes.apply(change, actor=actor, cause=received.envelope)
    await changes.save(tx)


async def _asked(
    tx: Tx, events: Sequence[Received], changes: Changes, current: Mapping[_Channel, Key]
) -> dict[_Channel, Survey]:
    """The surveys to be answered in the channel, of those whose messages may be the answer; mostly there are none."""
    rating = {
        channel: key
        for received in events
        if isinstance(data := received.data, MessageReceived)
        and (key := current.get(channel := (data.inbox.id, data.sender.id)))
        and (conversation := changes.conversations.get(key))
        and not conversation.unresolved
        and _rating(data)
    }
    found = await store.surveys.asked_in_channel(tx, rating.values()) if rating else {}
    return {channel: found[key] for channel, key in rating.items() if key in found}


def _rating(data: MessageReceived) -> int | None:
    return None if data.content.attachments else surveys.rating_of(data.content.text)


async def _label_keys(tx: Tx, commands: Sequence[Received]) -> Mapping[Key, str]:
    """What the labels of these commands mean, by account and name; those that are put on come to be."""
    changing = [one for one in commands if one.is_a(ChangeLabels)]
    if not changing:
        return {}
    uses = [
        labels.Use(one.envelope.account, name, one.envelope.actor, one.envelope)
        for one in changing
        for name in one.data.add
    ]
    return await labels.take(tx, uses, ((one.envelope.account, name) for one in changing for name in one.data.remove))


async def _contacts(
    tx: Tx, sightings: Sequence[Sighting], found: dict[_Channel, Found]
) -> tuple[dict[_Channel, ContactSnapshot], set[str]]:
    """The contact of every sender, made and linked where it was not, and the ids of those that were made."""
    matched = people.match(sightings, [found[seen.channel].contact for seen in sightings], new_id)
    contacts = {seen.channel: contact for seen, contact in zip(sightings, matched.contacts, strict=True)}
    created = await store.contacts.add_contacts(tx, matched.new, now())
    missed = {n.contact.id for n in matched.new} - created
    if missed:
        # Their e-mail or phone came to be in another transaction since we looked: it has committed, take that contact.
        again = [seen for seen in sightings if contacts[seen.channel].id in missed]
        for seen, known in zip(again, await store.contacts.find_senders(tx, again), strict=True):
            if known.contact is None:
                raise LostRace("a contact that took this e-mail or phone is not there any more")
            contacts[seen.channel] = known.contact
    links = [(seen, contacts[seen.channel]) for seen in sightings if not found[seen.channel].channel_known]
    await store.contacts.add_channels(tx, links, now())
    return contacts, created


def _report(changes: Changes, sent: dict[Key, MessageSnapshot], data: StatusReceived, received: Received) -> None:
    account_id = data.inbox.account_id
    key = (account_id, str(UUID(data.message_id))) if _is_uuid(data.message_id) else ("", "")
    message = sent.get(key)
    conversation = changes.conversations.get((account_id, message.conversation_id)) if message else None
    if message is None or conversation is None or conversation.state.inbox_id != data.inbox.id:
        # Our own id, given out only after the message was committed: nothing that could still arrive.
        _ignored("unknown_message", received)
        return
    if data.change_id is not None:
        if data.status == "failed":
            change = amending.refused(conversation, message, data.error or "", min(data.occurred_at, now()))
            changes.apply(change, actor="system", cause=received.envelope)
        return
    change = writing.fold_status(
        conversation,
        message,
        status=data.status,
        error=data.error,
        external_id=data.external_id,
        at=min(data.occurred_at, now()),
    )
    if change.message:
        sent[key] = change.message
    changes.apply(change, actor="system", cause=received.envelope)


def _withheld(incoming: Incoming, contact: ContactSnapshot) -> MessageSnapshot:
    # It is in no conversation: the store leaves that id and the sequence empty.
    return MessageSnapshot(
        id=incoming.id,
        conversation_id=contact.id,
        kind="incoming",
        sequence=0,
        text=incoming.text,
        author=f"contact:{contact.id}",
        author_name=incoming.author_name,
        external_id=incoming.external_id,
        reply_to=incoming.reply_to,
        attachments=incoming.attachments,
        occurred_at=min(incoming.occurred_at, now()),
        created_at=now(),
    )


def _ignored(reason: str, received: Received) -> None:
    metrics.IGNORED.labels(reason).inc()
    log.info("event_ignored", reason=reason, type=received.type, id=received.envelope.id)


def _is_uuid(value: str) -> bool:
    try:
        UUID(value)
    except ValueError:
        return False
    return True
