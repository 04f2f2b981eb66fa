"""Millions of facts of one account, written by set-based SQL: `python tests/load/facts.py DATABASE_URL [--conversations 800000]`.

Twelve and a half facts a conversation, over a year, of 200 agents in 20 teams and 30 inboxes of 5 channels; every second
conversation gets one of 40 labels after two minutes. The database has reporting's migrations. Prints the account's id.
"""

import argparse
from datetime import UTC, datetime
from typing import Final, LiteralString

import psycopg
from psycopg import sql

ACCOUNT: Final = "00000000-0000-7000-8000-00000000feed"
BEGIN: Final = datetime(2025, 1, 1, tzinfo=UTC)
END: Final = datetime(2026, 1, 1, tzinfo=UTC)
PER_CONVERSATION: Final = 12.5

_ID: Final[LiteralString] = (
    "cast('00000000-0000-7000-8000-' || lpad(to_hex({kind} * 1000 + {number}), 12, '0') as uuid)"
)

_FACTS: Final[LiteralString] = (
    """
insert into facts (fact_id, account_id, metric, value, business_value, at, started_at, conversation_id,
                   cause_event_id, agent_id, team_id, inbox_id, channel, labels)
select cast(lpad(to_hex(cast(extract(epoch from at) * 1000 as bigint)), 12, '0')
            || substr(md5(n || metric || part), 1, 20) as uuid),
       %(account)s, metric, value, case when business then round(value * 0.4, 6) end, at, started,
       cast(md5('conversation' || n) as uuid), cast(md5('event' || n || part) as uuid),
       case when metric in ('conversations_opened', 'messages_in') and n %% 3 = 0 then null else agent end,
       team, inbox, (array['whatsapp', 'email', 'webchat', 'telegram', 'api'])[1 + inbox_n %% 5],
       case when n %% 2 = 0 and part >= 5 then jsonb_build_array(label) else '[]' end
from (
    select n, %(begin)s + make_interval(secs => (n + 0.5) * %(step)s) as t0,
           30 + 1800 * power(abs(hashint8(n) %% 1000) / 1000.0, 3) as quick,
           """
    + _ID.format(kind="1", number="abs(hashint8(n * 7)) %% 200")
    + " as agent, "
    + _ID.format(kind="2", number="abs(hashint8(n * 7)) %% 20")
    + " as team, "
    + _ID.format(kind="3", number="abs(hashint8(n * 13)) %% 30")
    + """ as inbox, abs(hashint8(n * 13)) %% 30 as inbox_n, 'label ' || abs(hashint8(n * 17)) %% 40 as label,
           abs(hashint8(n)) %% 10 < 8 as measured
    from generate_series(%(first)s::bigint, %(last)s::bigint) as n
) as c
cross join lateral (
    values (1, 'conversations_opened', 1.0, interval '0', false),
           (2, 'messages_in', 1.0, interval '0', false),
           (3, 'wait_in_queue', round(quick / 4, 6), interval '1 minute', measured),
           (4, 'labels_added', 1.0, interval '2 minutes', false),
           (5, 'messages_out', 1.0, interval '4 minutes', false),
           (6, 'first_response', round(quick, 6), interval '4 minutes', measured),
           (7, 'reply_time', round(quick, 6), interval '4 minutes', measured),
           (8, 'messages_in', 1.0, interval '5 minutes', false),
           (9, 'messages_out', 1.0, interval '10 minutes', false),
           (10, 'reply_time', round(quick / 2, 6), interval '10 minutes', measured),
           (11, 'messages_in', 1.0, interval '20 minutes', false),
           (12, 'conversations_resolved', 1.0, interval '1 hour', false),
           (13, 'resolution', round(quick * 20, 6), interval '1 hour', measured)
) as f(part, metric, value, later, business)
cross join lateral (select t0 + later as at, case when business or metric = 'labels_added' then t0 end as started) as m
where metric <> 'labels_added' or n %% 2 = 0
"""
)

_ROLLUP: Final[LiteralString] = """
insert into rollup_{name} (account_id, metric, bucket, agent_id, team_id, inbox_id, channel, state, count, sum,
                           business_count, business_sum)
select account_id, metric, date_trunc('{name}', at, 'UTC'), agent_id, team_id, inbox_id, channel, state, count(*),
       sum(value), count(business_value), coalesce(sum(business_value), 0)
from facts group by 1, 2, 3, 4, 5, 6, 7, 8 order by 3
"""


def seed(
    url: str, conversations: int, *, rollups: tuple[LiteralString, ...] = ("minute", "hour", "day", "month")
) -> None:
    """Write them, a hundred thousand conversations a transaction; the database is analysed at the end."""
    step = (END - BEGIN).total_seconds() / conversations
    with psycopg.connect(url, autocommit=True) as connection:
        for month in range(1, 14):
            first, following = (datetime(2025 + m // 12, m % 12 + 1, 1, tzinfo=UTC) for m in (month - 1, month))
            name = sql.Identifier(f"facts_{first:%Y_%m}")
            connection.execute(sql.SQL("create table {} (like facts including defaults)").format(name))
            connection.execute(
                sql.SQL("alter table facts attach partition {} for values from ({}) to ({})").format(
                    name, sql.Literal(first.isoformat()), sql.Literal(following.isoformat())
                )
            )
        for first_of in range(0, conversations, 100_000):
            last = min(first_of + 100_000, conversations) - 1
            given = {"account": ACCOUNT, "begin": BEGIN, "step": step, "first": first_of, "last": last}
            connection.execute(_FACTS, given)
        for rollup in rollups:
            connection.execute(_ROLLUP.format(name=rollup))
        connection.execute("vacuum analyze")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database")
    parser.add_argument("--conversations", type=int, default=800_000)
    asked = parser.parse_args()
    seed(asked.database, asked.conversations)
    print(ACCOUNT)
