"""Who wrote: from what a channel knows of a sender to one contact of the account."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from relevo.contracts.inbound import Sender
from relevo.contracts.ingest import InboxState
from relevo.contracts.snapshots import ContactSnapshot
from relevo.kernel.identity import email_or_none, phone_or_none

# The same people write again and again, and reading a phone number is the dearest step of a message.
_email = lru_cache(maxsize=65_536)(email_or_none)
_phone = lru_cache(maxsize=65_536)(phone_or_none)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A sender on an inbox; e-mail and phone are in normal form."""

    account_id: str
    inbox_id: str
    source_id: str
    recipient_key: str
    name: str = ""
    email: str | None = None
    phone: str | None = None
    language: str | None = None

    @property
    def channel(self) -> tuple[str, str]:
        """What identifies the sender on the bus and in the database: inbox and source id."""
        return (self.inbox_id, self.source_id)


@dataclass(frozen=True, slots=True)
class NewContact:
    """A contact to be made: of whom it was seen first."""

    contact: ContactSnapshot
    sighting: Sighting


@dataclass(frozen=True, slots=True)
class Match:
    """The contact of every sighting, in order, and those that do not exist yet."""

    contacts: tuple[ContactSnapshot, ...]
    new: tuple[NewContact, ...]


def sighting(inbox: InboxState, recipient_key: str, sender: Sender) -> Sighting:
    """What is known of a sender. An address or number that cannot be read is left out, never guessed."""
    return Sighting(
        account_id=inbox.account_id,
        inbox_id=inbox.id,
        source_id=sender.id,
        recipient_key=recipient_key,
        name=sender.name,
        email=_email(sender.email) if sender.email else None,
        phone=_phone(sender.phone, inbox.phone_region) if sender.phone else None,
        language=sender.language,
    )


def match(sightings: Sequence[Sighting], found: Sequence[ContactSnapshot | None], make_id: Callable[[], str]) -> Match:
    """One contact for each sighting.

    ``found`` has the contact that exists already, by channel identity, else e-mail, else phone. The others become new
    contacts; two that share an e-mail address or, failing that, a phone number within an account become one.
    """
    by_key: dict[tuple[str, str], ContactSnapshot] = {}
    contacts: list[ContactSnapshot] = []
    new: list[NewContact] = []
    for seen, known in zip(sightings, found, strict=True):
        keys = [(seen.account_id, value) for value in (seen.email, seen.phone) if value]
        contact = known or next((by_key[key] for key in keys if key in by_key), None)
        if contact is None:
            contact = ContactSnapshot(
                id=make_id(), name=seen.name, email=seen.email, phone=seen.phone, language=seen.language
            )
            new.append(NewContact(contact, seen))
            by_key.update(dict.fromkeys(keys, contact))
        contacts.append(contact)
    return Match(tuple(contacts), tuple(new))
