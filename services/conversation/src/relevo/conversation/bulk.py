"""Acts on many conversations, a batch a transaction: what a crash leaves undone is done by whoever runs next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from relevo.chassis import directory, timers
from relevo.chassis.auth import viewer_by_now
from relevo.chassis.database import Tx
from relevo.chassis.timers import DueTimer
from relevo.contracts.base import new_id, now
from relevo.conversation import commanded, labels, store
from relevo.conversation.changes import Changes
from relevo.conversation.domain import bulk, joining, macros, snooze
from relevo.conversation.domain.state import Change, Conversation, Refused, Writing
from relevo.conversation.store import bulk as jobs
from relevo.kernel.access import ConversationFacts, may

BULK: Final = "bulk"
"""The timers of jobs that run, by job id: each does one batch and sets the next."""
BATCH: Final = 100


async def on_bulk(due: Sequence[DueTimer], tx: Tx) -> None:
    """The next batch of each job. A conversation that is not there for who asked any more, or refuses, is told of.

    Who asked acts with the rights that they have by now; the job of somebody who is gone is cancelled.
    Of a macro each act is done that the conversation allows; the first that it refuses is told.
    """
    for timer in due:
        job = await jobs.take(tx, timer.account_id, timer.key, BATCH)
        if job is None:
            continue
        account = timer.account_id
        viewer = await viewer_by_now(tx, account, job["actor"])
        if viewer is None:
            await jobs.cancel(tx, account, job["actor"], timer.key)
            continue
        act = macros.KEPT.validate_python(job["act"])
        known = commanded.Known(tx)
        given = act.acts if isinstance(act, macros.RunningMacro) else [act]
        parts = [await _keyed(tx, account, job["actor"], part) for part in given]
        doing = _Doing(account, job["actor"], await _name(tx, account, viewer.agent_id), viewer.agent_id, now(), known)
        needed = {macros.permission_of(part) for part in parts}
        changes = Changes(await store.conversations.lock(tx, ((account, id_) for id_ in job["next"])))
        refusals, changed = [], 0
        for id_ in job["next"]:
            conversation = changes.conversations.get((account, id_))
            facts = conversation and ConversationFacts.of(account, conversation.state.access)
            if not facts or not all(may(viewer, permission, facts) for permission in needed):
                refusals.append({"conversation_id": id_, "code": "conversation_not_found"})
                continue
            did, refused = await _do(tx, changes, id_, parts, doing)
            changed += did
            if refused:
                refusals.append({"conversation_id": id_, "code": refused})
        await changes.save(tx)
        await jobs.move(tx, account, timer.key, done=len(job["next"]), changed=changed, refusals=refusals)
        if job["done"] + len(job["next"]) < job["total"]:
            await timers.schedule(tx, BULK, timer.key, doing.moment - timedelta(seconds=1), account_id=account)


@dataclass(frozen=True, slots=True)
class _Doing:
    """Who does it, and when, and what is known of their account."""

    account_id: str
    actor: str
    name: str
    agent_id: str | None
    moment: datetime
    known: commanded.Known


async def _do(tx: Tx, changes: Changes, id_: str, parts: Sequence[Any], doing: _Doing) -> tuple[bool, str | None]:
    """Whether it made a difference to one conversation, and the code of the first act that it refused."""
    changed, refused = False, None
    for part in parts:
        conversation = changes.conversations[doing.account_id, id_]
        try:
            if conversation.state.merged_into is not None:
                raise joining.over()
            if isinstance(part, macros.Give):
                command = macros.given_to(part, conversation.state, doing.agent_id)
                tx.emit(command, account=doing.account_id, entity=id_, actor=doing.actor)
                changed = True
                continue
            change = await _change(conversation, part, doing)
        except Refused as error:
            refused = refused or error.code
            continue
        changed = changed or bool(change.events)
        changes.apply(change, actor=doing.actor)
    return changed, refused


async def _change(conversation: Conversation, part: Any, doing: _Doing) -> Change:
    match part:
        case macros.Say():
            person = doing.actor.startswith("agent:")
            said = Writing(new_id(), part.text, doing.actor, doing.name, human=person)
            mentions = part.mentions if part.private else None
            return await commanded.write(doing.known, conversation, said, doing.moment, mentions=mentions)
        case macros.SetValues():
            return await commanded.attribute(doing.known, conversation, part.attributes, doing.moment)
        case macros.Delay():
            return snooze.snooze(conversation, part.until(doing.moment), doing.moment)
        case _:
            return bulk.apply(part, conversation, doing.moment)


async def _keyed(tx: Tx, account_id: str, actor: str, part: Any) -> Any:
    if not isinstance(part, bulk.Relabel):
        return part
    add = await labels.keys(tx, account_id, part.add, used_by=actor)
    return part.model_copy(update={"add": add, "remove": await labels.keys(tx, account_id, part.remove)})


async def _name(tx: Tx, account_id: str, agent_id: str | None) -> str:
    if agent_id is None:
        return ""
    return next((agent.name for agent in await directory.agents(tx, account_id) if agent.id == agent_id), "")
