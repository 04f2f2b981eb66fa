"""When a rule's schedule comes due. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import Field, StringConstraints

from relevo.automation.domain.reviews import Among
from relevo.kernel.zones import zone_named

CLOSEST: Final = timedelta(minutes=15)
"""Two times of a schedule are at least so far apart."""
_LOOKED_AT: Final = 200
_FIELDS: Final = 5
_BAD: Final = {
    "Bad minute": ("el minuto no es válido", "bad minute"),
    "Bad hour": ("la hora no es válida", "bad hour"),
    "Bad day-of-month": ("el día del mes no es válido", "bad day of month"),
    "Bad month": ("el mes no es válido", "bad month"),
    "Bad day-of-week": ("el día de la semana no es válido", "bad day of week"),
}
"""What the library says is wrong."""


class Schedule(Among):
    """When it comes, and which conversations it is about."""

    cron: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)] = Field(
        description="Five fields, as crontab has them: minute, hour, day of month, month, day of week.",
        examples=["0 9 * * 1-5"],
    )
    zone: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="IANA time zone that the times are of; none: the account's.", examples=["Europe/Madrid"]
    )


def faults(schedule: Schedule) -> Iterable[tuple[str, str, str]]:
    """What is wrong with it: the field, and the mend in Spanish and English."""
    if schedule.zone is not None and zone_named(schedule.zone) is None:
        yield "zone", "No existe esa zona horaria: usa un nombre IANA.", "There is no such time zone: use an IANA name."
    try:
        # The zone does not matter here: a change of clocks moves times, nobody asked for those gaps.
        times = list(islice(_times(schedule.cron, datetime(2024, 1, 1, tzinfo=UTC)), _LOOKED_AT))
    except CronSimError as error:
        es, en = _BAD.get(str(error), ("no son cinco campos", "it has not five fields"))
        yield (
            "cron",
            f"No es una expresión cron: {es}. Ejemplo: «0 9 * * 1-5».",
            f"No cron expression: {en}. Example: `0 9 * * 1-5`.",
        )
        return
    if not times:
        yield "cron", "Esa fecha no llega nunca.", "That date never comes."
    elif any(later - earlier < CLOSEST for earlier, later in pairwise(times)):
        yield "cron", "Entre dos veces deben pasar al menos 15 minutos.", "Two times must be at least 15 minutes apart."


def next_after(schedule: Schedule, zone: ZoneInfo, moment: datetime) -> datetime | None:
    """The first time after a moment, in UTC; None when none comes any more.

    ``zone`` counts where the schedule names none. A time that a change of clocks leaves out comes right after it, one that comes
    twice comes once; of what recurs within the hour each is a time (as Debian's cron has it).
    """
    local = moment.astimezone(zone_named(schedule.zone) or zone)
    found = next(_times(schedule.cron, local), None)
    return None if found is None else found.astimezone(UTC)


def _times(cron: str, start: datetime) -> CronSim:
    if len(cron.split()) != _FIELDS:
        raise CronSimError  # the library would take six, with seconds
    return CronSim(cron, start)
