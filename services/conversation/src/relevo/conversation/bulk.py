"""Acts on many conversations, a batch a transaction: what a crash leaves undone is done by whoever runs next."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from pydantic import TypeAdapter

from relevo.chassis import timers
from relevo.chassis.database import Tx
from relevo.chassis.timers import DueTimer
from relevo.contracts.base import now
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.conversation import labels, store
from relevo.conversation.changes import Changes
from relevo.conversation.domain import bulk, joining
from relevo.conversation.domain.state import Refused
from relevo.conversation.store import bulk as jobs
from relevo.kernel.access import ConversationFacts, Viewer, may

BULK: Final = "bulk"
"""The timers of jobs that run, by job id: each does one batch and sets the next."""
BATCH: Final = 100

_ACT: Final[TypeAdapter[bulk.BulkAct]] = TypeAdapter(bulk.BulkAct)


async def on_bulk(due: Sequence[DueTimer], tx: Tx) -> None:
    """The next batch of each job. A conversation that is not there for who asked any more, or refuses, is told of."""
    for timer in due:
        job = await jobs.take(tx, timer.account_id, timer.key, BATCH)
        if job is None:
            continue
        act, viewer = _ACT.validate_python(job["act"]), _viewer(job["viewer"])
        if isinstance(act, bulk.Relabel):
            add = await labels.keys(tx, timer.account_id, act.add, used_by=job["actor"])
            remove = await labels.keys(tx, timer.account_id, act.remove)
            act = act.model_copy(update={"add": add, "remove": remove})
        needed = bulk.permission_of(act)
        changes = Changes(await store.conversations.lock(tx, ((timer.account_id, id_) for id_ in job["next"])))
        refusals, changed, moment = [], 0, now()
        for id_ in job["next"]:
            conversation = changes.conversations.get((timer.account_id, id_))
            if conversation is None or not may(
                viewer, needed, ConversationFacts.of(conversation.state.account_id, conversation.state.access)
            ):
                refusals.append({"conversation_id": id_, "code": "conversation_not_found"})
                continue
            try:
                if conversation.state.merged_into is not None:
                    raise joining.over()
                change = bulk.apply(act, conversation, moment)
            except Refused as refused:
                refusals.append({"conversation_id": id_, "code": refused.code})
                continue
            changed += bool(change.events)
            changes.apply(change, actor=job["actor"])
        await changes.save(tx)
        await jobs.move(tx, timer.account_id, timer.key, done=len(job["next"]), changed=changed, refusals=refusals)
        if job["done"] + len(job["next"]) < job["total"]:
            await timers.schedule(tx, BULK, timer.key, moment - timedelta(seconds=1), account_id=timer.account_id)


def kept(viewer: Viewer) -> dict[str, Any]:
    """A viewer as a job keeps it."""
    return {
        "account_id": viewer.account_id,
        "agent_id": viewer.agent_id,
        "permissions": sorted(viewer.permissions),
        "scope": viewer.scope,
        "team_ids": sorted(viewer.team_ids),
        "inbox_ids": None if viewer.inbox_ids is None else sorted(viewer.inbox_ids),
    }


def _viewer(found: dict[str, Any]) -> Viewer:
    inboxes = found["inbox_ids"]
    return Viewer(
        account_id=found["account_id"],
        agent_id=found["agent_id"],
        permissions=frozenset(Permission(one) for one in found["permissions"]),
        scope=ConversationScope(found["scope"]),
        team_ids=frozenset(found["team_ids"]),
        inbox_ids=None if inboxes is None else frozenset(inboxes),
    )
