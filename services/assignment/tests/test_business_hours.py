"""The wait in the queue, in business time too."""

import json

from relevo.contracts.base import new_id
from relevo.contracts.identity import CalendarChanged, CalendarState, WeekdayHours
from relevo.kernel.business_time import WEEKDAYS


async def test_the_wait_in_the_queue_is_measured_in_business_time_where_a_calendar_counts(service, world, settled):
    always = tuple(WeekdayHours(day=day, opens="00:00", closes="24:00") for day in WEEKDAYS)
    calendar = CalendarState(
        id=new_id(), account_id=world.account, name="c", time_zone="UTC", weekly=always, inbox_ids=(world.inbox,)
    )
    await world.tell(CalendarChanged(calendar=calendar), calendar.id)
    measured, elsewhere = await world.open(), await world.open(inbox_id=new_id())
    await settled()
    await world.hire("Ana")
    await settled()
    last = {}
    for _, headers, body in await service.admin.stored("EVT_ASSIGNMENT"):
        last[headers["ce-subject"]] = json.loads(body)
    waited = last[measured]
    assert waited["waited_business_seconds"] == waited["waited_seconds"] > 0
    said = waited["business_hours"]
    assert (said["calendar_id"], said["calendar_version"], said["open"]) == (calendar.id, 1, True)
    assert last[elsewhere]["waited_seconds"] > 0
    assert (last[elsewhere]["waited_business_seconds"], last[elsewhere]["business_hours"]) == (None, None)
