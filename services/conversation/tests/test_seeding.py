"""Synthetic accounts: the rows that a plan gives, and writing them in spite of interruptions."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from relevo.chassis.testing import template_database
from relevo.contracts.base import new_id
from relevo.conversation.seeding import load
from relevo.conversation.seeding.load import CannotSeed, Seeding, seed
from relevo.conversation.seeding.rows import COLUMNS, Maker, Plan
from relevo.conversation.seeding.texts import Texts
from relevo.kernel.text import fold

INDEXES = "select indexdef from pg_indexes where schemaname = 'public' order by 1"

MENTIONED = """
    select count(*) filter (where c.mentioned <> array(
        select distinct unnest(m.mentions) from messages m where m.conversation_id = c.id order by 1
    )), bool_or(c.mentioned <> '{}') from conversations c
"""


def silent(done, of):
    pass


@pytest.fixture
def plan():
    return Plan(
        account_id=new_id(),
        conversations=2300,
        now=datetime(2026, 11, 1, tzinfo=UTC),
        inboxes=[[new_id(), "whatsapp"], [new_id(), "email"]],
        agents=[new_id(), new_id()],
        teams=[new_id()],
    )


@pytest.fixture
def seeding(servers, plan):
    return Seeding(servers.create_database(template=template_database(servers, "relevo.conversation.migrations")), plan)


def test_the_same_plan_gives_the_same_rows(plan):
    one, other = (Maker(plan, Texts.ours()).block(1) for _ in range(2))
    assert one == other
    assert one != Maker(plan, Texts.ours()).block(0)
    for table, lines in one.by_table():
        width = len(COLUMNS[table].split(", "))
        assert {line.count("\t") + 1 for line in lines} == {width}


def test_a_seeding_that_was_cut_short_goes_on(seeding, plan, monkeypatch, servers):
    monkeypatch.setattr(load, "_BUILT_AFTER", 1)
    with psycopg.connect(servers.inspecting(seeding.url), autocommit=True) as connection:
        before = connection.execute(INDEXES).fetchall()

        def cut(done, of):
            if done >= 1000:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            seed(seeding, cut)
        assert len(connection.execute(INDEXES).fetchall()) < len(before)
        assert connection.execute("select finished_at from seedings").fetchall() == [(None,)]
        seed(replace(seeding, plan=replace(plan, now=datetime(2027, 1, 1, tzinfo=UTC))), silent)
        assert connection.execute(INDEXES).fetchall() == before
        rows = connection.execute("select count(*), count(distinct number), max(number) from conversations").fetchone()
        assert rows == (2300, 2300, 2300)
        assert connection.execute("select max(created_at) <= %s from messages", (plan.now,)).fetchone() == (True,)
        sums = """
            select (select sum(message_count) from conversations), (select count(*) from messages),
                (select next_conversation_numbers(%s::uuid, 1))
        """
        labels = dict(connection.execute("select name, folded from labels").fetchall())
        assert "envío" in labels
        assert labels == {name: fold(name) for name in labels}, "they are found as those that people make"
        expected, messages, number = connection.execute(sums, (plan.account_id,)).fetchone()
        assert expected == messages
        assert number > 2300
        assert connection.execute(MENTIONED).fetchone() == (0, True)
        seed(seeding, silent)
        assert connection.execute("select count(*) from messages").fetchone() == (messages,)


def test_several_processes_write_the_same_as_one(seeding, servers):
    other = replace(
        seeding,
        url=servers.create_database(template=template_database(servers, "relevo.conversation.migrations")),
        workers=2,
    )
    found = []
    for one in (seeding, other):
        seed(one, silent)
        with psycopg.connect(servers.inspecting(one.url)) as connection:
            found.append(
                connection.execute("select md5(string_agg(t::text, '' order by id)) from messages t").fetchone()
            )
    assert found[0] == found[1]


def test_what_is_real_is_not_mixed_with_what_is_synthetic(seeding, plan, servers):
    seed(seeding, silent)
    with pytest.raises(CannotSeed, match="go on with that number"):
        seed(replace(seeding, plan=replace(plan, conversations=10)), silent)
    with psycopg.connect(servers.inspecting(seeding.url)) as connection:
        connection.execute("delete from seedings")
    with pytest.raises(CannotSeed, match="an account of their own"):
        seed(seeding, silent)


def test_texts_of_the_operator_s_own(tmp_path, plan):
    file = tmp_path / "talks.jsonl"
    rows = [
        {"lang": "es", "text": "una\tcosa \\ rara\nen dos líneas"},
        {"lang": "en", "turns": [{"role": "agent", "text": "one thing"}]},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    block = Maker(plan, Texts.of([file])).block(0)
    assert any(r"una\tcosa \\ rara\nen dos líneas" in line for line in block.messages)
    file.write_text('{"lang": "es"}')
    with pytest.raises(ValueError, match="line 1: not a row with lang"):
        Texts.of([file])
