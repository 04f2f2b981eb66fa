"""A contact as people edit it: what each field takes, and what an edit changes."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from relevo.contracts.snapshots import AttributeValue, ContactProfile, ContactSnapshot
from relevo.conversation.domain.attributes import Unfit
from relevo.conversation.domain.properties import MAX_LABELS
from relevo.conversation.domain.state import Refused
from relevo.kernel.identity import InvalidIdentity, normal_email, normal_phone
from relevo.kernel.text import clean

MAX_NAME: Final = 200
MAX_LABEL: Final = 60
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,3}")
_COUNTRY: Final = re.compile(r"[A-Za-z]{2}")


@dataclass(frozen=True, slots=True)
class Person:
    """A contact with all that is known of them. `sequence` is the number of their last event."""

    id: str
    account_id: str
    name: str = ""
    email: str | None = None
    phone: str | None = None
    language: str | None = None
    labels: tuple[str, ...] = ()
    blocked: bool = False
    identifier: str | None = None
    company: str = ""
    city: str = ""
    country: str | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    owner_id: str | None = None
    owner_team_id: str | None = None
    """An agent, or a team, or neither."""
    sequence: int = 1
    created_at: datetime | None = None

    @property
    def snapshot(self) -> ContactSnapshot:
        """What every event of their conversations carries."""
        return ContactSnapshot(
            id=self.id,
            name=self.name,
            email=self.email,
            phone=self.phone,
            language=self.language,
            labels=self.labels,
            blocked=self.blocked,
            owner_id=self.owner_id,
            owner_team_id=self.owner_team_id,
            company=self.company,
            city=self.city,
            country=self.country,
            attributes=dict(self.attributes),
        )

    @property
    def profile(self) -> ContactProfile:
        """The rest."""
        return ContactProfile(
            identifier=self.identifier,
            company=self.company,
            city=self.city,
            country=self.country,
            attributes=dict(self.attributes),
        )

    @property
    def reachable(self) -> bool:
        """Whether anything tells them from others: a name, an address, a number or an identifier."""
        return bool(self.name or self.email or self.phone or self.identifier)


@dataclass(frozen=True, slots=True)
class Edited:
    """A contact after an edit, and the names of what it changed; none: nothing happened."""

    person: Person
    changed: tuple[str, ...]


def edit(person: Person, values: Mapping[str, Any], attributes: Mapping[str, AttributeValue | None]) -> Edited:
    """Set fields, and attributes by key (None takes one away). The contact's sequence moves if anything changes."""
    changed = [name for name, value in values.items() if getattr(person, name) != value]
    held = dict(person.attributes)
    for key, value in attributes.items():
        before = held.get(key)
        # True equals 1: another kind of value is another value.
        if (type(before), before) == (type(value), value):
            continue
        changed.append(f"attributes.{key}")
        if value is None:
            del held[key]
        else:
            held[key] = value
    if not changed:
        return Edited(person, ())
    after = replace(person, **{name: values[name] for name in values}, attributes=held, sequence=person.sequence + 1)
    return Edited(after, tuple(sorted(changed)))


def own(person: Person, *, owner_id: str | None, owner_team_id: str | None) -> Edited:
    """Give the contact another owner; both None: nobody. Not both."""
    edited = edit(person, {"owner_id": owner_id, "owner_team_id": owner_team_id}, {})
    return Edited(edited.person, ("owner",) if edited.changed else ())


def label(person: Person, add: Iterable[str], remove: Iterable[str] = ()) -> Edited:
    """Put labels on, take others off; one named in both stays. Raises Refused above MAX_LABELS."""
    wanted = dict.fromkeys(add)
    off = set(remove) - wanted.keys()
    kept = [one for one in person.labels if one not in off]
    labels = (*kept, *(one for one in wanted if one not in kept))
    if len(labels) > MAX_LABELS:
        raise Refused(
            "too_many_labels",
            es=f"Un contacto lleva como mucho {MAX_LABELS} etiquetas: quita alguna.",
            en=f"A contact has at most {MAX_LABELS} labels: take some off.",
        )
    return edit(person, {"labels": labels}, {})


def _words(limit: int) -> Callable[[str], str]:
    def read(raw: str) -> str:
        text = " ".join(clean(raw).split())
        if len(text) > limit:
            raise Unfit(f"Tiene más de {limit} caracteres: acórtalo.", f"Has more than {limit} characters: shorten it.")
        return text

    return read


def _email(raw: str) -> str:
    try:
        return normal_email(raw)
    except InvalidIdentity as invalid:
        raise Unfit(
            "No es una dirección de correo: escríbela como nombre@ejemplo.com.", f"{invalid.reason} {invalid.mend}"
        ) from None


def phone_reader(region: str | None) -> Callable[[str], str]:
    """What reads telephone numbers; `region` is the country of those without a country code. It raises Unfit."""

    def read(raw: str) -> str:
        try:
            return normal_phone(raw, region)
        except InvalidIdentity as invalid:
            raise Unfit(
                "No es un teléfono: escríbelo con el prefijo de su país, como +34600111222.",
                f"{invalid.reason} {invalid.mend}",
            ) from None

    return read


def _identifier(raw: str) -> str:
    text = clean(raw).strip()
    if not 0 < len(text) <= 255 or "\n" in text:
        raise Unfit("Debe tener de 1 a 255 caracteres, en una línea.", "Must have 1 to 255 characters, on one line.")
    return text


def _language(raw: str) -> str:
    tag = clean(raw).strip()
    if not _LANGUAGE.fullmatch(tag):
        raise Unfit("Debe ser un código de idioma, como es o es-MX.", "Must be a language code, such as en or es-MX.")
    first, *rest = tag.replace("_", "-").split("-")
    return "-".join([first.lower(), *(part.upper() if len(part) == 2 else part for part in rest)])


def _country(raw: str) -> str:
    code = clean(raw).strip()
    if not _COUNTRY.fullmatch(code):
        raise Unfit(
            "Debe ser el código de dos letras de un país, como ES o MX.",
            "Must be the two-letter code of a country, such as ES or MX.",
        )
    return code.upper()


def read_label(raw: str) -> str:
    """A label in normal form. Raises Unfit."""
    text = _words(MAX_LABEL)(raw)
    if not text:
        raise Unfit("Una etiqueta no puede estar vacía.", "A label cannot be empty.")
    return text


READERS: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType(
    {
        "name": _words(MAX_NAME),
        "email": _email,
        "phone": phone_reader(None),
        "identifier": _identifier,
        "company": _words(MAX_NAME),
        "city": _words(MAX_NAME),
        "country": _country,
        "language": _language,
    }
)
"""What each field takes, in normal form; each raises Unfit."""

EMPTY: Final[Mapping[str, str | None]] = MappingProxyType(
    {one.name: one.default for one in fields(Person) if one.name in READERS}  # type: ignore[misc]
)
"""What a field is when there is nothing in it."""
