"""Special days out of a text or an iCalendar file."""

from contextlib import suppress
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevo.contracts.identity import Hours, SpecialDay
from relevo.identity.domain.holidays import MAX_DAYS, Unreadable, merged, read

ICS = """BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VEVENT
DTSTART;VALUE=DATE:20260403
DTEND;VALUE=DATE:20260404
SUMMARY:Viernes Santo\\, festivo
 nacional
END:VEVENT
BEGIN:VEVENT
DTSTART;VALUE=DATE:20200101
SUMMARY:Año Nuevo
RRULE:FREQ=YEARLY
END:VEVENT
BEGIN:VEVENT
DTSTART;VALUE=DATE:20260814
DTEND;VALUE=DATE:20260817
SUMMARY:Puente
END:VEVENT
END:VCALENDAR
"""


def faults(text: str) -> list[int]:
    with pytest.raises(Unreadable) as refused:
        read(text, this_year=2026)
    assert all(one.es and one.en and one.es != one.en for one in refused.value.faults)
    return [one.line for one in refused.value.faults]


def test_lines_are_holidays_part_days_and_periods() -> None:
    text = "\ufeff# Fiestas\n2026-12-25\tNavidad\n\n2026-12-24 09:00-12:00, 13:00-15:00 Nochebuena\n2026-08-03..2026-08-05;Feria\n"
    assert read(text, this_year=2026) == (
        *(SpecialDay(date=f"2026-08-0{n}", name="Feria") for n in (3, 4, 5)),
        SpecialDay(
            date="2026-12-24",
            name="Nochebuena",
            hours=(Hours(opens="09:00", closes="12:00"), Hours(opens="13:00", closes="15:00")),
        ),
        SpecialDay(date="2026-12-25", name="Navidad"),
    )


def test_a_calendar_file_gives_its_days_and_what_comes_back_every_year() -> None:
    found = {day.date: day.name for day in read(ICS.replace("\n", "\r\n"), this_year=2026)}
    assert found == {
        "2026-04-03": "Viernes Santo, festivonacional",
        **{f"{year}-01-01": "Año Nuevo" for year in range(2026, 2031)},
        **{f"2026-08-{day}": "Puente" for day in (14, 15, 16)},
    }


def test_every_line_at_fault_is_named_and_nothing_is_taken_over() -> None:
    text = "2026-12-25 Navidad\n25/12/2026 Navidad\n2026-02-30\n2026-12-24 25:00-26:00\n2026-08-05..2026-08-01\n"
    assert faults(text) == [2, 3, 4, 5]
    assert faults("# nothing\n") == [1]
    assert faults(ICS.replace("FREQ=YEARLY", "FREQ=WEEKLY;BYDAY=MO")) == [9]
    assert faults(ICS.replace("DTSTART;VALUE=DATE:20260814", "DTSTART:soon")) == [14]
    assert faults("2000-01-01..2000-12-31\n2001-01-01..2001-12-31\n2002-01-01..2002-12-31") == [1]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["2026-12-25", "9999-12-31", "..", " 09:00-25:00", " x", "\n", *ICS.split("\n")])))
def test_no_text_whatever_breaks_it(parts: list[str]) -> None:
    for text in ("".join(parts), "\n".join(parts)):
        with suppress(Unreadable):
            found = read(text, this_year=2026)
            assert [day.date for day in found] == sorted({day.date for day in found})


def test_a_new_day_takes_the_place_of_the_one_there_was() -> None:
    old, new = SpecialDay(date="2026-12-25", name="a"), SpecialDay(date="2026-12-25", name="b")
    other = SpecialDay(date="2026-01-01")
    assert merged((old, other), (new,)) == (other, new)
    days = tuple(SpecialDay(date=(date(2026, 1, 1) + timedelta(days=n)).isoformat()) for n in range(MAX_DAYS))
    assert merged(days, days) == days
    with pytest.raises(Unreadable):
        merged(days, (SpecialDay(date="2000-01-01"),))
