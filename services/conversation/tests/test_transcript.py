"""Custom attributes of conversations, and transcripts."""

from relevo.contracts.base import new_id
from relevo.conversation import printing
from relevo.conversation.domain.transcript import Said, Transcript
from relevo.conversation.printing.pages import drawn

from .paper import lines_of


def test_attributes_of_a_conversation_fit_their_definitions(at_desk):
    async def body(desk):
        _, admin = await desk.agent("administrator")
        path = await desk.begun(admin)
        for key, kind in (("pedido", "number"), ("urge", "checkbox"), ("nota", "text")):
            definition = {"entity": "conversation", "key": key, "name": key, "kind": kind}
            made = await desk.post("/attributes", admin, definition)
            assert made.status_code == 201, made.text

        async def patch(values):
            return await desk.send("PATCH", f"{path}/attributes", admin, {"attributes": values})

        changed = await patch({"pedido": 7, "urge": True})
        assert (changed.status_code, changed.json()["attributes"]) == (200, {"pedido": 7, "urge": True}), changed.text
        again = await patch({"pedido": 7})
        assert again.json()["sequence"] == changed.json()["sequence"]
        assert (await patch({"urge": None, "nota": "sí"})).json()["attributes"] == {"pedido": 7, "nota": "sí"}
        await desk.refused(await patch({"pedido": "x"}), 422, "validation_failed", "/attributes/pedido")
        await desk.refused(await patch({"otro": 1}), 422, "validation_failed", "/attributes/otro")
        assert (await desk.get(path, admin)).json()["attributes"] == {"pedido": 7, "nota": "sí"}
        await desk.customer_writes(text="Más")
        assert (await desk.get(path, admin)).json()["attributes"] == {"pedido": 7, "nota": "sí"}
        assert await desk.lines(path, admin) == [
            "Eva Ruiz cambió pedido: 7, urge: sí.",
            "Eva Ruiz cambió nota: sí, urge: —.",
        ]

    at_desk(body)


def test_a_transcript_has_what_the_customer_saw_and_never_a_note(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        _, elsewhere = await desk.agent(inboxes=(new_id(),))
        path = await desk.begun(eva, "¿Tienen stock?")
        await desk.post(f"{path}/messages", eva, {"text": "interno", "private": True})
        await desk.post(f"{path}/messages", eva, {"text": "Sí, hoy mismo"})
        await desk.post(f"{path}/subject", eva, {"subject": "Stock"})
        answer = await desk.get(f"{path}/transcript", eva)
        assert answer.headers["content-type"].startswith("text/plain")
        lines = answer.text.splitlines()
        assert lines[:2] == ["Conversación 1: Cliente 34600111222", "Asunto: Stock"]
        assert [lines[4], lines[7]] == ["¿Tienen stock?", "Sí, hoy mismo"]
        assert lines[6].endswith("  Eva Ruiz")
        assert "interno" not in answer.text
        english = await desk.get(f"{path}/transcript", eva | {"accept-language": "en"})
        assert english.text.startswith("Conversation 1: ")
        await desk.refused(await desk.get(f"{path}/transcript", elsewhere), 404, "conversation_not_found")
        await desk.refused(await desk.get(f"{path}/transcript.pdf", elsewhere), 404, "conversation_not_found")
        answer = await desk.get(f"{path}/transcript.pdf", eva)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf"), answer.text
        assert answer.headers["content-disposition"] == "attachment; filename=conversation-1.pdf"
        page = lines_of(answer.content)
        assert [page[0], page[1], page[3], page[5]] == [lines[0], lines[1], lines[4], lines[7]]
        assert page[-1] == "Página 1 de 1"
        assert "interno" not in str(page)
        english = await desk.get(f"{path}/transcript.pdf", eva | {"accept-language": "en"})
        assert lines_of(english.content)[0] == "Conversation 1: Cliente 34600111222"
        assert b"/Lang (en)" in english.content

    at_desk(body)


def test_what_is_printed_is_what_was_written_as_far_as_there_are_signs_for_it():
    words = "¿Qué tal, Íñigo? «Ünïcödé» 5 € → 😀 👍🏽 🚀 ❤️ ✅\n\tSegunda línea\u202e al revés"
    said = (
        Said("22/11/2026 10:00", "Ana María Núñez 🎉", "customer", words, ("factura año 2026.pdf",)),
        Said("22/11/2026 10:01", "Eva Ruiz", "team", "中文 🫶 \x00(\\) <b>no</b>", ()),
        *(Said("22/11/2026 10:02", "Eva Ruiz", "team", f"línea {n}", ()) for n in range(60)),
    )
    page = lines_of(drawn(Transcript("Conversación 7: Ana", "", "es", said)))
    assert page[:8] == [
        "Conversación 7: Ana",
        "Ana María Núñez 🎉  ·  22/11/2026 10:00",
        "¿Qué tal, Íñigo? «Ünïcödé» 5 € → 😀 👍 🚀 ❤ ✅",
        " Segunda línea al revés",
        "Adjunto: factura año 2026.pdf",
        "Eva Ruiz  ·  22/11/2026 10:01",
        "□□ [heart hands] (\\) <b>no</b>",
        "Eva Ruiz  ·  22/11/2026 10:02",
    ]
    assert [line for line in page if line.startswith("línea ")] == [f"línea {n}" for n in range(60)]
    assert "Página 2 de 4" in page


def test_a_transcript_without_end_is_not_printed():
    endless = Transcript("x", "", "es", (Said("", "", "customer", "x" * printing.LONGEST, ()),))
    assert printing.too_long(endless)
