"""Search over real rows: languages, spelling, operators, pages, and that nobody finds what they may not see."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from relevo.contracts.base import new_id
from relevo.contracts.ingest import InboxState
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.conversation import searching
from relevo.conversation.seeding.load import Seeding, seed
from relevo.conversation.seeding.rows import Plan
from relevo.conversation.store import search as store
from relevo.kernel.access import Viewer


@pytest.fixture
def found(at_desk):
    """Run an async test body with a Desk and a function that searches and answers the texts found."""

    def runner(body):
        async def main(desk):
            async def search(who, q, **params):
                answer = await desk.get("/search/messages", who, q=q, **params)
                assert answer.status_code == 200, answer.text
                return [hit["excerpt"] for hit in answer.json()["items"]]

            await body(desk, search)

        at_desk(main)

    return runner


def test_words_are_found_in_any_form_in_both_languages_without_accents_and_case(found):
    async def body(desk, search):
        _, who = await desk.agent()
        for n, said in enumerate(
            (
                "Quiero una DEVOLUCIÓN",
                "las devoluciones tardan",
                "I want two refunds",
                "Mi código es PED-2024-0098",
                "El año pasado",
                "los anos anteriores",
                "de la que se fue",
            )
        ):
            await desk.customer_writes(f"c{n}", said)
        assert await search(who, "devolucion ") == ["las devoluciones tardan", "Quiero una DEVOLUCIÓN"]
        assert await search(who, "devoluc") == ["las devoluciones tardan", "Quiero una DEVOLUCIÓN"]
        assert await search(who, "refund ") == ["I want two refunds"]
        assert await search(who, "ped-2024") == ["Mi código es PED-2024-0098"]
        assert await search(who, "0098") == ["Mi código es PED-2024-0098"]
        assert await search(who, "año ") == ["El año pasado", "los anos anteriores"]
        assert await search(who, "ano ") == ["los anos anteriores", "El año pasado"]
        assert await search(who, "de la ") == ["de la que se fue"]
        assert await search(who, "quiero de devolucion ") == ["Quiero una DEVOLUCIÓN"]
        assert await search(who, "quiero tardan ") == []
        assert await search(who, "¡!") == []
        hit = (await desk.get("/search/messages", who, q="devoluciones ")).json()["items"][1]
        (low, high) = hit["marks"][0]
        assert hit["excerpt"][low:high] == "DEVOLUCIÓN"

    found(body)


def test_phrases_authors_inboxes_and_labels_narrow(found):
    async def body(desk, search):
        _, who = await desk.agent()
        email = InboxState(id=new_id(), account_id=desk.world.account_id, name="Correo", channel="email")
        await desk.know("inbox", email)
        await desk.know("inbox", desk.world.inbox)
        await desk.customer_writes("c1", "la talla mediana es pequeña")
        await desk.customer_writes("c2", "mediana: la talla", inbox=email)
        ids = [c["id"] for c in (await desk.get("/conversations", who, sort="created")).json()["items"]]
        await desk.post(f"/conversations/{ids[0]}/messages", who, {"text": "¿Qué talla quiere?"})
        await desk.post(f"/conversations/{ids[0]}/labels", who, {"add": ["cambio de talla"]})
        assert await search(who, '"talla mediana"') == ["la talla mediana es pequeña"]
        assert await search(who, "talla from:me") == ["¿Qué talla quiere?"]
        assert await search(who, "talla de:agente") == ["¿Qué talla quiere?"]
        assert await search(who, 'talla from:"eva ruiz"') == ["¿Qué talla quiere?"]
        assert len(await search(who, "talla from:customer")) == 2
        assert await search(who, "talla in:email from:cliente") == ["mediana: la talla"]
        assert await search(who, "mediana in:Correo") == ["mediana: la talla"]
        assert await search(who, "mediana in:nada") == []
        assert await search(who, 'mediana label:"cambio de talla"') == ["mediana: la talla"]
        listed = (await desk.get("/conversations", who, text="pequeña ")).json()["items"]
        assert [c["id"] for c in listed] == ids[1:]
        assert (await desk.get("/conversations/count", who, text="mediana ")).json()["count"] == 2

    found(body)


def test_nobody_finds_what_they_may_not_see(found, world):
    async def body(desk, search):
        _, sees_all = await desk.agent()
        _, elsewhere = await desk.agent(inboxes=(new_id(),))
        stranger = type(desk)(desk.service, type(world)())
        _, other_account = await stranger.agent("administrator")
        await desk.customer_writes("c1", "secreto compartido")
        await stranger.customer_writes("c1", "secreto de otros")
        assert await search(sees_all, "secreto") == ["secreto compartido"]
        assert await search(elsewhere, "secreto") == []
        assert await search(other_account, "secreto") == ["secreto de otros"]
        assert (await desk.get("/conversations", elsewhere, text="secreto ")).json()["items"] == []
        contacts = await desk.get("/search/contacts", other_account, q="cliente")
        assert len(contacts.json()["items"]) == 1

    found(body)


def test_pages_follow_each_other_and_a_bounded_answer_says_that_there_is_more(found, monkeypatch):
    monkeypatch.setattr(store, "EXAMINED", 7)
    monkeypatch.setattr(store, "BLOCK", 5)

    async def body(desk, search):
        _, who = await desk.agent()
        mine = new_id()
        _, of_one = await desk.agent(inboxes=(mine,))
        inbox = desk.world.make_inbox()
        inbox = inbox.model_copy(update={"id": mine})
        await desk.customer_writes("rara", "canción 0", inbox=inbox)
        for n in range(1, 18):
            await desk.customer_writes("c1", f"canción {n}" if n % 3 else f"cancion {n}")
        for asker, expected in ((who, 18), (of_one, 1)):
            seen, cursor, pages = [], None, 0
            while True:
                answer = (
                    await desk.get(
                        "/search/messages", asker, q="canción ", limit=3, **({"cursor": cursor} if cursor else {})
                    )
                ).json()
                seen += [hit["excerpt"] for hit in answer["items"]]
                pages += 1
                cursor = answer["next"]
                if cursor is None:
                    break
            assert len(seen) == len(set(seen)) == expected
            assert pages > 2
        first = await search(who, "canción ", limit=5)
        assert first == ["canción 17", "canción 16", "canción 14", "canción 13", "cancion 15"]
        bad = await desk.get("/search/messages", who, q="x", cursor="e30")
        assert bad.status_code == 422

    found(body)


def test_what_is_changed_or_deleted_is_found_as_it_is_now(run, world):
    from relevo.conversation.handlers import on_ingest

    async def body(service):
        await service.handle(on_ingest, world.message("c1", "uno"), world.message("c2", "x" * 30_000))
        long = "palabra " * 60_000
        await service.handle(on_ingest, world.message("c3", long[:20_000]))
        words = lambda: {str(r["words"]) for r in service.rows("select words from search_words")}  # noqa: E731
        assert any("uno'" in w for w in words())

        async def act(statement):
            async with service.database.begin() as tx:
                await tx.conn.execute(statement)

        await act("update messages set text = 'dos' where text = 'uno'")
        assert any("dos'" in w for w in words())
        assert not any("uno'" in w for w in words())
        await act("update conversations set subject = 'Asunto nuevo' where number = 1")
        await act("update conversations set subject = 'Otro tema' where number = 1")
        assert service.rows("select count(*) as n from search_words where kind = 'subject'")[0]["n"] == 1
        assert any("tema'" in w for w in words())
        await act("delete from messages")
        await act("delete from conversations")
        assert not words()

    run(body)


def test_contacts_are_found_by_fragments(found):
    async def body(desk, search):
        _, who = await desk.agent()
        await desk.customer_writes(
            "34600111222", name="Íñigo Núñez", email="inigo.nunez@example.com", phone="+34600111222"
        )
        await desk.customer_writes("x", name="Ana Peña_100%")

        async def names(q):
            return [c["name"] for c in (await desk.get("/search/contacts", who, q=q)).json()["items"]]

        assert await names("nune") == ["Íñigo Núñez"]
        assert await names("IÑI núñ") == ["Íñigo Núñez"]
        assert await names("600 111") == ["Íñigo Núñez"]
        assert await names("111222") == ["Íñigo Núñez"]
        assert await names("nez@exam") == ["Íñigo Núñez"]
        assert await names("a_1") == await names("00%") == ["Ana Peña_100%"]
        assert await names("a%1") == []
        assert await names("pe") == ["Ana Peña_100%"]
        assert await names("nadie") == []

    found(body)


PREFIX = 8
"""Characters of what every lexeme begins with."""


def test_years_are_looked_through_without_a_hole(run, monkeypatch):
    monkeypatch.setattr(store, "EXAMINED", 60)
    monkeypatch.setattr(store, "BLOCK", 20)
    plan = Plan(
        account_id=new_id(),
        conversations=150,
        now=datetime(2026, 11, 1, tzinfo=UTC),
        inboxes=[[new_id(), "email"], [new_id(), "webchat"]],
        agents=[new_id(), new_id()],
        teams=[new_id()],
    )

    async def body(service):
        seed(Seeding(service.dsn, plan), lambda done, of: None)
        said = {
            str(row["id"]): ({word[PREFIX:] for word in row["words"]}, str(row["inbox_id"]))
            for row in service.rows(
                "select w.id, c.inbox_id, tsvector_to_array(w.words) as words"
                " from search_words w join conversations c on c.id = w.conversation_id"
            )
        }
        often = Counter(word for words, _ in said.values() for word in words if word.isalpha() and len(word) > 3)
        ranked = [word for word, _ in often.most_common()]
        everybody = Viewer(plan.account_id, None, frozenset(Permission), ConversationScope.ALL, inbox_ids=None)
        of_one = replace(everybody, scope=ConversationScope.TEAM, inbox_ids=frozenset({plan.inboxes[0][0]}))
        of_one = replace(of_one, team_ids=frozenset(plan.teams))

        async def found(viewer, typed):
            ids, place = [], None
            while True:
                async with service.database.begin(plan.account_id) as tx:
                    page = await searching.messages_of(tx, viewer, typed, 15, place)
                ids += [hit.message_id or hit.conversation_id for hit in page.hits]
                place = page.next
                if place is None:
                    return ids

        for typed in (ranked[0], ranked[30], ranked[-1], ranked[len(ranked) // 2], f"{ranked[0]} {ranked[9]}"):
            async with service.database.begin(plan.account_id) as tx:
                words = await store.forms(tx, typed.split(), open_end=False)
            # Words that are everywhere ("está", "the") count only among themselves.
            forms = [set(word.forms) for word in [word for word in words if not word.common] or words]
            for viewer in (everybody, of_one):
                expected = {
                    id_
                    for id_, (has, inbox) in said.items()
                    if all(has & each for each in forms) and (viewer.inbox_ids is None or inbox in viewer.inbox_ids)
                }
                ids = await found(viewer, f"{typed} ")
                assert len(ids) == len(set(ids))
                assert set(ids) == expected, typed

    run(body)
