"""`python -m relevo.assignment.simulating` on what a real service has on record."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest
from sqlalchemy import text

from relevo.assignment.matcher import Matcher
from relevo.assignment.simulating.__main__ import main
from relevo.assignment.store import journals
from relevo.assignment.store.journals import Note
from relevo.contracts.base import new_id, now

from .journals import journal


class Place:
    """A database on which three matchers have decided on random journals of two accounts."""

    def __init__(self, database) -> None:
        self.database = database
        self.url = database.pool._url
        self.since = now() - timedelta(hours=1)
        self.accounts = [new_id(), new_id()]

    async def fill(self) -> None:
        for seed, account in enumerate(self.accounts):
            inputs = list(journal(seed + 10, 260))
            while inputs:
                some, inputs = inputs[:50], inputs[50:]
                async with self.database.begin(account) as tx:
                    await journals.append(tx, [Note(account, one) for one in some])
                await asyncio.gather(*(Matcher(self.database, 7).work() for _ in range(3)))

    async def simulate(self, *arguments: str, account: str | None = None) -> subprocess.CompletedProcess[str]:
        asked = [f"--account={account or self.accounts[0]}", f"--since={self.since.isoformat()}", *arguments]
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "relevo.assignment.simulating", *asked],
            env=os.environ | {"RELEVO_DATABASE_URL": self.url, "RELEVO_NATS_URL": "", "RELEVO_NATS_CREDENTIALS": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    async def rows(self, sql: str, account: str) -> list[tuple[object, ...]]:
        async with self.database.begin(account) as tx:
            return [tuple(row) for row in (await tx.execute(text(sql))).all()]


@pytest.fixture
async def place(database):
    one = Place(database)
    await one.fill()
    return one


async def test_what_replicas_decided_comes_out_again_and_a_draft_leaves_it_alone(place, tmp_path):
    mine, other = place.accounts
    every = "select * from decisions order by id"
    before = await place.rows(every, mine)
    draft = tmp_path / "draft.json"
    draft.write_text('{"default_capacity": 9, "busy_as_fallback": true}')
    first, again, plain, others = [
        await place.simulate("--json", f"--policy={draft}", "--seed=4"),
        await place.simulate("--json", f"--policy={draft}", "--seed=4"),
        await place.simulate(f"--policy={draft}"),
        await place.simulate("--json", account=other),
    ]
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == again.stdout
    told = json.loads(first.stdout)
    assert told["check"] == {
        "automatic_decisions": sum(
            row[0] for row in await place.rows("select count(*) from decisions where mode = 'automatic'", mine)
        ),
        "differences": [],
    }
    assert told["check"]["automatic_decisions"] > 50
    assert told["draft"]["policy"]["default_capacity"] == 9
    assert told["today"]["came"] > 50
    assert told["draft"]["came"] > 50
    assert "automatic decisions made again from the journal, 0 differ." in plain.stdout
    assert "with seed 1" in plain.stdout
    assert {agent["agent_id"] for agent in json.loads(others.stdout)["today"]["agents"]}.isdisjoint(
        agent["agent_id"] for agent in told["today"]["agents"]
    )
    assert await place.rows(every, mine) == before


async def test_a_decision_that_was_tampered_with_is_named(place):
    (mine, _) = place.accounts
    (row,) = await place.rows(
        "select id, cast(conversation_id as text), version from decisions "
        "where kind = 'assigned' and mode = 'automatic' order by id limit 1",
        mine,
    )
    async with place.database.begin(mine) as tx:
        await tx.execute(
            text("update decisions set assignee_id = cast(:other as uuid) where id = :id"),
            {"other": new_id(), "id": row[0]},
        )
    done = await place.simulate()
    assert done.returncode == 1
    assert "1 DIFFER" in done.stdout
    assert f"conversation {row[1]}, decision {row[2]}" in done.stdout


async def test_what_cannot_be_simulated_says_why(place, monkeypatch, capsys):
    monkeypatch.setenv("RELEVO_DATABASE_URL", place.url)
    for arguments, said in (
        (["--since=yesterday"], "since: yesterday is no moment"),
        (["--since=2026-11-21T00:00:00"], "names no zone"),
        (["--until=2026-01-01T00:00:00Z"], "since: the period begins at"),
        (["--policy=nowhere.json"], "policy: "),
        (["--account=00000000-0000-0000-0000-000000000000"], "has no journal here"),
        ([], "there are 2 accounts here: name one with --account"),
    ):
        account = [f"--account={place.accounts[0]}"] if arguments else []
        monkeypatch.setattr(sys, "argv", ["x", f"--since={place.since.isoformat()}", *account, *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        told = capsys.readouterr().err
        assert end.value.code == 2
        assert said in told
        assert told.count("\n") == 1
