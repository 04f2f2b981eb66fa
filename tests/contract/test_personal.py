"""What is held of people is written down: every column and every field of a message that could tell of one."""

import importlib
import json
from typing import Any

import psycopg
import pytest
from contract.samples import FOLDER
from pydantic import BaseModel

from relevo.chassis.database import Database, Pool
from relevo.chassis.erasing import Person, Personal, clean
from relevo.chassis.testing import template_database
from relevo.contracts import personal
from relevo.contracts.base import Id, new_id, now
from relevo.contracts.catalogue import BY_NAME, HOLDERS, MESSAGES, SERVICES, decode
from relevo.contracts.erasure import ErasePerson
from relevo.contracts.grants import cleared_by, filled_by_others, kept_by, service_grants
from relevo.contracts.streams import BY_NAME as STREAMS
from relevo.stack.testing import TestServers

CHASSIS = {
    "dead_letters",  # whole messages: relevo.chassis.erasing
    "idempotency",
    "outbox",  # relevo.chassis.eraser
    "account_drops",  # counts of what is gone
    "account_drop_objects",
    "erasures",
    "erasing_messages",
    "erasing_objects",
    "segments",
    "alembic_version",
    "directory",  # the team's own people
    "handled",
    "label_names",  # the team's own words
    "position",
    "rebuilds",
    "relay_mark",
    "timers",  # their payloads are ids
}
COLUMNS = """
    select c.relname, a.attname from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    join pg_type t on t.oid = a.atttypid left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
      and coalesce(e.typname, t.typname) in ('text', 'varchar', 'json', 'jsonb', 'bytea', 'tsvector', 'xml', 'citext')
    order by 1, 2
"""


def declared(service: str) -> Personal:
    """What a service says it holds of people; nothing, where nobody tells it anything of them."""
    if service not in HOLDERS:
        return Personal()
    found: Personal = importlib.import_module(f"relevo.{service}.personal").PERSONAL
    return found


@pytest.mark.parametrize("service", HOLDERS)
def test_every_column_that_could_tell_of_somebody_is_in_one_list(service: str, servers: TestServers) -> None:
    mine = declared(service)
    listed = [(held.table, column) for held in mine.held for column in held.columns]
    for lists in (mine.plain, mine.also_columns):
        listed += [(table, column) for table, columns in lists.items() for column in columns]
    dsn = template_database(servers, f"relevo.{service}.migrations")
    with psycopg.connect(dsn) as connection:
        there = {(t, c) for t, c in connection.execute(COLUMNS).fetchall() if t not in CHASSIS}
    unlisted = sorted(f"{table}.{column}" for table, column in there - set(listed))
    assert not unlisted, (
        f"say in {service}/personal.py whether these tell of people, and how they are erased: {unlisted}"
    )
    assert not sorted(set(listed) - there), "these are no columns of text"
    both = {one for one in listed if listed.count(one) > 1 and one[0] in mine.plain}
    assert not {(t, c) for t, c in both if c in mine.plain.get(t, ())}, "a column is personal, or it is not"


@pytest.mark.parametrize("service", HOLDERS)
async def test_what_is_declared_runs_and_touches_no_other_account(service: str, servers: TestServers) -> None:
    """Every statement is carried out for somebody of whom there is nothing."""
    dsn = servers.create_database(template=template_database(servers, f"relevo.{service}.migrations"))
    account = new_id()
    nobody = Person(new_id(), account, new_id(), (new_id(),), (new_id(),), ((new_id(), "a" * 26),), now())
    pool = Pool(servers.serving(dsn), service=service, size=1, lease_seconds=4)
    try:
        async with Database(pool, service).begin(account) as tx:
            await clean(tx, declared(service), nobody)
    finally:
        await pool.close()
    for held in declared(service).held:
        assert ":account" in held.rows, f"{held.table}: name the account"


def _fields(model: type[BaseModel], seen: set[type[BaseModel]]) -> None:
    if model in seen:
        return
    seen.add(model)
    for field in model.model_fields.values():
        for part in personal._models(field.annotation):
            _fields(part, seen)


def _says(annotation: Any, metadata: Any) -> bool:
    """Whether a field of this type can say anything: text that is no id, or JSON."""
    if annotation in (str, Any) or annotation in (dict, list):
        return not any(part in metadata for part in Id.__metadata__)
    if getattr(annotation, "__metadata__", None) is not None:
        return _says(annotation.__origin__, annotation.__metadata__)
    arguments = getattr(annotation, "__args__", ())
    if str(getattr(annotation, "__origin__", "")) == "typing.Literal":
        return False
    return any(_says(one, metadata) for one in arguments if one is not Ellipsis)


def test_every_field_of_the_bus_that_could_tell_of_somebody_is_in_one_list() -> None:
    models: set[type[BaseModel]] = set()
    for message in MESSAGES:
        _fields(message.model, models)
    listed = {
        f"{m.__module__.rpartition('.')[2]}.{m.__name__}.{name}"
        for m, empty in personal.PERSONAL.items()
        for name in empty
    }
    missing = []
    for model in models:
        module = model.__module__.rpartition(".")[2]
        inherited = [base for base in model.__mro__[1:] if base in models or base in personal.PERSONAL]
        for name, field in model.model_fields.items():
            place = f"{module}.{model.__name__}.{name}"
            if module in personal.ABOUT_THE_TEAM or place in personal.NOT_PERSONAL or place in listed:
                assert not (place in personal.NOT_PERSONAL and place in listed)
                continue
            if any(name in base.model_fields for base in inherited):
                continue
            if _says(field.annotation, field.metadata):
                missing.append(place)
    assert not sorted(missing), "say in contracts/personal.py whether these tell of people"


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_an_event_without_the_person_still_is_one_and_twice_changes_nothing(name: str) -> None:
    body = json.dumps(json.loads((FOLDER / f"{name}.json").read_text())["body"]).encode()
    once = personal.redact(name, body)
    assert personal.redact(name, once) == once
    before, after = decode(name, body), decode(name, once)
    assert type(before) is type(after)
    for field, value in after:
        if field.endswith("_id") or field in ("sequence", "at", "created_at", "version"):
            assert value == getattr(before, field) or field in personal.PERSONAL.get(type(after), {})


def test_who_is_told_anything_of_people_is_told_to_forget_them_and_nobody_else() -> None:
    assert personal.who_holds() == HOLDERS
    (erase,) = [message for message in MESSAGES if message.model is ErasePerson]
    assert set(erase.consumers) == set(HOLDERS) - {"conversation"}
    assert erase.publishers == ("conversation",)


def test_one_service_a_stream_may_delete_messages_and_nobody_may_purge() -> None:
    may: dict[str, list[str]] = {}
    for service in SERVICES:
        for subject in service_grants(service).publish:
            assert not subject.startswith(("$JS.API.STREAM.PURGE", "$JS.API.STREAM.DELETE", "$JS.API.STREAM.UPDATE"))
            if subject.startswith("$JS.API.STREAM.MSG.DELETE."):
                may.setdefault(subject.rpartition(".")[2], []).append(service)
    assert all(len(services) == 1 for services in may.values()), may
    assert may == {stream.name: [service] for service in SERVICES for stream in cleared_by(service)}
    # Of what is the platform's nobody deletes anything, and everything else that is of an account is cleared with it.
    assert set(may) == set(STREAMS) - {"CMD_ACCOUNTS"}
    of_people = {stream.name for service in SERVICES for stream in kept_by(service)}
    assert not of_people & {"METRICS", "CMD_ERASURE", "EVT_IDENTITY", "EVT_PRESENCE", "CMD_PRESENCE"}
    assert all(set(kept_by(service)) <= set(cleared_by(service)) for service in SERVICES)
    # Nothing that somebody else fills may be deleted but by its reader, and that only once the fillers are done.
    for message in MESSAGES:
        keepers = may.get(message.stream.name, [])
        others = set(message.publishers) - set(keepers)
        if keepers and others and message.stream.name != "INBOUND":
            assert filled_by_others(message.stream)
