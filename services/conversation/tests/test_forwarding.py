"""Conversations sent by e-mail: to whom, what of it, and what never."""

import base64
import json

from relevo.contracts.base import new_id
from relevo.contracts.permissions import Permission

from .paper import lines_of


async def ordered(desk):
    """The e-mails that notification was asked for: to whom, in which language, with what."""
    await desk.service.settle()
    stored = await desk.service.admin.stored("CMD_NOTIFICATION")
    return [(one["address"], one["language"], one["data"]) for one in (json.loads(body) for _, _, body in stored)]


async def last_order(desk):
    """The whole of the last e-mail that notification was asked for."""
    await desk.service.settle()
    return json.loads((await desk.service.admin.stored("CMD_NOTIFICATION"))[-1][2])


def test_a_conversation_goes_by_mail_to_its_customer_or_an_address_and_never_with_a_note(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        path = await desk.begun(eva, "¿Tienen stock?", email="Luz@Example.com")
        await desk.post(f"{path}/messages", eva, {"text": "secreto de la casa", "private": True})
        reply = (await desk.post(f"{path}/messages", eva, {"text": "Sí, hoy mismo"})).json()
        sent = await desk.post(f"{path}/forward", eva, {}, idempotency_key="f")
        assert (sent.status_code, sent.json()) == (202, {"addresses": ["luz@example.com"]})
        assert (await desk.post(f"{path}/forward", eva, {}, idempotency_key="f")).json() == sent.json()
        to = ["Jefa@Otra.example", "jefa@otra.example"]
        more = {"to": to, "comment": "Para tu información", "message_id": reply["id"], "language": "en"}
        assert (await desk.post(f"{path}/forward", eva, more)).json() == {"addresses": ["jefa@otra.example"]}
        (first, language, whole), (second, other, one) = await ordered(desk)
        assert (first, language, second, other) == ("luz@example.com", "es", "jefa@otra.example", "en")
        assert "¿Tienen stock?" in whole["transcript"]
        assert "Sí, hoy mismo" in whole["transcript"]
        assert one["comment"] == "Para tu información\n\n"
        assert ("stock" in one["transcript"], "Sí, hoy mismo" in one["transcript"]) == (False, True)
        assert "secreto" not in str((whole, one))
        assert await desk.lines(path, eva) == [
            "Eva Ruiz envió la conversación a luz@example.com.",
            "Eva Ruiz envió la conversación a jefa@otra.example.",
        ]
        note = (await desk.get(f"{path}/messages", eva)).json()["items"][1]
        for change, code, pointer in (
            ({"to": ["x@y@z"]}, "validation_failed", "/to/0"),
            ({"to": ["a@b.es\r\nBcc: c@d.es"]}, "validation_failed", "/to/0"),
            ({"message_id": note["id"]}, "unknown_message", "/message_id"),
            ({"message_id": new_id()}, "unknown_message", "/message_id"),
        ):
            await desk.refused(await desk.post(f"{path}/forward", eva, change), 422, code, pointer)
        _, elsewhere = await desk.agent(inboxes=(new_id(),))
        await desk.refused(await desk.post(f"{path}/forward", elsewhere, {}), 404, "conversation_not_found")
        _, reader = await desk.agent(permissions=frozenset({Permission.CONVERSATIONS_READ}))
        await desk.refused(await desk.post(f"{path}/forward", reader, {}), 403, "permission_missing")
        both = await desk.post(f"{path}/forward", eva, {"pdf": True, "with_notes": True})
        await desk.refused(both, 422, "notes_in_no_pdf", "/pdf")
        await desk.refused(await desk.post(f"{path}/forward", elsewhere, {"pdf": True}), 404, "conversation_not_found")
        assert (await desk.post(f"{path}/forward", eva, {"to": ["a@b.example"], "pdf": True})).status_code == 202
        stored = await last_order(desk)
        assert (stored["file"]["name"], stored["file"]["content_type"]) == ("conversation-1.pdf", "application/pdf")
        page = lines_of(base64.b64decode(stored["file"]["content"]))
        assert {"¿Tienen stock?", "Sí, hoy mismo"} <= set(page)
        assert "secreto" not in str(page)
        unknown = await desk.begun(eva, who="sin-correo")
        await desk.refused(await desk.post(f"{unknown}/forward", eva, {}), 422, "no_address", "/to")
        assert len(await ordered(desk)) == 3

        # Erased, neither the line nor what was ordered tells anything of the person.
        _, admin = await desk.agent("administrator")
        contact = (await desk.get(path, admin)).json()["contact"]["id"]
        assert (await desk.post(f"/contacts/{contact}/erase", admin)).status_code == 202
        assert (await desk.lines(path, eva))[0] == "Eva Ruiz envió la conversación a —."

    at_desk(body)


def test_notes_go_only_to_colleagues_who_may_see_the_conversation(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        path = await desk.begun(eva)
        await desk.post(f"{path}/messages", eva, {"text": "ojo con el precio", "private": True})
        inside = {"to": ["eva@example.com"], "with_notes": True}
        assert (await desk.post(f"{path}/forward", eva, inside)).status_code == 202
        ((_, _, data),) = await ordered(desk)
        assert "ojo con el precio" in data["transcript"]
        assert "(nota interna)" in data["transcript"]
        outside = {"to": ["eva@example.com", "cliente@example.com"], "with_notes": True}
        await desk.refused(await desk.post(f"{path}/forward", eva, outside), 422, "notes_stay_inside", "/to/1")
        allowed = frozenset({Permission.CONVERSATIONS_READ, Permission.CONVERSATIONS_FORWARD})
        _, without = await desk.agent(permissions=allowed, scope="all")
        await desk.refused(await desk.post(f"{path}/forward", without, inside), 403, "permission_missing")
        answers = [await desk.post(f"{path}/forward", eva, {"to": ["a@example.com"]}) for _ in range(21)]
        assert answers[0].status_code == 202
        await desk.refused(answers[-1], 429, "rate_limited")

    at_desk(body)
