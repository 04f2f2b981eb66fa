"""Events say whether it was business hours when they occurred, and how much business time lay between two moments."""

from datetime import UTC, datetime, timedelta

from relevo.chassis import directory
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import ResolveConversation
from relevo.contracts.identity import CalendarState, SpecialDay, WeekdayHours
from relevo.contracts.ingest import InboxState
from relevo.contracts.snapshots import ContactSnapshot
from relevo.conversation.domain import life, writing
from relevo.conversation.domain.business_hours import with_business_hours
from relevo.conversation.domain.state import Incoming, Writing
from relevo.conversation.handlers import on_commands, on_ingest
from relevo.kernel.business_time import WEEKDAYS
from relevo.kernel.calendars import Calendars, counting

ACCOUNT, INBOX, TEAM = (new_id() for _ in range(3))
FRIDAY = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)  # 18:00 in Madrid
MONDAY = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)  # 10:00 in Madrid
HOUR = 3600.0


def calendar(opens: str = "09:00", closes: str = "19:00", days=WEEKDAYS[:5], **more) -> CalendarState:
    weekly = tuple(WeekdayHours(day=day, opens=opens, closes=closes) for day in days)
    fields = {"id": new_id(), "account_id": ACCOUNT, "name": "c", "time_zone": "Europe/Madrid", "weekly": weekly}
    return CalendarState(**{**fields, **more})


OFFICE = calendar(is_default=True)


def begun(at: datetime):
    inbox = InboxState(id=INBOX, account_id=ACCOUNT, name="Web", channel="webchat")
    return life.begin(
        id=new_id(), number=1, inbox=inbox, contact=ContactSnapshot(id=new_id()), source_id="s", recipient_key="k",
        occurred_at=at, now=at,
    ).conversation  # fmt: skip


def written(conversation, at: datetime):
    return life.receive(conversation, Incoming(new_id(), "Hola", None, at), at).conversation


def test_replies_and_resolutions_are_measured_in_business_time_too():
    known = Calendars([counting(OFFICE, 3)])
    conversation = written(begun(FRIDAY), FRIDAY)
    answered = writing.reply(conversation, Writing(new_id(), "Buenas", f"agent:{new_id()}"), MONDAY)
    reply = with_business_hours(answered.events[0], known, answered.at)
    # An hour of Friday's evening, and one of Monday's morning.
    assert (reply.first_reply_business_seconds, reply.answered_business_seconds) == (2 * HOUR, 2 * HOUR)
    said = reply.business_hours
    assert (said.calendar_id, said.calendar_version, said.time_zone, said.open) == (OFFICE.id, 3, "Europe/Madrid", True)
    assert said.opens_at is None
    closed = life.resolve(answered.conversation, MONDAY + timedelta(hours=12))
    resolved = with_business_hours(closed.events[0], known, closed.at)
    assert resolved.resolution_business_seconds == 11 * HOUR
    assert (resolved.business_hours.open, resolved.business_hours.opens_at) == (False, MONDAY + timedelta(hours=23))


def test_a_rules_message_measures_nothing_and_without_a_calendar_nothing_is_said():
    conversation = written(begun(FRIDAY), FRIDAY)
    ordered = writing.reply(conversation, Writing(new_id(), "Recibido", "rule:r", human=False), MONDAY).events[0]
    automatic = with_business_hours(ordered, Calendars([counting(OFFICE, 1)]), MONDAY)
    assert automatic.business_hours.open is True
    assert (automatic.first_reply_business_seconds, automatic.answered_business_seconds) == (None, None)
    for known in (Calendars(()), Calendars([counting(calendar(days=(), is_default=True), 1)])):
        assert with_business_hours(ordered, known, MONDAY) == ordered


def test_a_whole_week_of_business_hours_is_clock_time():
    known = Calendars([counting(calendar("00:00", "24:00", WEEKDAYS, is_default=True), 1)])
    conversation = written(begun(FRIDAY), FRIDAY)
    closed = life.resolve(conversation, MONDAY)
    event = with_business_hours(closed.events[0], known, closed.at)
    assert event.resolution_business_seconds == (MONDAY - FRIDAY).total_seconds()


async def keep(service, account_id: str, state: CalendarState, version: int) -> None:
    service.accounts.add(account_id)
    async with service.database.begin(account_id) as tx:
        await directory.apply(tx, "calendar", account_id, state.id, state, version)


def test_events_carry_the_calendar_that_counted_then_and_an_edit_changes_only_what_comes(run, world):
    async def body(service):
        today = SpecialDay(date=now().date().isoformat())
        tomorrow = SpecialDay(date=(now() + timedelta(days=1)).date().isoformat())
        closed = calendar("00:00", "24:00", WEEKDAYS, time_zone="UTC", inbox_ids=(world.inbox.id,))
        closed = closed.model_copy(update={"account_id": world.account_id, "special_days": (today, tomorrow)})
        await keep(service, world.account_id, closed, 1)
        await service.handle(on_ingest, world.message("34600111222"))
        first = service.events()
        of_conversation = [event for _, event, _ in first if "conversation" in event]
        for event in of_conversation:
            said = event["business_hours"]
            assert (said["calendar_id"], said["calendar_version"], said["open"]) == (closed.id, 1, False)
            assert said["opens_at"].endswith("T00:00:00Z")
        await keep(service, world.account_id, closed.model_copy(update={"special_days": ()}), 2)
        of = of_conversation[0]["conversation"]["id"]
        await service.handle(on_commands, world.command(ResolveConversation(conversation_id=of), of))
        resolved = service.events(of)[-1][1]
        assert (resolved["business_hours"]["calendar_version"], resolved["business_hours"]["open"]) == (2, True)
        assert resolved["resolution_business_seconds"] > 0
        assert service.events()[: len(first)] == first
        # Another account's calendar counts nowhere but there.
        other = type(world)()
        await service.handle(on_ingest, other.message("34600999888"))
        assert service.events()[-1][1]["business_hours"] is None

    run(body)


def test_a_message_that_no_person_wrote_is_said_to_be_automatic(run, world):
    async def body(service):
        away = world.message("a@example.com", "Estoy fuera de la oficina", automatic=True)
        await service.handle(on_ingest, away, world.message("b@example.com"))
        created = [event for name, event, _ in service.events() if name == "message_created"]
        assert [event["human"] for event in created] == [False, True]

    run(body)
