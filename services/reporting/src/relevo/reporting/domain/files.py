"""Reports as tables: headings in two languages, numbers as numbers, times in the zone that the heading names. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from relevo.contracts.metrics import BUSINESS_TIMES, METRICS, NAMES, RATES, Fact, Metric, RateName

Language = Literal["es", "en"]
Cell = str | int | float | None

_HEADINGS: Final = {
    "metric": ("Métrica", "Metric"),
    "code": ("Código", "Code"),
    "unit": ("Unidad", "Unit"),
    "count": ("Número", "Count"),
    "sum": ("Suma", "Sum"),
    "mean": ("Media", "Mean"),
    "mean_read": ("Media (h:mm:ss)", "Mean (h:mm:ss)"),
    "median": ("Mediana", "Median"),
    "p90": ("Percentil 90", "90th percentile"),
    "p95": ("Percentil 95", "95th percentile"),
    "name": ("Nombre", "Name"),
    "id": ("Id", "Id"),
    "start": ("Inicio", "Start"),
    "weekday": ("Día de la semana", "Weekday"),
    "hour": ("Hora", "Hour"),
    "hours": ("Horas del periodo", "Hours of the period"),
    "at": ("Momento", "At"),
    "value": ("Valor", "Value"),
    "conversation": ("Conversación", "Conversation"),
    "agent": ("Agente", "Agent"),
    "team": ("Equipo", "Team"),
    "inbox": ("Bandeja", "Inbox"),
    "channel": ("Canal", "Channel"),
    "labels": ("Etiquetas", "Labels"),
    "priority": ("Prioridad", "Priority"),
    "language": ("Idioma", "Language"),
    "state": ("Estado", "State"),
    "cause": ("Evento", "Event"),
}
_UNITS: Final = {"count": ("número", "count"), "seconds": ("segundos", "seconds"), "rating": ("valoración", "rating")}
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def harmless(cell: Cell) -> Cell:
    """The cell so that no spreadsheet takes text for a formula: an apostrophe stands before it. Numbers stay."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def headings(names: Sequence[str], language: Language, zone: ZoneInfo | None = None) -> list[str]:
    """The first line. A time's heading names the zone in which the times below are written."""
    at = 0 if language == "es" else 1
    return [
        f"{_HEADINGS[name][at]} ({zone.key})" if zone and name in {"start", "at", "hour"} else _HEADINGS[name][at]
        for name in names
    ]


def name_of(metric: Metric, language: Language) -> str:
    """What people call it."""
    return NAMES[metric][0 if language == "es" else 1]


def unit_of(metric: Metric, language: Language) -> str:
    """What its values are."""
    return _UNITS[METRICS[metric].unit][0 if language == "es" else 1]


def rate_name(rate: RateName, language: Language) -> str:
    """What people call it."""
    return RATES[rate].name[0 if language == "es" else 1]


def share_unit(language: Language) -> str:
    """What a rate's value is."""
    return "proporción" if language == "es" else "share"


def read_out(seconds: float | None) -> str | None:
    """Seconds as hours, minutes and seconds, for people: 1:02:03; whole hours run on past a day."""
    if seconds is None:
        return None
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def local(moment: datetime, zone: ZoneInfo) -> str:
    """A moment in the zone, with its offset, so that the hour that a clock change repeats is told apart."""
    return moment.astimezone(zone).isoformat(timespec="seconds")


FACT_COLUMNS: Final = (
    *("at", "code", "value", "conversation", "agent", "team", "inbox", "channel", "labels", "priority"),
    *("language", "state", "cause"),
)


def fact_row(fact: Fact, names: dict[str, str], zone: ZoneInfo, *, business_hours: bool = False) -> list[Cell]:
    """One fact as a line; people, teams, inboxes and labels by name where it is known. Times in business hours, if so."""
    d = fact.dimensions
    called = [names.get(id_, id_) if id_ else None for id_ in (d.agent_id, d.team_id, d.inbox_id)]
    labels = ", ".join(names.get(f"label:{key}", key) for key in d.labels)
    value: Cell = int(fact.value) if fact.unit == "count" else fact.value
    if business_hours and fact.metric in BUSINESS_TIMES:
        value = fact.business_value
    return [
        *(local(fact.at, zone), fact.metric, value, fact.conversation_id, *called, d.channel, labels or None),
        *(d.priority, d.language, d.state, fact.cause_event_id),
    ]
