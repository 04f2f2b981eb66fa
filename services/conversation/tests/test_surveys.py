"""Satisfaction surveys: who is asked, the page on which they answer, and who reads it."""

import asyncio
import json
import re
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.chassis.testing import running
from relevo.chassis.timers import run_due
from relevo.contracts.base import new_id
from relevo.contracts.conversation import ResolveConversation
from relevo.contracts.identity import AccountState
from relevo.contracts.ingest import SurveySettings
from relevo.contracts.snapshots import ContactSnapshot
from relevo.conversation.app import build
from relevo.conversation.domain import life, surveys
from relevo.conversation.domain.state import Writing
from relevo.conversation.domain.survey_page import POLICY, page
from relevo.conversation.domain.surveys import Resolved, rating_of, read_token, signed, token, why_not
from relevo.conversation.domain.writing import reply
from relevo.conversation.resolutions import SURVEY
from relevo.conversation.surveys import asker

PUBLIC = "https://relevo.example"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ANA, EVA = new_id(), new_id()


def resolved(world, **contact):
    """A conversation that a person answered and then resolved."""
    person = ContactSnapshot(id=ANA, name="Ana", **contact)
    begun = life.begin(
        id=new_id(),
        number=1,
        inbox=world.inbox,
        contact=person,
        source_id="34600",
        recipient_key="k",
        occurred_at=NOON,
        now=NOON,
    )
    answered = reply(begun.conversation, Writing(new_id(), "Hola", f"agent:{EVA}"), NOON)
    return life.resolve(answered.conversation, NOON).conversation


def test_nobody_is_asked_who_should_not_be(world):
    settings, asked = SurveySettings(again_after_days=30), Resolved(1, EVA, None)
    conversation = resolved(world)
    assert why_not(conversation, asked, settings, None, NOON) is None
    assert why_not(conversation, asked, settings, NOON - timedelta(days=30), NOON) is None
    assert why_not(conversation, asked, settings, NOON - timedelta(days=29), NOON) == "asked_lately"
    assert why_not(None, asked, settings, None, NOON) == "conversation_gone"
    assert why_not(conversation, asked, None, None, NOON) == "switched_off"
    assert why_not(resolved(world, blocked=True), asked, settings, None, NOON) == "blocked"
    assert why_not(life.archive(conversation, NOON).conversation, asked, settings, None, NOON) == "archived"
    again = life.reopen(conversation, NOON).conversation
    assert why_not(again, asked, settings, None, NOON) == "reopened"
    # Resolved once more, and nobody but a bot has written in that cycle.
    bot = life.resolve(again, NOON).conversation
    assert why_not(bot, asked, settings, None, NOON) == "reopened"
    assert why_not(bot, Resolved(2, EVA, None), settings, None, NOON) == "nobody_answered"


@pytest.mark.parametrize(
    ("said", "rating"),
    [("5", 5), (" 4. ", 4), ("3/5", 3), ("2️⃣", 2), ("⭐⭐⭐", 3), ("⭐️ ⭐️", 2), ("¡1!", 1)],
)
def test_ratings_as_people_write_them(said, rating):
    assert rating_of(said) == rating


@pytest.mark.parametrize("said", ["", "0", "6", "55", "5 personas", "a las 5", "10", "4.5", "⭐⭐⭐⭐⭐⭐", "☎️", "1 2"])
def test_what_only_looks_like_a_rating_is_none(said):
    assert rating_of(said) is None


@given(st.binary(min_size=16, max_size=32), st.uuids(), st.uuids(), st.text(max_size=80))
def test_a_token_is_good_for_its_survey_and_secret_alone(secret, account, survey, other):
    made = token(secret, str(account), str(survey))
    assert read_token(made) == (str(account), str(survey))
    assert signed(secret, str(account), str(survey), made)
    assert not signed(secret + b"x", str(account), str(survey), made)
    assert not signed(secret, str(survey), str(account), made) or account == survey
    changed = made[:-2] + ("A" if made[-2] != "A" else "B") + made[-1]
    assert not signed(secret, str(account), str(survey), changed)
    if other != made:
        assert not signed(secret, str(account), str(survey), other)
        read_token(other)


def test_the_language_of_the_customer_where_we_speak_it():
    assert [surveys.language_for(one, "es") for one in ("en-GB", "ES", "fr", None)] == ["en", "es", "es", "es"]
    assert surveys.language_for("pt_BR", "en") == "en"


class Page(HTMLParser):
    """What a page has: tags with their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def of(self, tag, **attributes):
        return [a for t, a in self.tags if t == tag and attributes.items() <= a.items()]


@pytest.mark.parametrize("language", ["es", "en"])
def test_the_page_is_usable_by_everybody_and_takes_nothing_from_elsewhere(language):
    told = page(
        "form", language, company='<b>"Sol" & Luna</b>', comment="</textarea><script>x</script>", fault="missing"
    )
    shown = Page(told)
    assert shown.of("html", lang=language)
    assert not shown.of("script")
    assert not shown.of("b", **{"class": "x"})
    assert '<b>"Sol"' not in told
    assert [a for _, a in shown.tags if "src" in a or a.get("href", "?").startswith("http")] == []
    assert len(shown.of("input", type="radio", name="rating")) == 5
    assert shown.of("fieldset", **{"aria-describedby": "fault"})
    assert shown.of("p", id="fault", role="alert")
    style = told.partition("<style>")[2].partition("</style>")[0]
    assert f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in POLICY
    labelled = {a["for"] for a in shown.of("label") if "for" in a}
    assert labelled == {a["id"] for a in shown.of("textarea")}
    for state in ("thanks", "used", "expired", "unknown", "busy"):
        other = "en" if language == "es" else "es"
        assert page(state, language) != page(state, other)


@pytest.fixture
def at_survey_desk(servers, world, desk_of):
    """A desk whose inbox asks right after a conversation is resolved."""

    def runner(body, **settings):
        async def main():
            async with running(build, servers, RELEVO_PUBLIC_URL=f"{PUBLIC}/") as service:
                desk = desk_of(service, world)
                account = AccountState(id=world.account_id, name="Tienda Sol")
                await desk.know("account", account)
                asking = SurveySettings(**{"delay_seconds": 0} | settings)
                await desk.know("inbox", world.inbox.model_copy(update={"survey": asking}))
                await body(desk)

        asyncio.run(main())

    return runner


async def surveys_sent(desk):
    """Have what is due sent, whoever takes the timers first."""
    database = desk.service.runtime.database

    async def waiting():
        async with database.begin(desk.world.account_id) as tx:
            found = await tx.conn.execute("select count(*) from timers where kind = 'survey' and due_at <= now()")
            return (await found.fetchone())[0]

    while await waiting():
        await run_due(database, {SURVEY: asker(PUBLIC)})
        await asyncio.sleep(0)
    await desk.service.settle()


async def served(desk, who, **more):
    """The path of a conversation that was answered and resolved."""
    path = await desk.begun(who, **more)
    assert (await desk.post(f"{path}/messages", who, {"text": "Listo"})).status_code == 201
    assert (await desk.post(f"{path}/resolve", who)).status_code == 200
    await surveys_sent(desk)
    return path


async def asked_at(desk):
    """The address in the last message that left."""
    _, _, body = (await desk.service.admin.stored("OUTBOUND"))[-1]
    text = json.loads(body)["text"]
    return text, text.rpartition("/csat/")[2]


async def events(desk, name):
    stored = await desk.service.admin.stored("EVT_CONVERSATION")
    return [(json.loads(body), headers) for subject, headers, body in stored if subject.endswith(f".{name}")]


async def change(desk, statement):
    async with desk.service.runtime.database.begin(desk.world.account_id) as tx:
        await tx.conn.execute(statement)


async def answer(desk, token, rating=None, comment="", **params):
    sent = {"comment": comment} | ({"rating": str(rating)} if rating else {})
    return await desk.service.http.post(f"/csat/{token}", data=sent, params=params)


def test_a_customer_is_asked_answers_and_changes_their_mind(at_survey_desk):
    async def body(desk):
        eva_id, eva = await desk.agent()
        _, boss = await desk.agent("supervisor", scope="all")
        path = await served(desk, eva, language="en-GB")
        text, token = await asked_at(desk)
        assert text.startswith(f"Thank you for writing to us. How did we do? Tell us here: {PUBLIC}/api/v1/csat/")
        # Whoever has the link answers as the customer: the team does not have it, in no message and no event.
        for shown in ((await desk.get(f"{path}/messages", boss)).text, str(await events(desk, "message_created"))):
            assert token not in shown
            assert "(link to the survey)" in shown
        ((sent, headers),) = await events(desk, "survey_sent")
        assert (sent["agent_id"], sent["way"], headers["relevo-actor"]) == (eva_id, "link", "system")

        form = await desk.get(f"/csat/{token}", {})
        assert (form.status_code, form.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert Page(form.text).of("html", lang="en")
        assert "Tienda Sol" in form.text
        assert "script-src" not in form.headers["content-security-policy"]
        assert form.headers["content-security-policy"].startswith("default-src 'none'")
        spanish = await desk.get(f"/csat/{token}", {}, lang="es", rating=4)
        assert Page(spanish.text).of("html", lang="es")
        assert Page(spanish.text).of("input", value="4", checked=None)
        assert await events(desk, "survey_answered") == []

        empty = await answer(desk, token, comment="Muy <b>bien</b>")
        assert (empty.status_code, "Choose a rating" in empty.text) == (422, True)
        assert "Muy &lt;b&gt;bien&lt;/b&gt;" in empty.text
        assert (await answer(desk, token, 9)).status_code == 422
        assert (await answer(desk, token, 4, "x" * 2001)).status_code == 422
        saved = await answer(desk, token, 2, "Tardasteis")
        assert (saved.status_code, saved.headers["location"]) == (303, "?done=true")
        thanks = await desk.get(f"/csat/{token}", {}, done="true")
        assert "Thank you! Your rating is saved." in thanks.text
        assert Page(thanks.text).of("input", value="2", checked=None)
        assert (await answer(desk, token, 2, "Tardasteis")).status_code == 303
        assert (await answer(desk, token, 5, "Perdón, me confundí")).status_code == 303
        await desk.service.settle()
        told = [
            (one["version"], one["rating"], one["previous_rating"], one["agent_id"], one["commented"])
            for one, _ in await events(desk, "survey_answered")
        ]
        assert told == [(1, 2, None, eva_id, True), (2, 5, 2, eva_id, True)]
        assert "confundí" not in str(await events(desk, "survey_answered"))
        assert (await desk.lines(path, eva))[-3:] == [
            "Relevo pidió al cliente su valoración.",
            "El cliente valoró la atención con 2 de 5.",
            "El cliente cambió su valoración de 2 a 5 de 5.",
        ]
        await desk.refused(await desk.get("/csat", eva), 403, "permission_missing")
        (mine,) = (await desk.get(f"{path}/surveys", eva)).json()["items"]
        assert (mine["rating"], mine["comment"]) == (5, None)
        (one,) = (await desk.get("/csat", boss, rating=5, agent_id=eva_id)).json()["items"]
        assert (one["rating"], one["comment"], one["agent_id"]) == (5, "Perdón, me confundí", eva_id)
        assert (await desk.get("/csat", boss, rating=2)).json()["items"] == []
        _, elsewhere = await desk.agent("supervisor", inboxes=(new_id(),))
        assert (await desk.get("/csat", elsewhere)).json()["items"] == []
        await desk.refused(await desk.get(f"{path}/surveys", elsewhere), 404, "conversation_not_found")
        state = (await desk.get(path, eva)).json()
        assert (state["status"], state["waiting_since"]) == ("resolved", None)

    at_survey_desk(body)


def test_a_survey_ends(at_survey_desk):
    async def body(desk):
        _, eva = await desk.agent()
        path = await served(desk, eva)
        _, token = await asked_at(desk)

        async def shows(status, words, given=token):
            opened, sent = await desk.get(f"/csat/{given}", {}), await answer(desk, given, 3)
            assert (opened.status_code, sent.status_code) == (status, status)
            assert words in opened.text
            assert words in sent.text

        await shows(404, "No encontramos esta encuesta", token[:-1] + ("A" if token[-1] != "A" else "E"))
        await shows(404, "No encontramos esta encuesta", "nada")
        await shows(404, "No encontramos esta encuesta", "A" * 300)
        cut = await desk.get(f"/csat/{token}", {}, rating="9", done="é", lang="fr")
        assert (cut.status_code, cut.headers["content-type"].partition(";")[0]) == (200, "text/html")
        await change(desk, "update surveys set answer_until = now()")
        await shows(410, "Esta encuesta ha terminado")
        await change(desk, "update surveys set answer_until = now() + interval '1 hour'")
        assert (await answer(desk, token, 3, "Bien")).status_code == 303
        await change(desk, "update surveys set answered_at = answered_at - interval '4 days'")
        await shows(410, "Ya nos diste tu opinión")
        await desk.service.settle()
        assert len(await events(desk, "survey_answered")) == 1

        # Erased, nothing of what they wrote is left; deleted, there never was such a survey.
        _, admin = await desk.agent("administrator")
        contact = (await desk.get(path, admin)).json()["contact"]["id"]
        told = await desk.get(f"/contacts/{contact}/personal-data", admin)
        assert '"comment": "Bien"' in told.text
        assert (await desk.post(f"/contacts/{contact}/erase", admin)).status_code == 202
        (left,) = (await desk.get(f"{path}/surveys", admin)).json()["items"]
        assert (left["rating"], left["comment"]) == (3, "")
        assert (await desk.post(f"{path}/delete", admin, {"reason": "de prueba"})).status_code == 204
        await shows(404, "No encontramos esta encuesta")

    at_survey_desk(body)


def test_who_was_asked_lately_is_left_alone_and_so_is_who_reopened(at_survey_desk):
    async def body(desk):
        _, eva = await desk.agent()
        path = await served(desk, eva)
        assert len(await events(desk, "survey_sent")) == 1
        await desk.customer_writes(text="Otra cosa")
        assert (await desk.post(f"{path}/messages", eva, {"text": "Dime"})).status_code == 201
        assert (await desk.post(f"{path}/resolve", eva)).status_code == 200
        await surveys_sent(desk)
        assert len(await events(desk, "survey_sent")) == 1
        await change(desk, "update surveys set sent_at = sent_at - interval '31 days'")
        await desk.customer_writes(text="Y otra")
        assert (await desk.post(f"{path}/messages", eva, {"text": "Sí"})).status_code == 201
        # A rule resolves it: whoever had it then would be credited, and here nobody had.
        command = ResolveConversation(conversation_id=path.rpartition("/")[2])
        await desk.service.admin.publish(
            command, account=desk.world.account_id, entity=command.conversation_id, actor="rule:r1"
        )
        await desk.service.settle()
        await surveys_sent(desk)
        assert [one["agent_id"] is None for one, _ in await events(desk, "survey_sent")] == [False, True]
        # Spam is never asked about.
        await desk.customer_writes("otro", text="Compre ya")
        other = next(c for c in (await desk.get("/conversations", eva)).json()["items"] if c["source_id"] == "otro")
        spam = f"/conversations/{other['id']}"
        assert (await desk.post(f"{spam}/messages", eva, {"text": "No"})).status_code == 201
        assert (await desk.post(f"{spam}/spam", eva)).status_code == 200
        await surveys_sent(desk)
        assert len(await events(desk, "survey_sent")) == 2

    at_survey_desk(body)


def test_an_answer_in_the_channel_reopens_nothing(at_survey_desk):
    async def body(desk):
        eva_id, eva = await desk.agent()
        path = await served(desk, eva)
        text, _ = await asked_at(desk)
        assert re.search(r"del 1 \(muy mal\) al 5", text)
        await desk.customer_writes(text="4")
        state = (await desk.get(path, eva)).json()
        assert (state["status"], state["cycle"]) == ("resolved", 1)
        (one,) = (await desk.get(f"{path}/surveys", eva)).json()["items"]
        assert (one["rating"], one["agent_id"], one["way"]) == (4, eva_id, "reply")
        messages = (await desk.get(f"{path}/messages", eva)).json()["items"]
        assert [m["text"] for m in messages if m["kind"] == "incoming"] == ["Hola", "4"]
        assert messages[-1]["text"] == "El cliente valoró la atención con 4 de 5."
        await desk.customer_writes(text="Me falta una cosa")
        assert (await desk.get(path, eva)).json()["status"] == "open"
        # Once they are talking again, a digit is a digit.
        await desk.customer_writes(text="5")
        (one,) = (await desk.get(f"{path}/surveys", eva)).json()["items"]
        assert one["rating"] == 4

    at_survey_desk(body, way="reply")


def test_whoever_tries_and_tries_has_to_wait(at_survey_desk):
    async def body(desk):
        answers = [await desk.get(f"/csat/{new_id()}", {}) for _ in range(40)]
        assert answers[0].status_code == 404
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1

    at_survey_desk(body)
