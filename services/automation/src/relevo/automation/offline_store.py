"""SQL of the answers while nobody is there: who is, and when a conversation had its answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from relevo.automation.domain.offline import QUIET, Attendance, Group, Question
from relevo.chassis.database import Tx

_KEEP = text("""
    insert into agents_there as a (account_id, agent_id, there, gone_since, back_at, sequence)
    select n.account_id, n.agent_id, n.there,
           -- Who was not there already, and has not been in between, has not gone again.
           case when n.there then null else coalesce(n.gone_since, b.gone_since, n.since) end, n.back_at, n.sequence
    from unnest(cast(:accounts as uuid[]), cast(:agents as uuid[]), cast(:there as boolean[]),
                cast(:gone as timestamptz[]), cast(:since as timestamptz[]), cast(:next as timestamptz[]),
                cast(:sequences as bigint[]))
         as n (account_id, agent_id, there, gone_since, since, back_at, sequence)
    left join agents_there b on b.account_id = n.account_id and b.agent_id = n.agent_id
    order by n.agent_id
    on conflict (agent_id) do update set
        there = excluded.there, gone_since = excluded.gone_since, back_at = excluded.back_at,
        sequence = excluded.sequence
        where excluded.sequence > a.sequence
""")
# Who works where is the directory's. Of whom presence never told, nothing is known: they never were there.
_ATTENDANCE = text("""
    select g.n, coalesce(bool_or(p.there), false) as somebody, max(p.gone_since) as gone_since,
           min(p.back_at) filter (where p.back_at > :now) as back_at
    from unnest(cast(:accounts as text[]), cast(:inboxes as text[]), cast(:teams as text[]), cast(:holders as text[]),
                cast(:only as boolean[])) with ordinality as g (account_id, inbox_id, team_id, holder_id, alone, n)
    left join directory d on d.account_id = g.account_id and d.kind = 'agent' and not d.deleted
        and cast(d.state ->> 'active' as boolean)
        and (d.id = g.holder_id or (
            not g.alone
            and (coalesce(jsonb_typeof(d.state -> 'inbox_ids'), 'null') = 'null' or d.state -> 'inbox_ids' ? g.inbox_id)
            and (g.team_id is null or d.state -> 'team_ids' ? g.team_id)))
    left join agents_there p on p.agent_id = cast(d.id as uuid) and p.account_id = cast(d.account_id as uuid)
    group by g.n order by g.n
""")
# In the order of the primary key, so that two batches never wait for each other in a circle.
_CLAIM = text("""
    insert into offline_answered as a (account_id, conversation_id, answered_at)
    select account_id, conversation_id, :now
    from unnest(cast(:accounts as uuid[]), cast(:conversations as uuid[]), cast(:gone as timestamptz[]))
         as n (account_id, conversation_id, gone_since)
    where not exists (
        select from offline_answered b
        where b.account_id = n.account_id and b.conversation_id = n.conversation_id
          and (b.answered_at > cast(:now as timestamptz) - cast(:quiet as interval)
               or b.answered_at >= coalesce(n.gone_since, '-infinity')))
    order by account_id, conversation_id
    on conflict (account_id, conversation_id) do update set answered_at = excluded.answered_at
    returning cast(conversation_id as text)
""")


@dataclass(frozen=True, slots=True)
class Seen:
    """What presence last told of an agent. ``gone_since``: when they ceased to be there, if these tidings tell."""

    account_id: str
    agent_id: str
    there: bool
    gone_since: datetime | None
    since: datetime
    back_at: datetime | None
    sequence: int


async def keep(tx: Tx, seen: Iterable[Seen]) -> None:
    """Keep who is there (each agent once); older tidings never replace newer ones."""
    rows = list(seen)
    await tx.execute(
        _KEEP,
        {
            "accounts": [one.account_id for one in rows],
            "agents": [one.agent_id for one in rows],
            "there": [one.there for one in rows],
            "gone": [one.gone_since for one in rows],
            "since": [one.since for one in rows],
            "next": [one.back_at for one in rows],
            "sequences": [one.sequence for one in rows],
        },
    )


async def attendance(tx: Tx, groups: Iterable[Group], now: datetime) -> Mapping[Group, Attendance]:
    """Whether anybody of each group is there."""
    asked = list(dict.fromkeys(groups))
    rows = await tx.execute(
        _ATTENDANCE,
        {
            "accounts": [group.account_id for group in asked],
            "inboxes": [group.inbox_id for group in asked],
            "teams": [group.team_id for group in asked],
            "holders": [group.holder_id for group in asked],
            "only": [group.only for group in asked],
            "now": now,
        },
    )
    found = [Attendance(row.somebody, row.gone_since, row.back_at) for row in rows]
    return dict(zip(asked, found, strict=True))


async def claim(tx: Tx, questions: Sequence[tuple[Question, Attendance]], now: datetime) -> set[str]:
    """The conversations (one question each) that had no answer since somebody was last there, which now have had it."""
    rows = await tx.execute(
        _CLAIM,
        {
            "accounts": [question.setting.account_id for question, _ in questions],
            "conversations": [question.conversation.id for question, _ in questions],
            "gone": [found.gone_since for _, found in questions],
            "now": now,
            "quiet": QUIET,
        },
    )
    return set(rows.scalars())
