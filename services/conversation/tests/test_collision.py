"""A colleague replied meanwhile: whoever writes is told before the customer has two answers."""


def test_who_writes_is_told_that_a_colleague_replied_and_loses_nothing(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        _, luis = await desk.agent()
        path = await desk.begun(eva)
        seen = (await desk.get(path, luis)).json()["sequence"]
        await desk.customer_writes(text="¿Hola?")
        await desk.post(f"{path}/messages", eva, {"text": "Nota", "private": True})
        said = (await desk.post(f"{path}/messages", eva, {"text": "Voy", "seen_through": seen})).json()
        late = {"text": "Dígame", "seen_through": seen}
        refused = await desk.post(f"{path}/messages", luis, late, idempotency_key="k")
        await desk.refused(refused, 409, "colleague_replied")
        told = refused.json()
        assert [one["text"] for one in told["replies"]] == ["Voy"]
        assert told["sequence"] == said["sequence"]
        draft = (await desk.get(f"{path}/draft", luis)).json()
        assert (draft["text"], draft["private"]) == ("Dígame", False)
        again = await desk.post(
            f"{path}/messages", luis, late | {"seen_through": told["sequence"]}, idempotency_key="k"
        )
        assert again.status_code == 201, again.text
        assert (await desk.get(f"{path}/draft", luis)).status_code == 404
        shown = (await desk.get(f"{path}/messages", luis)).json()["items"]
        assert [one["text"] for one in shown if one["kind"] == "outgoing"] == ["Voy", "Dígame"]

    at_desk(body)


def test_only_a_colleagues_reply_to_the_customer_counts(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        _, luis = await desk.agent()
        path = await desk.begun(eva)
        await desk.post(f"{path}/messages", luis, {"text": "Nota", "private": True})
        await desk.customer_writes(text="¿Hola?")
        first = await desk.post(f"{path}/messages", eva, {"text": "Voy", "seen_through": 0})
        assert first.status_code == 201, first.text
        own = await desk.post(f"{path}/messages", eva, {"text": "Ya", "seen_through": 0})
        assert own.status_code == 201, own.text
        note = await desk.post(f"{path}/messages", luis, {"text": "Otra nota", "private": True, "seen_through": 0})
        assert note.status_code == 201, note.text
        unasked = await desk.post(f"{path}/messages", luis, {"text": "También"})
        assert unasked.status_code == 201, unasked.text

    at_desk(body)
