"""What a dry run says that a rule would have done is what it does: a week of customers' words, tried in one stack, lived in another.

The same words with the same times go into both. In the first no rule is on, and each draft is tried; in the second all of them
are on from the beginning. Compared are what set a rule off, its version, and the commands with their arguments.
"""

import asyncio
import json
import os
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from e2e.test_rebuild import Log
from whole_stack import Account, WholeStack, message, shared_folder

from relevo.adapter import InboundMessage
from relevo.contracts.base import now
from relevo.stack.replay.source import Recorded, read

WEEK = timedelta(days=7)
ANSWERED = 4
SAMPLE = Path(str(files("relevo.stack") / "samples" / "conversations.jsonl"))
ASKING = {
    "field": "message.text",
    "operator": "any_word",
    "value": ["pedido", "devolucion", "error", "account", "appointment", "bank", "hotel"],
}
THANKS = {"field": "message.text", "operator": "any_word", "value": ["gracias", "thanks", "thank"]}


def note(text: str) -> dict[str, Any]:
    return {"type": "add_note", "text": text}


def drafts(middle: str) -> dict[str, dict[str, Any]]:
    """By name. ``middle``: of the week."""
    of = "conversation.created_at"
    given: dict[str, tuple[str, Any, list[dict[str, Any]]]] = {
        # What these do no rule reads.
        "words": ("message_received", ASKING, [note("pregunta"), {"type": "set_priority", "priority": "high"}]),
        "times": (
            "message_received",
            {"all": [{"field": of, "operator": "greater", "value": middle}, {"not": THANKS}]},
            [note("de la segunda mitad de la semana")],
        ),
        "greeting": (
            "message_received",
            {"field": "message.first", "operator": "equals", "value": True},
            [{"type": "send_message", "text": "Hola, enseguida le atendemos."}],
        ),
        "opened": ("conversation_opened", {"all": []}, [note("nueva")]),
        # This one reads what it did, this one waits, and this one lets the next message reopen the conversation.
        "once": (
            "message_received",
            {"all": [ASKING, {"field": "conversation.labels", "operator": "contains_none", "value": ["visto"]}]},
            [{"type": "add_labels", "labels": ["visto"]}],
        ),
        "waits": (
            "message_received",
            THANKS,
            [
                note("dio las gracias"),
                {"type": "wait", "minutes": 20, "unless": "customer_answers"},
                note("y nada más"),
            ],
        ),
        "closes": ("message_received", THANKS, [{"type": "resolve"}]),
    }
    return {
        name: {"name": name, "trigger": trigger, "conditions": conditions, "actions": actions}
        for name, (trigger, conditions, actions) in given.items()
    }


UNREAD = {"words", "times", "greeting", "opened"}
"""The rules of whose doing no condition asks: each firing is compared. Of the others the first in each conversation is."""


@dataclass(frozen=True)
class Fired:
    """A rule's firing, in words that are the same in both stacks. ``event``: whose, of which type, and which of these."""

    sender: str
    event: str
    version: int
    commands: tuple[str, ...]
    """Up to a wait: what stands behind one is done unless something comes first, which nobody knew when it was tried."""


def first_each(found: Sequence[Fired]) -> list[Fired]:
    """The first of each conversation; they come in its order."""
    return list({fired.sender: fired for fired in reversed(found)}.values())


def differences(tried: Sequence[Fired], lived: Sequence[Fired]) -> list[str]:
    """What is not the same in both, by the event that caused it."""
    tried_, lived_ = Counter(tried), Counter(lived)
    told = [(fired.event, "only tried", fired, n) for fired, n in (tried_ - lived_).items()]
    told += [(fired.event, "only lived", fired, n) for fired, n in (lived_ - tried_).items()]
    return [f"{event}: {where} {n} times: {fired}" for event, where, fired, n in sorted(told, key=str)]


def recorded() -> list[Recorded]:
    """The shared conversations where there are any, else the sample, several times."""
    shared = Path(os.environ.get("RELEVO_SHARED", "")) / "data" / "conversations.jsonl"
    if os.environ.get("RELEVO_SHARED") and shared.exists():
        return read(shared)[::20]
    return read(SAMPLE) * 5


def week(since: datetime) -> list[list[InboundMessage]]:
    """What customers said in a week, everybody's first words, then everybody's second: some came twice, some no person wrote."""
    told = recorded()
    step = (WEEK - timedelta(hours=2)) / len(told)
    rounds: list[list[InboundMessage]] = []
    for number, conversation in enumerate(told):
        turns = (turn for turn in conversation.turns if turn.role == "customer")
        for place, turn in enumerate(turns):
            said = message(
                f"{number}-{turn.number}",
                f"customer-{number}",
                turn.text,
                occurred_at=since + step * number + timedelta(seconds=turn.offset + turn.number),
                automatic=(number + turn.number) % 9 == 0,
                person={"name": f"Cliente {number}", "language": conversation.language},
            )
            if place == len(rounds):
                rounds.append([])
            rounds[place] += [said] * (2 if number % 25 == 0 else 1)
    return rounds


class Story:
    """What happened in an account, by names that are the same in every stack."""

    def __init__(self, stack: WholeStack, account: str) -> None:
        self.events: dict[str, tuple[str, str]] = {}
        self.senders: dict[str, str] = {}
        numbers: Counter[tuple[str, str]] = Counter()
        for headers, body in _told(stack, "conversation", account, "EVT_CONVERSATION"):
            if (talk := body.get("conversation")) is None:
                continue
            sender, kind = talk["source_id"], headers["ce-type"]
            self.senders[talk["id"]] = sender
            numbers[sender, kind] += 1
            which = body["message"]["external_id"] if "message" in body else None
            self.events[headers["ce-id"]] = sender, f"{kind} {which or f'{sender} {numbers[sender, kind]}'}"

    def fired(self, event_id: str, version: int, commands: Sequence[tuple[str, Any]]) -> Fired:
        sender, event = self.events[event_id]
        return Fired(sender, event, version, tuple(f"{kind} {self._named(data)}" for kind, data in commands))

    def _named(self, data: Any) -> str:
        told = json.dumps(data, sort_keys=True, ensure_ascii=False)
        for talk, sender in self.senders.items():
            if talk in told:
                return told.replace(talk, sender)
        return told


def _told(stack: WholeStack, service: str, account: str, stream: str) -> list[tuple[dict[str, str], Any]]:
    rows = stack.rows(
        service,
        "select headers, convert_from(body, 'utf8') from outbox where stream = %s"
        " and headers::json ->> 'relevo-account' = %s order by id",
        (stream, account),
    )
    return [(json.loads(headers), json.loads(body)) for headers, body in rows]


async def tried(account: Account, story: Story, draft: dict[str, Any]) -> list[Fired]:
    """What a dry run lists, in the order of the stream."""
    found: list[Fired] = []
    cursor = None
    while True:
        page = await account.admin.post("/rules/dry-run", {"draft": draft, "days": 8, "limit": 500, "cursor": cursor})
        assert page["matched"] == len(page["items"])
        for one in page["items"]:
            would = takewhile(lambda step: step["does"] != "wait", one["would"])
            found.append(story.fired(one["event_id"], 1, [(step["does"], step["data"]) for step in would]))
        cursor = page["next"]
        if cursor is None:
            return found


async def lived(account: Account, story: Story, rule_id: str, rule: dict[str, Any]) -> list[Fired]:
    """What a rule did, in the order of the story."""
    commands: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for stream in ("CMD_CONVERSATION", "CMD_ASSIGNMENT"):
        for headers, body in _told(account.stack, "automation", account.id, stream):
            if headers["relevo-actor"] == f"rule:{rule_id}":
                commands[headers["relevo-causation-id"]].append((headers["ce-type"], body))
    did = {
        one["event_id"]: one["rule_version"]
        async for one in account.admin.pages("/rule-executions", rule_id=rule_id)
        if one["outcome"] in ("ordered", "waiting", "moot")
    }
    assert commands.keys() <= did.keys()
    most = len(list(takewhile(lambda action: action["type"] != "wait", rule["actions"])))
    return [story.fired(event, did[event], commands[event][:most]) for event in story.events if event in did]


@asynccontextmanager
async def through(
    stack: WholeStack, said: Sequence[Sequence[InboundMessage]], *rules: dict[str, Any]
) -> AsyncIterator[tuple[Account, Story, dict[str, str]]]:
    """An account that has these rules, in which all this was said and done with. Answers it, its story, the rules' ids.

    What came of everybody's first ANSWERED words is there before their next ones: rules that read what they did can read it.
    """
    async with stack.account() as account:
        ids = {rule["name"]: (await account.admin.post("/rules", rule))["id"] for rule in rules}
        async with account.adapter() as adapter:
            for number, words in enumerate(said):
                for one in words:
                    await adapter.publish(one)
                if number < ANSWERED:
                    await Log(stack).quiet()
        await Log(stack).quiet()
        yield account, Story(stack, account.id), ids


@pytest.mark.deep
@pytest.mark.timeout(900)
async def test_a_week_lived_with_rules_is_what_their_dry_run_said(stack: WholeStack, capsys) -> None:
    began = now() - WEEK
    said, asked = week(began), drafts((began + WEEK / 2).isoformat())
    commands = "select count(*) from outbox where stream like 'CMD_%%'"
    async with through(stack, said) as (account, story, _):
        before = stack.rows("automation", commands)
        would = {name: await tried(account, story, draft) for name, draft in asked.items()}
        fewer = {**asked["words"], "conditions": {"all": [ASKING, {"not": THANKS}]}}
        other = await tried(account, story, fewer)
        await Log(stack).quiet()
        assert stack.rows("automation", commands) == before
        assert [one async for one in account.admin.pages("/rule-executions")] == []
    with shared_folder() as folder:
        fresh = WholeStack(folder)
        try:
            await asyncio.to_thread(fresh.up)
            async with through(fresh, said, *asked.values()) as (account, story, ids):
                did = {name: await lived(account, story, rule_id, asked[name]) for name, rule_id in ids.items()}
        finally:
            await asyncio.to_thread(fresh.down)

    with capsys.disabled():
        counts = {name: (len(would[name]), len(did[name])) for name in asked}
        print(f"\n{sum(map(len, said))} inbound messages of a week; fired when tried, and lived: {counts}")
    differing = [
        difference
        for name in asked
        for difference in (
            differences(would[name], did[name])
            if name in UNREAD
            else differences(first_each(would[name]), first_each(did[name]))
        )
    ]
    assert differing == []
    # It is not for nothing: each fired, those that read what they did were tried in vain at times, and another rule is another list.
    assert all(would.values())
    assert len(would["once"]) > len(did["once"]) > 1
    assert differences(other, did["words"])
    assert all(": only lived" in one and "-" in one for one in differences(other, did["words"]))
