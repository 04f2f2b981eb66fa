"""The independent count: what the player was acknowledged, against what every public interface shows of it."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from relevo.adapter.metrics import Metrics
from relevo.contracts.metrics import Fact
from relevo.stack.api import Api
from relevo.stack.replay.player import Played, Run

_FACTS_WITHIN = 60.0
_ACCEPTED_WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison of the count."""

    what: str
    expected: int
    found: int

    @property
    def right(self) -> bool:
        """Whether they agree."""
        return self.expected == self.found


@dataclass(frozen=True, slots=True)
class Count:
    """The whole count; ``faults`` are readable descriptions of what differs."""

    lines: tuple[Line, ...]
    faults: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Whether nothing differs."""
        return not self.faults and all(line.right for line in self.lines)


async def count(connection: dict[str, Any], run: Run) -> Count:
    """Count a run. Waits for facts that are still on their way, at most a minute."""
    published = sum(len(played.published) for played in run.played)
    answered = sum(len(played.answered) for played in run.played)
    faults = [f"{played.recorded.id}: {played.problem}" for played in run.played if played.problem]
    async with Api(connection["edge_url"], connection["api_token"]) as api:
        reported = len(run.delivered)
        accepted = await _accepted(api, connection["adapter"]["inbox_id"], run, published + reported)
        stored_in = stored_out = 0
        for played in run.played:
            incoming, outgoing, wrong = await _read_back(api, played)
            stored_in += incoming
            stored_out += outgoing
            faults += wrong
    twice = [message for message, times in run.delivered.items() if times > 1]
    faults += [f"the adapter was handed {message} {run.delivered[message]} times" for message in twice]
    conversations = {played.conversation_id for played in run.played if played.conversation_id}
    facts_in, facts_out = await _facts(connection, run.started, conversations, published, answered)
    return Count(
        (
            Line("events accepted (messages, delivery reports)", published + reported, accepted),
            Line("customer messages stored", published, stored_in),
            Line("replies stored", answered, stored_out),
            Line("replies delivered out", answered, len(run.delivered)),
            Line("facts: messages_in", published, facts_in),
            Line("facts: messages_out", answered, facts_out),
        ),
        tuple(faults),
    )


async def _accepted(api: Api, inbox_id: str, run: Run, expected: int) -> int:
    """Events that ingest accepted of the run's senders; delivery reports may still be on their way."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _ACCEPTED_WITHIN
    while True:
        total = 0
        for played in run.played:
            if played.published:
                total += (await api.get(f"/inbound/{inbox_id}/senders", id=played.source_id))["accepted"]
        if total >= expected or loop.time() > end:
            return total
        await asyncio.sleep(0.5)


async def _read_back(api: Api, played: Played) -> tuple[int, int, list[str]]:
    """Messages of one conversation over HTTP: how many came in and went out, and whether their order is the source's."""
    if played.conversation_id is None:
        return 0, 0, [f"{played.recorded.id}: no conversation"]
    turns: list[int] = []
    incoming = outgoing = 0
    faults: list[str] = []
    async for message in api.pages(f"/conversations/{played.conversation_id}/messages", order="oldest"):
        turn = played.published.get(message["external_id"] or "", played.answered.get(message["id"]))
        if message["kind"] not in ("incoming", "outgoing") or message["author"].startswith("rule:"):
            continue
        incoming += message["kind"] == "incoming"
        outgoing += message["kind"] == "outgoing"
        if turn is None:
            faults.append(f"{played.recorded.id}: message {message['id']} is none of ours")
        else:
            turns.append(turn)
    wanted = [turn.number for turn in played.recorded.turns]
    if turns != wanted and not faults:
        faults.append(f"{played.recorded.id}: the order is {turns}, the source's is {wanted}")
    return incoming, outgoing, faults


async def _facts(
    connection: dict[str, Any], since: datetime, conversations: set[str], published: int, answered: int
) -> tuple[int, int]:
    """Distinct facts about these conversations on the metrics stream."""
    came: set[str] = set()
    went: set[str] = set()

    async def listen() -> None:
        async with Metrics(
            connection["nats_url"], connection["metrics"]["credentials"], connection["account_id"]
        ) as metrics:
            async for message in metrics.follow(since=since):
                if not isinstance(message, Fact) or message.conversation_id not in conversations:
                    continue
                if message.metric == "messages_in":
                    came.add(message.fact_id)
                elif message.metric == "messages_out":
                    went.add(message.fact_id)
                if len(came) >= published and len(went) >= answered:
                    return

    try:
        async with asyncio.timeout(_FACTS_WITHIN):
            await listen()
    except TimeoutError:
        pass
    return len(came), len(went)
