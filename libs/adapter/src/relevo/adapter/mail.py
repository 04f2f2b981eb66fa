"""For adapters of mailboxes: whether a person wrote a mail, or a machine did."""

from email.message import Message
from typing import Final

_PRECEDENCES: Final = frozenset({"bulk", "list", "junk", "auto_reply", "auto-reply"})
_HEADERS: Final = ("List-Id", "List-Unsubscribe", "X-Autoreply", "X-Autorespond", "X-Auto-Reply", "Auto-Reply")
_MACHINES: Final = ("mailer-daemon", "postmaster", "no-reply", "noreply", "do-not-reply", "donotreply")


def automatic(mail: Message) -> bool:
    """Whether a machine wrote it: an out-of-office reply, a bounce or other report, a list's or a bulk mail.

    What it answers True for goes on as ``InboundMessage(automatic=True)``: shown like any other, and answered by nothing
    that answers by itself. In doubt it is a person's.
    """
    # RFC 3834; "auto-replied; owner-email=…" is one, "no" is none.
    submitted = _first(mail, "Auto-Submitted").partition(";")[0].strip()
    if submitted not in ("", "no"):
        return True
    if _first(mail, "Precedence") in _PRECEDENCES or any(_first(mail, name) for name in _HEADERS):
        return True
    if _first(mail, "X-Auto-Response-Suppress") not in ("", "none"):
        return True
    if mail.get_content_type() == "multipart/report" or _first(mail, "Return-Path") == "<>":
        return True
    address = _first(mail, "From").rpartition("<")[2].rstrip("> ")
    return address.partition("@")[0] in _MACHINES


def _first(mail: Message, name: str) -> str:
    return str(mail.get(name, "")).strip().lower()
