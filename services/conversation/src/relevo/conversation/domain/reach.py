"""How a contact is reached on an inbox when the team writes first."""

from relevo.contracts.ingest import InboxState
from relevo.contracts.snapshots import ContactSnapshot
from relevo.conversation.domain.state import Refused


def source_of(inbox: InboxState, contact: ContactSnapshot, known: str | None) -> str:
    """The channel's own id of the contact: the one that they write from, else by address where the channel has those.

    Raises Refused when the inbox cannot reach them.
    """
    if contact.blocked:
        raise Refused(
            "contact_is_blocked",
            es="El contacto está bloqueado: desbloquéalo antes.",
            en="The contact is blocked: unblock it first.",
            pointer="/contact_id",
        )
    if not inbox.enabled:
        raise Refused(
            "inbox_is_off",
            es="La bandeja está desactivada: elige otra.",
            en="The inbox is switched off: choose another.",
            pointer="/inbox_id",
        )
    if known is not None:
        return known
    found = address_of(inbox, contact)
    if found is None:
        raise Refused(
            "contact_cannot_be_reached",
            es="Este contacto no se puede alcanzar por esta bandeja: falta su dirección, o aún no ha escrito por ella.",
            en="This contact cannot be reached on this inbox: their address is missing, or they have not written there yet.",
            pointer="/inbox_id",
        )
    return found


def address_of(inbox: InboxState, contact: ContactSnapshot) -> str | None:
    """The contact's own address where the channel has those; None: they must have written there before."""
    match inbox.channel:
        case "email":
            return contact.email
        case "sms":
            return contact.phone
        case "whatsapp":
            return contact.phone.removeprefix("+") if contact.phone else None
        case _:
            return None
