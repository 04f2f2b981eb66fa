"""Old conversations for a measurement: rows of an account of their own in the conversation service's database.

They are written by the server itself, so that a million takes minutes. They are resolved and nobody asks for them; what
they change is the size of every table and index that a message touches.
"""

import psycopg

from relevo.contracts.base import new_id

_CHUNK = 50_000
_DAYS = 90

_SEED = """
WITH one AS MATERIALIZED (
    SELECT n, uuidv7() AS contact, uuidv7() AS conversation, uuidv7() AS message, now() - n * %(step)s * interval '1 second' AS at
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
), contacts_ AS (
    INSERT INTO contacts (id, account_id, name, sequence, created_at)
    SELECT contact, %(account)s, 'Cliente ' || n, 1, at FROM one
), channels_ AS (
    INSERT INTO contact_channels (account_id, inbox_id, source_id, recipient_key, contact_id, created_at)
    SELECT %(account)s, %(inbox)s, 'stored-' || n, md5(n::text), contact, at FROM one
), messages_ AS (
    INSERT INTO messages (id, account_id, conversation_id, sequence, kind, text, author, author_name, external_id,
        attachments, mentions, status, occurred_at, created_at)
    SELECT message, %(account)s, conversation, 2, 'incoming', 'Hola, quería saber cuándo llega mi pedido ' || n,
        'contact:' || contact, 'Cliente ' || n, 'stored-' || n, '[]', '{}', 'received', at, at FROM one
)
INSERT INTO conversations (id, account_id, number, inbox_id, channel, contact_id, source_id, recipient_key, exclusive,
    status, stage, archived, subject, language, labels, participant_ids, assignment_version, cycle, created_at, opened_at,
    resolved_at, last_activity_at, message_count, sequence)
SELECT conversation, %(account)s, n, %(inbox)s, 'api', contact, 'stored-' || n, md5(n::text), true, 'resolved', 'closed', false,
    '', 'es', '{}', '{}', 1, 1, at, at, at, at, 1, 3 FROM one
"""


def seed(dsn: str, count: int) -> None:
    """Write so many conversations of a new account, each with its contact and a message, over the last ninety days.

    The foreign key to contacts is checked at the statement's end, when the contact is there.
    """
    account, inbox = new_id(), new_id()
    with psycopg.connect(dsn, autocommit=True) as connection:
        for first in range(1, count + 1, _CHUNK):
            last = min(first + _CHUNK - 1, count)
            connection.execute(
                _SEED,
                {"first": first, "last": last, "account": account, "inbox": inbox, "step": _DAYS * 86400 / count},
            )
        connection.execute("ANALYZE contacts, contact_channels, conversations, messages")
        connection.execute("CHECKPOINT")
