"""What people are told, in Spanish and English."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any, Final, Literal

from relevo.notification.domain.access_texts import ACCESS

Language = Literal["es", "en"]

_MAX_VALUE: Final = 300


class UnknownTemplate(ValueError):
    """There is no text of this name."""


class MissingData(ValueError):
    """A text has places that the data do not fill."""


@dataclass(frozen=True, slots=True)
class Text:
    """A title and a body, filled."""

    title: str
    body: str


_TEMPLATES: Final[Mapping[str, Mapping[Language, tuple[str, str]]]] = {
    "assignment": {
        "es": ("Se te ha asignado la conversación #{number}", "Con {contact}."),
        "en": ("Conversation #{number} was assigned to you", "With {contact}."),
    },
    "mention": {
        "es": ("{author} te menciona en la conversación #{number}", "{text}"),
        "en": ("{author} mentioned you in conversation #{number}", "{text}"),
    },
    "alert": {
        "es": ("{title}", "{text}"),
        "en": ("{title}", "{text}"),
    },
    **ACCESS,
}

TEMPLATES: Final = frozenset(_TEMPLATES)


def fill(template: str, language: Language, data: Mapping[str, Any]) -> Text:
    """The text for a person. Values are cut at a reasonable length; what they hold is never read as a template.

    Raises UnknownTemplate, MissingData naming the places.
    """
    found = _TEMPLATES.get(template)
    if found is None:
        raise UnknownTemplate(f"there is no text {template!r}; there are {', '.join(sorted(_TEMPLATES))}")
    title, body = found[language]
    places = {name for part in (title, body) for _, name, _, _ in Formatter().parse(part) if name}
    if missing := sorted(places - set(data)):
        raise MissingData(f"text {template!r} needs {', '.join(missing)} in its data")
    values = {name: _value(name, data[name]) for name in places}
    # A title is one line: it becomes a header.
    return Text(" ".join(title.format_map(values).split()), body.format_map(values).strip())


def _value(name: str, given: Any) -> str:
    text = str(given)
    # A link that is cut leads nowhere.
    return text if name == "link" or len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"


_OPEN: Final[Mapping[Language, str]] = {"es": "Abrir en Relevo", "en": "Open in Relevo"}


def mail_text(text: Text, language: Language, link: str | None) -> str:
    """The plain part of an e-mail."""
    return f"{text.body}\n" + (f"\n{_OPEN[language]}: {link}\n" if link else "")


def mail_html(text: Text, language: Language, link: str | None) -> str:
    """The HTML part of an e-mail; whatever people wrote is escaped."""
    body = html.escape(text.body).replace("\n", "<br>")
    anchor = f'<p><a href="{html.escape(link)}">{_OPEN[language]}</a></p>' if link else ""
    return (
        f'<!doctype html><html lang="{language}"><meta charset="utf-8">'
        '<body style="font:16px/1.5 system-ui,sans-serif;color:#1a1a1a">'
        f'<h1 style="font-size:18px">{html.escape(text.title)}</h1><p>{body}</p>{anchor}</body></html>'
    )
