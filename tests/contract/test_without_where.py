"""The second wall, met by each statement that a service has: its WHERE clauses taken away, it still sees no foreign row.

Two databases hold the same rows of one account: in the one they stand beside another account's, in the other alone. All
rows of an account have its id for every id and text, so that whatever is joined fits; the parameters name both accounts.
Whatever a statement then gives must be the same in both, and the other account's rows must be what they were. That a
statement would have told the two databases apart is seen too: by a role that the wall does not hold. How many did is
counted, so that the test cannot go blind.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from contract.stripped import stripped, writes, written
from contract.test_tenancy import columns, fill, migrations, sample, superuser, unchecked
from psycopg import sql

from relevo.chassis.tenancy import Entry
from relevo.chassis.testing import template_database
from relevo.contracts.base import new_id
from relevo.contracts.catalogue import SERVICES
from relevo.stack.testing import TestServers

SHARED = {"conversation", "realtime", "reporting"}
"""Where the chassis' own statements are tried: between them these have all of its tables."""
AT_LEAST = {
    "assignment": 22,
    "automation": 11,
    "channels": 18,
    "conversation": 160,
    "identity": 70,
    "ingest": 24,
    "notification": 33,
    "presence": 21,
    "realtime": 12,
    "reporting": 15,
}
"""How many statements of each service would show another account's rows if there were no wall."""
UNTRIED = {
    "update views set filters = jsonb_set": "a view that names no label cannot have one renamed",
    "insert into conversation_facts as f": "of its texts one is a list, written as PostgreSQL writes lists",
}
"""What cannot be run without its WHERE clause, and why."""

COMPOSED = {
    "assignment": (["test_pool", "test_matcher"], 2),
    "conversation": (["test_desk", "test_contacts_segments", "test_search", "test_reminders"], 90),
    "identity": (["test_audit_api"], 8),
    "notification": (["test_notification", "test_reaching"], 8),
    "reporting": (["test_facts", "test_labels", "test_rollup", "test_service"], 15),
}
"""By which of its tests a service sends the statements that it composes, and how many of those tell at least.

The realtime service composes one, what was seen and is not seen now, which without its WHERE clauses is nothing.
"""

_PARAMETER = re.compile(r"%\((\w+)\)s|%[s%]")
_RECORD = re.compile(r"to_recordset\(.*?\)\)\s*(?:as\s*)?\w*\s*\(([^)]*)\)", re.DOTALL)
_DOCUMENT = re.compile(r"cast\((?:\w+\.)?(\w+) as jsonb?\)")
_UNTYPED = re.compile(r"could not determine data type of parameter \$(\d+)")
_NOW = re.compile(r"\b(now|clock_timestamp)\(\)")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement without its WHERE clauses, ready in every place under a name."""

    statement: str
    name: str
    parameters: Sequence[tuple[str, str, str, str]]
    """Of each the name, the type, its category, and the type of its elements if it is an array."""

    @property
    def adds(self) -> bool:
        return re.search(r"\binsert\b", self.statement, re.IGNORECASE) is not None

    def call(self, given: "Given") -> str:
        documents = set(_DOCUMENT.findall(self.statement))
        records = ", ".join(match[1] for match in _RECORD.finditer(self.statement))
        values = [
            given.records(records)
            if kind in ("json", "jsonb") and records
            else given.value(name, "jsonb" if name in documents and not element else kind, category, element)
            if name not in documents or not element
            else given.array(given.document)
            for name, kind, category, element in self.parameters
        ]
        told = ", ".join(sql.quote(value) for value in values)
        return f"execute {self.name}({told})" if values else f"execute {self.name}"


@dataclass(frozen=True, slots=True)
class Given:
    """What stands for the parameters: ids and texts are ``one``, lists of them ``many``, an account is ``account``."""

    account: str
    one: str
    many: tuple[str, ...]
    document: str = "{}"

    def value(self, name: str, kind: str, category: str, element: str) -> str:
        if element:
            accounts = name.startswith("account") and self.account != self.one
            if element in ("uuid", "text"):
                return self.array(*([self.account] * len(self.many) if accounts else self.many))
            return self.array(*[sample(element, category, "", self.one)] * len(self.many))
        if kind in ("json", "jsonb"):
            return self.document
        if name.startswith("timezone"):
            return "UTC"
        if category == "N":
            return "100"  # a limit, or nothing that any row has
        return sample(kind, category, "", self.account if name.startswith("account") else self.one)

    def array(self, *elements: str) -> str:
        return "{" + ",".join(json.dumps(element) for element in elements) + "}"

    def records(self, declared: str) -> str:
        """A document with a row for each of ``many``, as a statement declares it."""
        rows = []
        for mark in self.many:
            row: dict[str, Any] = {}
            for column in re.split(r",\s*", declared):
                name, kind = column.split(None, 1)
                known = {"uuid": mark, "text": mark, "boolean": True, "timestamptz": "2026-01-01", "jsonb": {}}
                marks = [mark] if kind in ("uuid[]", "text[]") else []
                row[name] = self.account if name == "account_id" else marks if kind[-1] == "]" else known.get(kind, 1)
            rows.append(row)
        return json.dumps(rows)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many rows were given or changed, and what was given, as text; or why nothing could be."""

    count: int
    rows: tuple[str, ...]
    refused: str = ""


class Place:
    """A database that holds the rows of some accounts, as one role sees it within an account."""

    def __init__(self, dsn: str, account: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.opening = Entry.into([account]).begin()

    def outcome(self, call: str, then: str = "") -> tuple[Outcome, tuple[str, ...]]:
        """What a statement gives, or what it is refused with; and what is asked `then`, within the same transaction."""
        try:
            cursor = self._last(f"{self.opening}; {call}")
            given = Outcome(cursor.rowcount, _plain(cursor))
            return given, _plain(self._last(then)) if then else ()
        except psycopg.Error as error:
            return Outcome(-1, (), f"{error.sqlstate}: {error.diag.message_primary}"), ()
        finally:
            self.connection.execute("rollback")

    def _last(self, several: str) -> psycopg.Cursor[Any]:
        cursor = self.connection.execute(several.encode(), prepare=False)
        while cursor.nextset():
            pass
        return cursor


def _plain(cursor: psycopg.Cursor[Any]) -> tuple[str, ...]:
    """Rows as text; moments of this very test, which no two transactions share, are all the same."""
    if cursor.description is None:
        return ()
    now = datetime.now(UTC)
    rows = ([_steady(cell, now) for cell in row] for row in cursor)
    return tuple(sorted(map(str, rows)))


def _steady(cell: Any, now: datetime) -> Any:
    return "now" if isinstance(cell, datetime) and abs(now - cell) < timedelta(hours=1) else cell


class Worlds:
    """The same rows of one account twice, beside another account's and alone; the former also seen past the wall."""

    def __init__(self, dsns: tuple[str, str, str], tables: Collection[str], accounts: tuple[str, str]) -> None:
        self.tables = tables
        self.mine, self.theirs = accounts
        self.shared, self.alone, self.past = self.places = [Place(dsn, self.mine) for dsn in dsns]

    def theirs_in(self, tables: Collection[str]) -> str:
        """Asks for each row of the other account in these tables."""
        every = " union all ".join(f"select '{table}', t::text from {table} t" for table in sorted(tables))
        return f"set local relevo.accounts = '{{{self.theirs}}}'; {every}"

    def named(self, statement: str) -> set[str]:
        """The tables of accounts that a statement names."""
        return set(self.tables) & set(re.findall(r"\w+", statement))

    def close(self) -> None:
        for place in self.places:
            place.connection.close()


@contextmanager
def worlds(service: str, servers: TestServers) -> Iterator[Worlds]:
    mine, theirs = sorted((new_id(), new_id()))
    shared = servers.create_database(template=template_database(servers, migrations(service)))
    with superuser(servers, shared) as connection:
        tables = columns(connection, service)
        unchecked(connection, list(tables))
        if "facts" in tables:
            connection.execute("create table facts_2026_01 partition of facts default")
        for table, column in tables.items():
            fill(connection, table, column, mine, mine)
    alone = servers.create_database(template=shared)
    with superuser(servers, shared) as connection:
        for table, column in tables.items():
            fill(connection, table, column, theirs, theirs)
    made = Worlds((shared, alone, servers.inspecting(shared)), tables, (mine, theirs))
    try:
        yield made
    finally:
        made.close()


def guarding(worlds: Worlds, statements: set[str]) -> list[str]:
    """Those of rows of accounts that have a WHERE clause to lose, or read, change or remove without one."""
    return sorted(
        one
        for one in statements
        if worlds.named(one)
        and (stripped(one) != one or re.match(r"\s*(select|with|update|delete)\b", one, re.IGNORECASE))
    )


def prepare(worlds: Worlds, statement: str, name: str) -> Prepared:
    """Raises psycopg.Error when the statement cannot be parsed."""
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        if match.group() == "%%":
            return "%"
        if match[1] is None or match[1] not in names:
            names.append(match[1] or f"unnamed_{len(names)}")
        return f"${names.index(match[1]) + 1}" if match[1] else f"${len(names)}"

    body = _NOW.sub("timestamptz '2026-02-02'", _PARAMETER.sub(numbered, stripped(statement)))
    if re.search(r"\bwith recursive\b", body):
        body += " limit 20"  # without its WHERE it never ends
    kinds = ["unknown"] * len(names)
    for place in worlds.places:
        while True:
            declared = f"({', '.join(kinds)})" if kinds else ""
            try:
                place.connection.execute(f"prepare {name}{declared} as {body}".encode())
                break
            except psycopg.errors.IndeterminateDatatype as error:
                told = _UNTYPED.search(str(error))
                if told is None or kinds[int(told[1]) - 1] != "unknown":
                    raise
                kinds[int(told[1]) - 1] = "text"
    described = worlds.shared.connection.execute(
        "select format_type(t.oid, null), coalesce(e.typcategory, t.typcategory)::text,"
        " coalesce(format_type(e.oid, null), '')"
        " from pg_prepared_statements s, unnest(s.parameter_types) with ordinality p (kind, n)"
        " join pg_type t on t.oid = p.kind left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'"
        " where s.name = %s order by n",
        (name,),
    ).fetchall()
    return Prepared(statement, name, [(one, *kind) for one, kind in zip(names, described, strict=True)])


@dataclass(slots=True)
class Verdict:
    """``ran``: it was tried; ``telling``: past the wall it would have met another account's rows."""

    ran: bool = False
    telling: bool = False
    refused: str = ""


def judge(worlds: Worlds, one: Prepared) -> Verdict:
    """Fails when the statement meets the other account's rows, by whatever it gives or changes."""
    mine, theirs = worlds.mine, worlds.theirs
    verdict = Verdict()
    then = worlds.theirs_in(worlds.named(one.statement)) if writes(one.statement) else ""
    held = worlds.shared.outcome("select", then)[1] if then else ()
    for document in ("{}", "[]"):
        for given in (
            Given(mine, theirs, (mine, theirs), document),
            Given(theirs, theirs, (mine, theirs), document),
            Given(mine, mine, (mine,), document),
        ):
            call = one.call(given)
            got, kept = worlds.shared.outcome(call, then)
            lonely, _ = worlds.alone.outcome(call)
            # Of what is added, an id that somebody else has is refused: no row is seen by it.
            comparable = not one.adds or given.one == mine
            assert not comparable or got == lonely, f"another account's rows show: {got} for {lonely}\n{one.statement}"
            if got.refused:
                verdict.refused = got.refused
                continue
            assert kept == held, f"another account's rows are changed: {kept} were {held}\n{one.statement}"
            verdict.ran = True
            verdict.telling = comparable and worlds.past.outcome(call)[0] != lonely
            if verdict.telling:
                return verdict
    return verdict


@dataclass(slots=True)
class Tally:
    """How many statements were tried, and how many of them would show foreign rows without the wall; what could not be tried."""

    tried: int = 0
    telling: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def judge_all(there: Worlds, own: set[str], common: set[str]) -> Tally:
    """``common``: the chassis' statements, of which some are about tables that other services have."""
    tally = Tally()
    for number, statement in enumerate(guarding(there, own | common)):
        try:
            one = prepare(there, statement, f"s{number}")
        except psycopg.errors.UndefinedTable:
            assert statement in common, statement
            continue
        verdict = judge(there, one)
        tally.tried += 1
        tally.telling += verdict.telling
        if not verdict.ran and not (told := " ".join(statement.split())).startswith(tuple(UNTRIED)):
            tally.refused[told] = verdict.refused
    return tally


@pytest.mark.parametrize("service", SERVICES)
def test_no_statement_meets_a_foreign_row_without_its_where(service: str, servers: TestServers) -> None:
    own = written(f"relevo.{service}")
    common = written("relevo.chassis") - own if service in SHARED else set()
    with worlds(service, servers) as there:
        tally = judge_all(there, own, common)
    print(
        f"{service}: {tally.tried} statements without their WHERE, {tally.telling} of which tell that the wall is there"
    )
    assert not tally.refused, "these cannot be run, so nothing is seen of them: mend the test's values, or name them"
    assert tally.telling >= AT_LEAST[service]


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("service", COMPOSED)
def test_nor_does_what_is_composed_while_it_runs(service: str, servers: TestServers, tmp_path: Path) -> None:
    """Statements that functions compose are taken from what a service sends while its own tests run."""
    root = Path(__file__).parents[2]
    tests, least = COMPOSED[service]
    kept = tmp_path / "statements.json"
    path = os.pathsep.join([str(root / "tests"), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not deep", "--hypothesis-profile=ci", "-p", "contract.recorder"]
        + [str(root / "services" / service / "tests" / f"{test}.py") for test in tests],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path, "RELEVO_STATEMENTS": str(kept)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout[-3000:]  # what fails has sent its statements too
    known = written(f"relevo.{service}") | written("relevo.chassis")
    sent = {
        one
        for one in json.loads(kept.read_text())[service]
        if re.match(r"\s*(select|with|insert|update|delete)\b", one, re.IGNORECASE)
    }
    with worlds(service, servers) as there:
        tally = judge_all(there, sent - known, set())
    print(
        f"{service}: {tally.tried} composed statements without their WHERE, {tally.telling} of which tell that the wall is there"
    )
    assert not tally.refused, "these cannot be run, so nothing is seen of them: mend the test's values, or name them"
    assert tally.telling >= least


@pytest.mark.parametrize(
    ("statement", "bare"),
    [
        ("select a from t where b = 'where (' order by c", "select a from t order by c"),
        (
            "select a from (select b from t where (c) and d) x where e limit 1",
            "select a from (select b from t ) x limit 1",
        ),
        ("update t set a = (select 1 where b) where c returning d", "update t set a = (select 1 ) returning d"),
        ("select count(*) filter (where a) as n, 1 from t where b", "select count(*)  as n, 1 from t "),
        ("select 1 where a union all select 2 where b for update", "select 1 union all select 2 for update"),
        (
            "insert into t select a from u where b on conflict (c) where d do update set e = 1 where f",
            "insert into t select a from u on conflict (c) where d do update set e = 1 ",
        ),
        ("delete from t -- where it was\nwhere a = $x$ order $x$", "delete from t -- where it was\n"),
    ],
)
def test_what_a_statement_is_without_its_where(statement: str, bare: str) -> None:
    assert stripped(statement) == bare
