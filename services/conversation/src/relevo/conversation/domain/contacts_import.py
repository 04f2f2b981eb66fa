"""Importing contacts: what the columns of a file mean, and what its rows do to the contacts that there are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal

from relevo.contracts.snapshots import AttributeValue
from relevo.conversation.domain.attributes import Definition, Unfit, reading
from relevo.conversation.domain.csv_files import Record, unsafe
from relevo.conversation.domain.profile import READERS, Person, edit, label, phone_reader, read_label
from relevo.conversation.domain.state import Refused
from relevo.kernel.text import fold

Mode = Literal["create_and_update", "create", "update"]

ATTRIBUTE: Final = "attributes."
LABELS: Final = "labels"
KEYS: Final = ("identifier", "email", "phone")
"""By what a row finds its contact, in this order."""

_HEADINGS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "name": ("name", "nombre", "full name", "nombre completo", "nombre y apellidos", "contact", "contacto"),
        "email": ("email", "e-mail", "mail", "correo", "correo electronico", "email address"),
        "phone": ("phone", "phone number", "telefono", "movil", "celular", "whatsapp", "mobile", "numero de telefono"),
        "identifier": ("identifier", "identificador", "external id", "id externo"),
        "company": ("company", "company name", "empresa", "organizacion", "organization"),
        "city": ("city", "ciudad", "localidad", "town"),
        "country": ("country", "country code", "pais", "codigo de pais"),
        "language": ("language", "idioma", "lengua"),
        "labels": ("labels", "label", "etiquetas", "etiqueta", "tags"),
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row; `column` is a heading, empty where it is the row as a whole."""

    column: str
    es: str
    en: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A row that was not imported, as it came."""

    line: int
    cells: tuple[str, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a row says of a contact, in normal form; what it leaves empty is not in it."""

    record: Record
    values: Mapping[str, str]
    attributes: Mapping[str, AttributeValue]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What rows did. Of contacts that were there, the ones that changed, each with the names of what changed.

    ``released`` are the ids of those that let go of an identifier, e-mail or phone: another may have it now.
    """

    created: tuple[Person, ...]
    updated: tuple[tuple[Person, tuple[str, ...]], ...]
    released: tuple[str, ...]
    failed: tuple[Failed, ...]
    counts: Mapping[str, int]
    """Rows by what they did: created, updated, unchanged, skipped, failed."""


def suggested(header: Sequence[str], definitions: Iterable[tuple[str, str]]) -> list[str | None]:
    """What each column means, by its heading; `definitions` are keys and names of attributes. None: nothing we know."""
    known = {fold(word): target for target, words in _HEADINGS.items() for word in words}
    for key, name in definitions:
        known.setdefault(fold(name), ATTRIBUTE + key)
        known.setdefault(fold(key.replace("_", " ")), ATTRIBUTE + key)
    found: list[str | None] = []
    for heading in header:
        target = known.get(" ".join(fold(heading).replace("_", " ").split()))
        found.append(target if target not in found else None)
    return found


class Columns:
    """How the rows of a file are read: what each column means. Raises KeyError for an attribute that is not defined."""

    def __init__(
        self,
        header: Sequence[str],
        targets: Sequence[str | None],
        definitions: Mapping[str, Definition],
        region: str | None,
    ) -> None:
        self._header = tuple(header)
        self._readers: list[tuple[int, str, Callable[[str], Any]]] = []
        for at, target in enumerate(targets):
            if target is None:
                continue
            if target.startswith(ATTRIBUTE):
                definition = definitions[target.removeprefix(ATTRIBUTE)]
                self._readers.append((at, target, lambda text, d=definition: reading(d, text)))  # type: ignore[misc]
            elif target == LABELS:
                self._readers.append((at, target, _labels))
            else:
                self._readers.append((at, target, phone_reader(region) if target == "phone" else READERS[target]))

    def read(self, record: Record) -> Wanted | Failed:
        """What a row says, or everything that is wrong with it."""
        if record.broken:
            return _failed(
                record,
                "",
                "Hay unas comillas que no se cierran en esta línea.",
                "A quote in this line is never closed.",
            )
        if len(record.cells) > len(self._header) and any(record.cells[len(self._header) :]):
            here, there = len(record.cells), len(self._header)
            return _failed(
                record,
                "",
                f"Tiene {here} celdas y la cabecera {there}: pon entre comillas las que llevan el separador.",
                f"It has {here} cells, the header has {there}: put those that have the delimiter in quotes.",
            )
        faults: list[Fault] = []
        values: dict[str, str] = {}
        attributes: dict[str, AttributeValue] = {}
        labels: tuple[str, ...] = ()
        for at, target, reader in self._readers:
            text = unsafe(record.cells[at].strip()) if at < len(record.cells) else ""
            if not text:
                continue
            try:
                value = reader(text)
            except Unfit as unfit:
                faults.append(Fault(self._header[at], unfit.es, unfit.en))
                continue
            if target == LABELS:
                labels = value
            elif target.startswith(ATTRIBUTE):
                attributes[target.removeprefix(ATTRIBUTE)] = value
            elif value:
                values[target] = value
        if faults:
            return Failed(record.line, record.cells, tuple(faults))
        return Wanted(record, values, attributes, labels)


def _labels(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(read_label(part) for part in text.replace(";", ",").split(",") if part.strip()))


def _failed(record: Record, column: str, es: str, en: str) -> Failed:
    return Failed(record.line, record.cells, (Fault(column, es, en),))


@dataclass(slots=True)
class _Work:
    """The contacts of an account, as rows change them one after the other."""

    by_key: dict[tuple[str, str], str] = field(default_factory=dict)
    persons: dict[str, Person] = field(default_factory=dict)
    changed: dict[str, set[str]] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)

    def put(self, person: Person) -> None:
        if before := self.persons.get(person.id):
            for name in KEYS:
                if (value := getattr(before, name)) is not None:
                    self.by_key.pop((name, value), None)
        self.persons[person.id] = person
        for name in KEYS:
            if (value := getattr(person, name)) is not None:
                self.by_key[name, value] = person.id


def work(
    rows: Iterable[Wanted | Failed],
    known: Iterable[Person],
    *,
    mode: Mode,
    account_id: str,
    make_id: Callable[[], str],
    now: datetime,
) -> Outcome:
    """Take rows one after the other to the contacts; `known` are all that have an identifier, e-mail or phone of theirs.

    A row finds its contact by identifier, else e-mail, else phone; what it leaves empty stays, its labels are added.
    One that would give a contact what another has, or another identifier, fails. A contact changed by several rows is changed once.
    """
    state = _Work()
    for person in known:
        state.put(person)
    before = dict(state.persons)
    failed: list[Failed] = []
    counts = dict.fromkeys(("created", "updated", "unchanged", "skipped", "failed"), 0)
    for row in rows:
        did = "failed"
        if isinstance(row, Failed):
            failed.append(row)
        elif isinstance(done := _take(row, state, mode, account_id, make_id, now), Failed):
            failed.append(done)
        else:
            did = done
        counts[did] += 1
    updated, released = [], []
    for id_, names in state.changed.items():
        if id_ not in state.new:
            if any(getattr(before[id_], name) and name in names for name in KEYS):
                released.append(id_)
            person = replace(state.persons[id_], sequence=before[id_].sequence + 1)
            updated.append((person, tuple(sorted(names))))
    created = tuple(replace(person, sequence=1) for id_, person in state.persons.items() if id_ in state.new)
    return Outcome(created, tuple(updated), tuple(released), tuple(failed), counts)


def _take(  # noqa: PLR0917  (private, called once)
    row: Wanted, state: _Work, mode: Mode, account_id: str, make_id: Callable[[], str], now: datetime
) -> str | Failed:
    keys = [(name, row.values[name]) for name in KEYS if name in row.values]
    found = next((state.by_key[key] for key in keys if key in state.by_key), None)
    if (mode == "create" and found) or (mode == "update" and not found):
        return "skipped"
    if found is None and not keys and "name" not in row.values:
        return _failed(
            row.record,
            "",
            "No dice de quién es: falta un identificador, un correo, un teléfono o un nombre.",
            "It does not say whose it is: an identifier, an e-mail address, a telephone number or a name is missing.",
        )
    for name, value in keys:
        if state.by_key.get((name, value), found) != found:
            what = {
                "identifier": ("identificador", "identifier"),
                "email": ("correo", "e-mail"),
                "phone": ("teléfono", "phone"),
            }
            es, en = what[name]
            return _failed(
                row.record,
                "",
                f"El {es} {value} ya lo tiene otro contacto: corrige la fila o combina los dos contactos.",
                f"Another contact has the {en} {value} already: mend the row, or merge the two contacts.",
            )
    named = row.values.get("identifier")
    if found and named and (other := state.persons[found].identifier) not in {None, named}:
        return _failed(
            row.record,
            "",
            f"El contacto con ese correo o teléfono tiene otro identificador, {other}: corrige la fila o el contacto.",
            f"The contact with that e-mail or phone has another identifier, {other}: mend the row, or the contact.",
        )
    person = state.persons[found] if found else Person(id=make_id(), account_id=account_id, created_at=now)
    edited = edit(person, row.values, row.attributes)
    try:
        labelled = label(edited.person, row.labels)
    except Refused as refused:
        return _failed(row.record, "", refused.es, refused.en)
    names = {*edited.changed, *labelled.changed}
    if found and not names:
        return "unchanged"
    state.put(labelled.person)
    state.changed.setdefault(person.id, set()).update(names)
    if found:
        return "updated"
    state.new.add(person.id)
    return "created"
