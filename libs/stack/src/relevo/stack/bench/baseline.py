"""The baseline: the same work in one process and one transaction a message. FastAPI and SQLAlchemy, no bus.

What a good program without a message bus does for a customer's message, with as few round trips as it honestly takes:
ledger against repetition, contact, conversation, message, two rules, assignment to an agent with room, metric rows.
It does less than the stack (nobody else may listen, nothing can be replayed, work stops with the process), and what it
carries is reported also where it is more.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from relevo.contracts.base import new_id, now
from relevo.kernel.text import contains_words
from relevo.stack.bench import worker

DATABASE = "relevo_bench_baseline"
_POOL = 16

_TABLES = (
    "CREATE TABLE ledger (account_id uuid, external_id text, at timestamptz NOT NULL, PRIMARY KEY (account_id, external_id))",
    """CREATE TABLE contacts (
        id uuid PRIMARY KEY, account_id uuid NOT NULL, sender text NOT NULL, name text NOT NULL, created_at timestamptz NOT NULL,
        UNIQUE (account_id, sender))""",
    """CREATE TABLE conversations (
        id uuid PRIMARY KEY, account_id uuid NOT NULL, contact_id uuid NOT NULL UNIQUE, status text NOT NULL,
        assignee_id uuid, team_id uuid, labels text[] NOT NULL DEFAULT '{}', message_count int NOT NULL,
        created_at timestamptz NOT NULL, last_activity_at timestamptz NOT NULL)""",
    "CREATE INDEX ON conversations (account_id, assignee_id, last_activity_at)",
    """CREATE TABLE messages (
        id uuid PRIMARY KEY, account_id uuid NOT NULL, conversation_id uuid NOT NULL, sequence int NOT NULL, text text NOT NULL,
        occurred_at timestamptz NOT NULL, created_at timestamptz NOT NULL, UNIQUE (conversation_id, sequence))""",
    """CREATE TABLE agents (
        id uuid PRIMARY KEY, account_id uuid NOT NULL, team_id uuid NOT NULL, available boolean NOT NULL,
        capacity int NOT NULL, load int NOT NULL, last_at timestamptz NOT NULL)""",
    "CREATE TABLE decisions (id uuid PRIMARY KEY, account_id uuid, conversation_id uuid, agent_id uuid, at timestamptz)",
    "CREATE TABLE executions (id uuid PRIMARY KEY, account_id uuid, conversation_id uuid, rule text, at timestamptz)",
    """CREATE TABLE facts (
        id uuid PRIMARY KEY, account_id uuid NOT NULL, metric text NOT NULL, value float8 NOT NULL, at timestamptz NOT NULL,
        conversation_id uuid NOT NULL, agent_id uuid)""",
    "CREATE INDEX ON facts (account_id, metric, at)",
)
_LEDGER = text("INSERT INTO ledger VALUES (:account, :external, :now) ON CONFLICT DO NOTHING")
_CONTACT = text("SELECT id FROM contacts WHERE account_id = :account AND sender = :sender")
_NEW_CONTACT = text("""
    INSERT INTO contacts VALUES (:id, :account, :sender, :name, :now)
    ON CONFLICT (account_id, sender) DO UPDATE SET name = excluded.name RETURNING id
""")
_OPEN = text("""
    INSERT INTO conversations (id, account_id, contact_id, status, message_count, created_at, last_activity_at)
    VALUES (:id, :account, :contact, 'open', 1, :now, :now)
    ON CONFLICT (contact_id) DO UPDATE
    SET message_count = conversations.message_count + 1, last_activity_at = excluded.last_activity_at
    RETURNING id, message_count, assignee_id
""")
_MESSAGE = text("INSERT INTO messages VALUES (:id, :account, :conversation, :sequence, :text, :at, :now)")
_AGENT = text("""
    UPDATE agents SET load = load + 1, last_at = :now WHERE id = (
        SELECT id FROM agents WHERE account_id = :account AND available AND load < capacity
        ORDER BY last_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, team_id
""")
_DECIDE = text("""
    WITH decided AS (INSERT INTO decisions VALUES (:id, :account, :conversation, :agent, :now))
    UPDATE conversations SET assignee_id = :agent, team_id = :team WHERE id = :conversation
""")
_LABEL = text("""
    WITH done AS (INSERT INTO executions VALUES (:id, :account, :conversation, :label, :now))
    UPDATE conversations SET labels = labels || CAST(:label AS text)
    WHERE id = :conversation AND NOT CAST(:label AS text) = ANY (labels)
""")
_FACTS = text("""
    INSERT INTO facts SELECT id, :account, metric, 1, :at, :conversation, :agent
    FROM unnest(CAST(:ids AS uuid[]), CAST(:metrics AS text[])) AS f (id, metric)
""")
RULES = {"bench avería": "avería", "bench garantía": "garantía"}
"""Label and the word that must occur: the rules of the stack that is measured, judged by the same function."""


class Incoming(BaseModel):
    """A customer's message."""

    external_id: str
    sender: str
    text: str
    occurred_at: AwareDatetime


async def take(connection: AsyncConnection, account: str, message: Incoming) -> str:
    """Everything that one message brings with it, in the transaction that is open. Answers the conversation's id, or
    "" for what was there already.
    """
    at, moment = message.occurred_at, now()
    done = await connection.execute(_LEDGER, {"account": account, "external": message.external_id, "now": moment})
    if not done.rowcount:
        return ""
    who: dict[str, Any] = {"account": account, "sender": message.sender}
    contact = (await connection.execute(_CONTACT, who)).scalar_one_or_none()
    if contact is None:
        who |= {"id": new_id(), "name": message.sender[-6:], "now": moment}
        contact = (await connection.execute(_NEW_CONTACT, who)).scalar_one()
    opened = {"id": new_id(), "account": account, "contact": contact, "now": moment}
    conversation = (await connection.execute(_OPEN, opened)).one()
    about: dict[str, Any] = {"account": account, "conversation": conversation.id, "now": moment}
    await connection.execute(
        _MESSAGE,
        {**about, "id": new_id(), "sequence": conversation.message_count, "text": message.text, "at": at},
    )
    metrics = ["messages_in"]
    agent = conversation.assignee_id
    if agent is None and (free := (await connection.execute(_AGENT, about)).one_or_none()):
        agent = free.id
        await connection.execute(_DECIDE, {**about, "id": new_id(), "agent": agent, "team": free.team_id})
        metrics += ["conversations_opened", "wait_in_queue"]
    for label, word in RULES.items():
        if contains_words(message.text, word):
            metrics.append("rules_executed")
            changed = await connection.execute(_LABEL, {**about, "id": new_id(), "label": label})
            if changed.rowcount:
                metrics.append("labels_added")
    await connection.execute(
        _FACTS, {**about, "at": at, "agent": agent, "ids": [new_id() for _ in metrics], "metrics": metrics}
    )
    return str(conversation.id)


def make_app(engine: AsyncEngine, account: str) -> FastAPI:
    """The program."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/messages", status_code=201)
    async def create(message: Incoming) -> dict[str, str]:
        async with engine.begin() as connection:
            return {"conversation_id": await take(connection, account, message)}

    return app


async def prepare(engine: AsyncEngine, account: str, agents: int) -> None:
    """The tables, and the agents in two teams."""
    async with engine.begin() as connection:
        for statement in _TABLES:
            await connection.execute(text(statement))
        teams = [new_id(), new_id()]
        long_ago = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
        await connection.execute(
            text("INSERT INTO agents VALUES (:id, :account, :team, true, 1000000, 0, :at)"),
            [{"id": new_id(), "account": account, "team": teams[n % 2], "at": long_ago} for n in range(agents)],
        )


async def main() -> None:
    """Told the database, the port and how many agents; serves until stdin ends, answering its CPU seconds."""
    told = worker.commands()
    where = await anext(told)
    account = new_id()
    engine = create_async_engine(
        where["dsn"].replace("postgresql://", "postgresql+psycopg://", 1), pool_size=_POOL, max_overflow=0
    )
    await prepare(engine, account, where["agents"])
    config = uvicorn.Config(
        make_app(engine, account), host="127.0.0.1", port=where["port"], log_level="warning", access_log=False
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    worker.answer(pid=os.getpid())
    async for _ in told:
        worker.answer(cpu=time.process_time())
    server.should_exit = True
    await serving


if __name__ == "__main__":
    worker.run(main)
