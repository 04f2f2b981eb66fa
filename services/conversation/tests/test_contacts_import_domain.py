"""CSV in any window, and what rows do to contacts."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from relevo.contracts.base import new_id, now
from relevo.conversation.domain.attributes import Definition
from relevo.conversation.domain.contacts_import import Columns, Failed, suggested, work
from relevo.conversation.domain.csv_files import MAX_LINE, Place, Record, decoded, delimiter_of, read, safe, unsafe
from relevo.conversation.domain.profile import Person

CELLS = st.text(st.sampled_from("abñ é,;\"\n€🐟0'=+"), max_size=12)
TABLES = st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=12)


def written(table, delimiter, line_end="\r\n"):
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=line_end).writerows(table)
    return out.getvalue().encode()


@given(TABLES, st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.integers(1, 5))
def test_whatever_was_written_is_read_in_any_number_of_windows(table, delimiter, line_end, limit):
    data = written(table, delimiter, line_end)
    found, place = [], Place(0, 1)
    while place.offset < len(data):
        window = read(data[place.offset :], place, delimiter, last=True, limit=limit)
        assert window.next.offset > place.offset
        found += window.records
        place = window.next
    assert [r.cells for r in found] == [tuple(row) for row in table if any(row)]
    assert not any(r.broken for r in found)
    assert place.line == data.count(b"\n") + 1


@given(TABLES, st.integers(0, 200))
def test_a_window_that_ends_anywhere_loses_no_record(table, cut):
    data = written(table, ",")
    cut = min(cut, len(data))
    first = read(data[:cut], Place(0, 1), ",", last=False, limit=1000)
    rest = read(data[first.next.offset :], first.next, ",", last=True, limit=1000)
    assert [r.cells for r in (*first.records, *rest.records)] == [tuple(row) for row in table if any(row)]


def test_a_quote_that_is_never_closed_spoils_its_own_line_only():
    data = b'a,"b\nc,d\ne,f\n'
    window = read(data, Place(0, 1), ",", last=True, limit=10)
    assert [(r.line, r.cells, r.broken) for r in window.records] == [
        (1, ("a", "b"), True),
        (2, ("c", "d"), False),
        (3, ("e", "f"), False),
    ]
    # However much follows it.
    long = b'a,"b\n' + b"x" * 99 + b"\n" + b"c,d\n" * (MAX_LINE // 2)
    window = read(long, Place(0, 1), ",", last=False, limit=3)
    assert [(r.line, r.broken) for r in window.records] == [(1, True), (2, False), (3, False)]


def test_lines_of_windows_and_of_unicode_in_one_file():
    assert decoded("Núñez €".encode("cp1252")) == "Núñez €" == decoded("Núñez €".encode())
    assert delimiter_of('"a,b";c;d') == ";"
    assert delimiter_of("solo") == ","


@given(st.text(max_size=20))
def test_what_is_made_safe_for_a_spreadsheet_comes_back(cell):
    assert unsafe(safe(cell)) == cell or cell.startswith("'")
    assert not safe(cell).startswith(("=", "+", "-", "@"))


def test_what_columns_mean_is_guessed_from_either_language():
    header = ["Nombre completo", "CORREO ELECTRÓNICO", "phone_number", "Talla", "Empresa", "Email", "x"]
    assert suggested(header, [("talla", "Talla de pie")]) == [
        "name",
        "email",
        "phone",
        "attributes.talla",
        "company",
        None,
        None,
    ]


DEFINITIONS = {
    "puntos": Definition("puntos", "number"),
    "alta": Definition("alta", "date"),
    "plan": Definition("plan", "list", ("Básico", "Año")),
    "socio": Definition("socio", "checkbox"),
}


def row(line=2, broken=False, **cells):
    header = list(cells)
    columns = Columns(header, [name.replace("__", ".") for name in header], DEFINITIONS, "ES")
    return columns.read(Record(line, tuple(cells.values()), broken))


def test_cells_are_read_as_people_write_them():
    wanted = row(
        name=" Ana ",
        phone="600 111 222",
        labels="vip; norte,vip",
        attributes__puntos="1234,5",
        attributes__alta="31/01/2025",
        attributes__plan="BASICO",
        attributes__socio="Sí",
        city="",
    )
    assert wanted.values == {"name": "Ana", "phone": "+34600111222"}
    assert wanted.labels == ("vip", "norte")
    assert wanted.attributes == {"puntos": 1234.5, "alta": "2025-01-31", "plan": "Básico", "socio": True}


def test_every_cell_that_is_wrong_is_told_with_its_column():
    failed = row(name="x", email="no", phone="12", attributes__puntos="1.234,5", attributes__alta="31/02/2025")
    assert isinstance(failed, Failed)
    assert [fault.column for fault in failed.faults] == ["email", "phone", "attributes__puntos", "attributes__alta"]
    assert all(fault.es and fault.en and fault.es != fault.en for fault in failed.faults)
    assert isinstance(row(name="x", broken=True), Failed)
    columns = Columns(["name"], ["name"], {}, None)
    assert isinstance(columns.read(Record(2, ("a", "b"))), Failed)
    assert not isinstance(columns.read(Record(2, ("a", "", ""))), Failed)


def done(rows, known=(), mode="create_and_update"):
    return work(rows, known, mode=mode, account_id="a", make_id=new_id, now=now())


def person(**fields):
    return Person(id=new_id(), account_id="a", **fields)


def test_a_row_finds_its_contact_by_identifier_then_email_then_phone():
    ana, luz, eva = person(identifier="1"), person(email="luz@x.es"), person(phone="+34600111222")
    known = (ana, luz, eva)
    for cells, expected in (
        ({"identifier": "1", "name": "A"}, ana),
        ({"identifier": "9", "email": "luz@x.es", "name": "L"}, luz),
        ({"email": "otra@x.es", "phone": "600111222", "name": "E"}, eva),
    ):
        outcome = done([row(**cells)], known)
        assert [p.id for p, _ in outcome.updated] == [expected.id]
        assert outcome.updated[0][0].sequence == 2


def test_what_another_contact_has_is_refused_and_an_empty_cell_takes_nothing_away():
    ana, luz = person(identifier="1", city="Vigo"), person(email="luz@x.es")
    outcome = done([row(identifier="1", email="luz@x.es"), row(identifier="1", city="", name="Ana")], (ana, luz))
    assert outcome.counts == {"created": 0, "updated": 1, "unchanged": 0, "skipped": 0, "failed": 1}
    ((after, changed),) = outcome.updated
    assert (after.city, changed) == ("Vigo", ("name",))


def test_rows_of_one_person_become_one_contact_and_one_event():
    rows = [row(email="a@x.es", name="A"), row(email="a@x.es", city="Lugo"), row(email="a@x.es", city="Lugo")]
    outcome = done(rows)
    assert outcome.counts["created"] == 1 == outcome.counts["updated"] == outcome.counts["unchanged"]
    (made,) = outcome.created
    assert (made.name, made.city, made.sequence, outcome.updated) == ("A", "Lugo", 1, ())


def test_the_mode_decides_what_rows_may_do():
    ana = person(email="a@x.es")
    rows = [row(email="a@x.es", name="A"), row(email="b@x.es", name="B")]
    assert done(rows, [ana], "create").counts["created"] == 1 == done(rows, [ana], "create").counts["skipped"]
    only = done(rows, [ana], "update")
    assert (only.counts["updated"], only.counts["skipped"], only.created) == (1, 1, ())
    assert done([row(city="Lugo")]).counts["failed"] == 1


KEYS = {"identifier": ["", "1", "2", "3"], "email": ["", "a@x.es", "b@x.es"], "phone": ["", "600111222", "600111223"]}


@given(st.lists(st.fixed_dictionaries({name: st.sampled_from(values) for name, values in KEYS.items()}), max_size=30))
def test_however_rows_come_no_two_contacts_share_a_key_and_every_row_is_counted(cells):
    rows = [row(at, name=f"n{at}", **one) for at, one in enumerate(cells)]
    outcome = done(rows)
    for name in KEYS:
        held = [getattr(p, name) for p in outcome.created if getattr(p, name)]
        assert len(held) == len(set(held))
    assert sum(outcome.counts.values()) == len(rows)
    assert len(outcome.created) == outcome.counts["created"]
    # Chunk by chunk gives what all at once gives.
    first = done(rows[:7])
    second = done(rows[7:], first.created)
    assert first.counts["failed"] + second.counts["failed"] == outcome.counts["failed"]
    assert len(first.created) + len(second.created) == len(outcome.created)
