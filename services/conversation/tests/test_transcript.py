"""Custom attributes of conversations, and transcripts."""

from relevo.contracts.base import new_id


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

    at_desk(body)
