"""Canned replies: edited, found, filled in."""

from hypothesis import given
from hypothesis import strategies as st

from relevo.contracts.permissions import Permission
from relevo.conversation.domain.canned import VARIABLES
from relevo.kernel.variables import filled


def test_canned_replies_are_found_by_code_first_and_filled_in_for_a_conversation(at_desk, world):
    async def body(desk):
        _, eva = await desk.agent()
        path = await desk.begun(eva, name="Ana María López")
        texts = {
            "saludo": "Hola {{contact.first_name|amigo}}, soy {{ agent.name }}. Su caso es el {{conversation.number}}.",
            "devolucion": "Para la devolución, escriba a {{contact.email|nuestro correo}}.",
            "plazo": "El plazo de devolución es de 14 días. Saludos",
        }
        made = {}
        for code, text in texts.items():
            answer = await desk.post("/canned-replies", eva, {"code": f"/{code.upper()}", "text": text})
            assert answer.status_code == 201, answer.text
            made[code] = answer
        taken = await desk.post("/canned-replies", eva, {"code": "saludo", "text": "x"})
        await desk.refused(taken, 409, "code_is_taken", "/code")
        unknown = await desk.post("/canned-replies", eva, {"code": "y", "text": "{{contact.password}}"})
        await desk.refused(unknown, 422, "unknown_variable", "/text")
        assert (await desk.post("/canned-replies", eva, {"code": "con espacio", "text": "x"})).status_code == 422

        async def codes(**params):
            return [c["code"] for c in (await desk.get("/canned-replies", eva, **params)).json()["items"]]

        assert await codes() == ["devolucion", "plazo", "saludo"]
        assert await codes(q="/DEVO") == ["devolucion", "plazo"]
        assert await codes(q="saludo") == ["saludo", "plazo"]
        first = (await desk.get("/canned-replies", eva, limit=2)).json()
        assert await codes(limit=2, cursor=first["next"]) == ["saludo"]
        id_ = made["saludo"].json()["id"]
        filled_in = await desk.get(f"/canned-replies/{id_}/filled", eva, conversation=path.rpartition("/")[2])
        assert filled_in.json()["text"] == "Hola Ana, soy Eva Ruiz. Su caso es el 1."
        other = made["devolucion"].json()["id"]
        filled_in = await desk.get(f"/canned-replies/{other}/filled", eva, conversation=path.rpartition("/")[2])
        assert filled_in.json()["text"] == "Para la devolución, escriba a nuestro correo."

        _, reader = await desk.agent(permissions=frozenset({Permission.CONVERSATIONS_READ}))
        assert (await desk.get(f"/canned-replies/{id_}", reader)).status_code == 200
        await desk.refused(
            await desk.post("/canned-replies", reader, {"code": "z", "text": "x"}), 403, "permission_missing"
        )
        stranger = type(desk)(desk.service, type(world)())
        _, foreign = await stranger.agent("administrator")
        await desk.refused(await desk.get(f"/canned-replies/{id_}", foreign), 404, "canned_reply_not_found")

        async def edit(tag, code="saludo", text="Hola"):
            headers = eva | ({"if-match": tag} if tag else {})
            return await desk.send("PUT", f"/canned-replies/{id_}", headers, {"code": code, "text": text})

        await desk.refused(await edit(None), 428, "if_match_missing")
        edited = await edit(made["saludo"].headers["etag"])
        assert (edited.status_code, edited.json()["text"]) == (200, "Hola")
        await desk.refused(await edit(made["saludo"].headers["etag"]), 412, "changed_meanwhile")
        await desk.refused(await edit(edited.headers["etag"], code="plazo"), 409, "code_is_taken", "/code")
        gone = await desk.send("DELETE", f"/canned-replies/{id_}", eva | {"if-match": edited.headers["etag"]})
        assert gone.status_code == 204
        assert await codes() == ["devolucion", "plazo"]

    at_desk(body)


@given(st.lists(st.sampled_from([*VARIABLES, "texto {"]), max_size=6), st.text(max_size=20))
def test_what_a_value_says_is_never_taken_for_a_variable(names, value):
    text = " ".join(f"{{{{{name}}}}}" if name in VARIABLES else name for name in names)
    nested = "{{agent.name}}" + value
    expected = " ".join(nested if name in VARIABLES else name for name in names)
    assert filled(text, dict.fromkeys(VARIABLES, nested)) == expected
