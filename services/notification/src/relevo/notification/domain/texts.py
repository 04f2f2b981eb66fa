"""What people are told, in Spanish and English."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from string import Formatter
from typing import Any, Final, Literal

from relevo.kernel.zones import zone_named
from relevo.notification.domain.access_texts import ACCESS

Language = Literal["es", "en"]

_MAX_VALUE: Final = 300
_WHOLE: Final = frozenset({"link", "transcript", "comment", "words"})


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
    "offer": {
        "es": ("Se te ofrece la conversación #{number}", "Tienes {seconds} s para aceptarla."),
        "en": ("Conversation #{number} is offered to you", "You have {seconds} s to accept it."),
    },
    "offers_paused": {
        "es": (
            "No recibes más conversaciones",
            "Dejaste pasar {count} ofertas: cambia de estado cuando puedas atender.",
        ),
        "en": (
            "You get no more conversations",
            "You let {count} offers pass: change your status when you can take some.",
        ),
    },
    "mention": {
        "es": ("{author} te menciona en la conversación #{number}", "{text}"),
        "en": ("{author} mentioned you in conversation #{number}", "{text}"),
    },
    "message": {
        "es": ("{contact} escribe en la conversación #{number}", "{text}"),
        "en": ("{contact} wrote in conversation #{number}", "{text}"),
    },
    "reminder": {
        "es": ("Recordatorio: conversación #{number} con {contact}", "{text}"),
        "en": ("Reminder: conversation #{number} with {contact}", "{text}"),
    },
    "alert": {
        "es": ("{title}", "{text}"),
        "en": ("{title}", "{text}"),
    },
    "endpoint_paused": {
        "es": (
            "El webhook de {host} está en pausa",
            "No ha aceptado nada en un día, o pide que no se le envíe más ({error}). Lo pendiente espera: arréglalo y reanúdalo.",
        ),
        "en": (
            "The webhook to {host} is paused",
            "It has taken nothing for a day, or asks for nothing more ({error}). What is pending waits: mend it and resume it.",
        ),
    },
    "sla_warned_first_response": {
        "es": (
            "Conversación #{number}: pronto vence la primera respuesta",
            "El plazo acordado está a punto de cumplirse.",
        ),
        "en": ("Conversation #{number}: the first reply is due soon", "The agreed time is about to run out."),
    },
    "sla_breached_first_response": {
        "es": ("Conversación #{number}: ha vencido la primera respuesta", "Se ha pasado el plazo acordado."),
        "en": ("Conversation #{number}: the first reply is overdue", "The agreed time has run out."),
    },
    "sla_warned_next_response": {
        "es": ("Conversación #{number}: pronto vence la respuesta", "El plazo acordado está a punto de cumplirse."),
        "en": ("Conversation #{number}: the reply is due soon", "The agreed time is about to run out."),
    },
    "sla_breached_next_response": {
        "es": ("Conversación #{number}: ha vencido la respuesta", "Se ha pasado el plazo acordado."),
        "en": ("Conversation #{number}: the reply is overdue", "The agreed time has run out."),
    },
    "sla_warned_resolution": {
        "es": ("Conversación #{number}: pronto vence la resolución", "El plazo acordado está a punto de cumplirse."),
        "en": ("Conversation #{number}: the resolution is due soon", "The agreed time is about to run out."),
    },
    "sla_breached_resolution": {
        "es": ("Conversación #{number}: ha vencido la resolución", "Se ha pasado el plazo acordado."),
        "en": ("Conversation #{number}: the resolution is overdue", "The agreed time has run out."),
    },
    "alert_status_available": {
        "es": ("{name} lleva {minutes} min o más disponible", "Pediste que te avisáramos."),
        "en": ("{name} has been available for {minutes} min or more", "You asked to be told."),
    },
    "alert_status_busy": {
        "es": ("{name} lleva {minutes} min o más con estado ocupado", "Pediste que te avisáramos."),
        "en": ("{name} has been busy for {minutes} min or more", "You asked to be told."),
    },
    "alert_status_away": {
        "es": ("{name} lleva {minutes} min o más con estado ausente", "Pediste que te avisáramos."),
        "en": ("{name} has been away for {minutes} min or more", "You asked to be told."),
    },
    "alert_status_offline": {
        "es": ("{name} lleva {minutes} min o más sin conexión", "Pediste que te avisáramos."),
        "en": ("{name} has been offline for {minutes} min or more", "You asked to be told."),
    },
    "alert_outside_shift": {
        "es": ("{name} está en línea fuera de su turno desde hace {minutes} min o más", "Pediste que te avisáramos."),
        "en": ("{name} has been online outside of their shift for {minutes} min or more", "You asked to be told."),
    },
    "alert_nobody_available": {
        "es": ("No hay nadie disponible en {name} desde hace {minutes} min o más", "Pediste que te avisáramos."),
        "en": ("Nobody of {name} has been available for {minutes} min or more", "You asked to be told."),
    },
    "rule_mail": {
        "es": ("{rule}: conversación #{number}", "{words}"),
        "en": ("{rule}: conversation #{number}", "{words}"),
    },
    "rule_mail_contact": {
        "es": ("{rule}: ha cambiado un contacto", "{words}"),
        "en": ("{rule}: a contact has changed", "{words}"),
    },
    "transcript": {
        "es": ("Conversación #{number} con {account}", "{comment}{transcript}"),
        "en": ("Conversation #{number} with {account}", "{comment}{transcript}"),
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
    places = _places(title, body)
    if missing := sorted(places - data.keys()):
        raise MissingData(f"text {template!r} needs {', '.join(missing)} in its data")
    values = {name: _value(name, data[name]) for name in places}
    # A title is one line: it becomes a header.
    return Text(" ".join(title.format_map(values).split()), body.format_map(values).strip())


@lru_cache
def _places(*parts: str) -> frozenset[str]:
    return frozenset(name for part in parts for _, name, _, _ in Formatter().parse(part) if name)


def _value(name: str, given: Any) -> str:
    text = str(given)
    # A link that is cut leads nowhere; a transcript is what its reader asked for, and its sender kept it short enough.
    return text if name in _WHOLE or len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"


_OPEN: Final[Mapping[Language, str]] = {"es": "Abrir en Relevo", "en": "Open in Relevo"}
_CHOOSE: Final[Mapping[Language, str]] = {
    "es": "Elige en Relevo, en Preferencias de notificación, de qué quieres saber por correo.",
    "en": "Choose in Relevo, under notification preferences, what you want to hear of by e-mail.",
}
_MONTHS: Final = ("ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sep", "oct", "nov", "dic")


@dataclass(frozen=True, slots=True)
class Footing:
    """What stands below an e-mail of the kinds that a person can choose: when it was, and where to choose."""

    at: datetime
    time_zone: str
    account: str

    def lines(self, language: Language) -> tuple[str, str]:
        """In the reader's language and zone."""
        return f"{self.account} · {local(self.at, self.time_zone, language)}", _CHOOSE[language]


def local(at: datetime, time_zone: str, language: Language) -> str:
    """A moment as somebody in that zone reads it; UTC when the zone is none."""
    zone = zone_named(time_zone)
    there, shown = at.astimezone(zone or UTC), time_zone if zone else "UTC"
    month = _MONTHS[there.month - 1] if language == "es" else f"{there:%b}"
    return f"{there.day} {month} {there.year}, {there:%H:%M} ({shown})"


def mail_text(text: Text, language: Language, link: str | None, footing: Footing | None = None) -> str:
    """The plain part of an e-mail."""
    opening = f"\n{_OPEN[language]}: {link}\n" if link else ""
    below = "".join(f"{line}\n" for line in footing.lines(language)) if footing else ""
    return f"{text.body}\n{opening}" + (f"\n-- \n{below}" if below else "")


def mail_html(text: Text, language: Language, link: str | None, footing: Footing | None = None) -> str:
    """The HTML part of an e-mail; whatever people wrote is escaped."""
    body = html.escape(text.body).replace("\n", "<br>")
    anchor = f'<p><a href="{html.escape(link)}">{_OPEN[language]}</a></p>' if link else ""
    below = "<br>".join(html.escape(line) for line in footing.lines(language)) if footing else ""
    small = f'<p style="font-size:13px;color:#666">{below}</p>' if below else ""
    return (
        f'<!doctype html><html lang="{language}"><meta charset="utf-8">'
        '<body style="font:16px/1.5 system-ui,sans-serif;color:#1a1a1a">'
        f'<h1 style="font-size:18px">{html.escape(text.title)}</h1><p>{body}</p>{anchor}{small}</body></html>'
    )
