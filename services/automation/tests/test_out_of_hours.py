"""The answer out of hours: to whom, once until it opens again, in the customer's language."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from relevo.automation.app import build
from relevo.automation.domain.inbox_answers import language_of
from relevo.automation.domain.out_of_hours import DEFAULT_TEXTS, Setting, answer_to, next_opening
from relevo.chassis.testing import running
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import MessageCreated
from relevo.contracts.identity import AccountChanged, AccountState
from relevo.contracts.ingest import InboxChanged, InboxState
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import BusinessHours, ContactSnapshot

from .samples import ACCOUNT, INBOX, NOON, conversation, said
from .test_service import _commands, _key, _make, _manager

MONDAY = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)  # 09:00 in Madrid
SETTING = Setting(ACCOUNT, INBOX, enabled=True)


def hours(opens_at: datetime | None = MONDAY, *, is_open: bool = False, version: int = 1) -> BusinessHours:
    return BusinessHours(
        calendar_id=new_id(),
        calendar_version=version,
        time_zone="Europe/Madrid",
        open=is_open,
        opens_at=None if is_open else opens_at,
    )


def wrote(given: BusinessHours | None = None, text: str = "Hola", **more) -> MessageCreated:
    return said(text, **more).model_copy(update={"business_hours": given or hours()})


def contact(**more) -> ContactSnapshot:
    return ContactSnapshot(id=new_id(), name="Ana", **more)


def test_a_customer_who_writes_out_of_hours_is_answered() -> None:
    answer = answer_to(wrote(), SETTING, NOON, NOON)
    assert answer is not None
    assert answer.message("es", NOON) == DEFAULT_TEXTS["es"].replace(
        "{{next_opening}}", "el lunes 9 de marzo a las 09:00"
    )
    assert answer.message("en", NOON) == DEFAULT_TEXTS["en"].replace("{{next_opening}}", "on Monday 9 March at 09:00")


@pytest.mark.parametrize(
    "event",
    [
        wrote(hours(is_open=True)),
        wrote().model_copy(update={"business_hours": None}),
        wrote(human=False),  # an autoresponder: the two would thank each other for ever
        wrote(kind="outgoing"),
        wrote(kind="note"),
        wrote(contact=contact(blocked=True)),
        wrote(status="pending"),
        wrote(status="resolved"),
        wrote(status="resolved", archived=True),
        wrote(hours(NOON - timedelta(minutes=1))),  # it has opened since
        wrote(hours(NOON)),
    ],
)
def test_nobody_else_is(event: MessageCreated) -> None:
    assert answer_to(event, SETTING, NOON, NOON) is None


def test_an_inbox_that_does_not_want_to_answers_nobody() -> None:
    assert answer_to(wrote(), None, NOON, NOON) is None
    assert answer_to(wrote(), Setting(ACCOUNT, INBOX), NOON, NOON) is None


@pytest.mark.parametrize(
    ("told", "of_contact", "spoken"),
    [("en", None, "en"), ("es-MX", None, "es"), ("EN_us", "es", "en"), (None, "en-GB", "en"), ("pt", None, "es")],
)
def test_it_speaks_the_customers_language_or_the_accounts(told, of_contact, spoken) -> None:
    assert language_of(conversation(language=told, contact=contact(language=of_contact)), "es") == spoken


@pytest.mark.parametrize(
    ("at", "es", "en"),
    [
        (MONDAY - timedelta(hours=8), "hoy a las 09:00", "today at 09:00"),
        (MONDAY - timedelta(hours=10), "mañana a las 09:00", "tomorrow at 09:00"),  # 23:00 of the day before there
        (MONDAY - timedelta(days=2), "el lunes 9 de marzo a las 09:00", "on Monday 9 March at 09:00"),
        (MONDAY - timedelta(days=90), "el lunes 9 de marzo de 2026 a las 09:00", "on Monday 9 March 2026 at 09:00"),
    ],
)
def test_the_next_opening_is_told_by_the_calendars_clock(at, es, en) -> None:
    assert (next_opening(hours(), at, "es"), next_opening(hours(), at, "en")) == (es, en)
    assert next_opening(hours(None), at, "es") == "lo antes posible"


def test_own_texts_name_the_customer_and_what_a_name_says_is_no_variable() -> None:
    setting = Setting(ACCOUNT, INBOX, enabled=True, text_es="Hola {{contact.name|amigo}}: {{ next_opening }}.")
    for name, shown in (("Ana", "Ana"), ("", "amigo"), ("{{next_opening}}", "{{next_opening}}")):
        event = wrote(contact=ContactSnapshot(id=new_id(), name=name))
        answer = answer_to(event, setting, NOON, NOON)
        assert answer is not None
        assert answer.message("es", MONDAY - timedelta(hours=1)) == f"Hola {shown}: hoy a las 09:00."


# -- the service ------------------------------------------------------------------------------------------------------


async def _inbox(service, inbox_id: str = INBOX) -> None:
    state = InboxState(id=inbox_id, account_id=ACCOUNT, name="Web", channel="webchat")
    await service.admin.publish(InboxChanged(inbox=state), account=ACCOUNT, entity=inbox_id, sequence=1)
    account = AccountState(id=ACCOUNT, name="A", language="es")
    await service.admin.publish(AccountChanged(account=account), account=ACCOUNT, entity=ACCOUNT, sequence=1)


async def _write(service, *events: MessageCreated, at: datetime | None = None) -> None:
    for event in events:
        await service.admin.publish(
            event, account=ACCOUNT, entity=event.conversation.id, actor="contact:c", time=at or now()
        )
    await service.settle()


async def _said(service) -> list[tuple[str, str]]:
    return [
        (body["conversation_id"], body["text"]) for name, _, body in await _commands(service) if name == "send_message"
    ]


async def test_who_writes_out_of_hours_is_told_when_we_are_back_once_until_then(servers) -> None:
    async with running(build, servers) as service:
        await _inbox(service)
        headers = await _key(service, Permission.AUTOMATIONS_MANAGE)
        path = f"/out-of-hours/{INBOX}"
        body = {"enabled": True, "text_es": "Volvemos {{next_opening}}.", "text_en": "Back {{next_opening}}."}
        answer = await service.http.put(path, json=body, headers={**headers, "If-Match": '"0"'})
        assert (answer.status_code, answer.json()["version"], answer.headers["etag"]) == (200, 1, '"1"')

        start = now()
        # The weekday is in words a week from now, whatever the hour of the test.
        back = (start + timedelta(days=7)).replace(hour=12, minute=0, second=0, microsecond=0)
        closed = hours(back)
        one, two = new_id(), new_id()
        spanish = [wrote(closed, f"{n}", id=one, language="es") for n in range(3)]
        english = wrote(closed, id=two, contact=contact(language="en-US"))
        await _write(service, *spanish, english)
        found = dict(await _said(service))
        assert len(await _said(service)) == 2
        assert found[one] == f"Volvemos {next_opening(closed, start, 'es')}."
        assert found[two] == f"Back {next_opening(closed, start, 'en')}."
        # Another message, in another batch, and though another calendar now says another moment.
        await _write(service, wrote(closed, id=one), wrote(hours(back + timedelta(hours=1), version=2), id=one))
        assert len(await _said(service)) == 2
        # The next closed period.
        await _write(service, wrote(hours(back + timedelta(days=1)), id=one), at=back + timedelta(hours=9))
        assert [of for of, _ in await _said(service)].count(one) == 2
        commands = [headers for name, headers, _ in await _commands(service) if name == "send_message"]
        assert {(sent["relevo-actor"], sent["relevo-depth"]) for sent in commands} == {(f"rule:{INBOX}", "1")}


async def test_machines_blocked_people_and_other_inboxes_get_none(servers) -> None:
    async with running(build, servers) as service:
        await _inbox(service)
        headers = await _key(service, Permission.AUTOMATIONS_MANAGE)
        await service.http.put(f"/out-of-hours/{INBOX}", json={"enabled": True}, headers={**headers, "If-Match": "*"})
        closed = hours(now() + timedelta(hours=5))
        await _write(
            service,
            wrote(closed, human=False),
            wrote(closed, contact=contact(blocked=True)),
            wrote(closed, inbox_id=new_id()),
            wrote(hours(is_open=True)),
            wrote(hours(now() - timedelta(hours=1))),
        )
        assert await _said(service) == []
        await _write(service, wrote(closed))
        assert len(await _said(service)) == 1
        await service.http.put(
            f"/out-of-hours/{INBOX}", json={"enabled": False}, headers={**headers, "If-Match": '"1"'}
        )
        await _write(service, wrote(closed))
        assert len(await _said(service)) == 1


async def test_a_rule_asks_whether_it_was_business_hours_then(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        condition = {"field": "business_hours", "operator": "equals", "value": False}
        label = [{"type": "add_labels", "labels": ["fuera de horario"]}]
        await _make(service, headers, conditions=condition, actions=label)
        outside, inside = wrote(hours()), wrote(hours(is_open=True))
        unknown = wrote().model_copy(update={"business_hours": None})
        await _write(service, outside, inside, unknown)
        labelled = [body["conversation_id"] for name, _, body in await _commands(service) if name == "change_labels"]
        assert labelled == [outside.conversation.id]


async def test_what_an_inbox_answers_is_kept_for_those_who_may(servers) -> None:
    async with running(build, servers) as service:
        await _inbox(service)
        await _inbox(service, second := new_id())
        headers = await _key(service, Permission.AUTOMATIONS_MANAGE)
        path = f"/out-of-hours/{INBOX}"
        first = await service.http.get(path, headers=headers)
        assert (first.json()["enabled"], first.json()["version"], first.headers["etag"]) == (False, 0, '"0"')
        assert first.json()["default_es"] == DEFAULT_TEXTS["es"]
        body = {"enabled": True, "text_es": " Hola "}
        assert (await service.http.put(path, json=body, headers=headers)).status_code == 428
        kept = await service.http.put(path, json=body, headers={**headers, "If-Match": '"0"'})
        assert (kept.json()["text_es"], kept.json()["version"]) == ("Hola", 1)
        assert (await service.http.put(path, json=body, headers={**headers, "If-Match": '"0"'})).status_code == 412
        page = (await service.http.get("/out-of-hours", params={"limit": 1}, headers=headers)).json()
        rest = (await service.http.get("/out-of-hours", params={"cursor": page["next"]}, headers=headers)).json()
        listed = [*page["items"], *rest["items"]]
        assert {one["inbox_id"]: one["enabled"] for one in listed} == {INBOX: True, second: False}
        for text, pointer in (("{{opening}}", "/text_es"), ("x" * 5_001, "/text_es")):
            bad = await service.http.put(
                path, json={"enabled": True, "text_es": text}, headers={**headers, "If-Match": "*"}
            )
            assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, pointer)
        nowhere = await service.http.put(f"/out-of-hours/{new_id()}", json=body, headers={**headers, "If-Match": "*"})
        assert (nowhere.status_code, nowhere.json()["code"]) == (404, "inbox_not_found")
        stranger = await _key(service, Permission.AUTOMATIONS_MANAGE, account=new_id())
        assert (await service.http.get(path, headers=stranger)).status_code == 404
        powerless = await _key(service, Permission.CONVERSATIONS_READ)
        assert (await service.http.get(path, headers=powerless)).status_code == 403
        events = [json.loads(stored) for _, _, stored in await service.admin.stored("EVT_AUTOMATION")]
        assert events == []
