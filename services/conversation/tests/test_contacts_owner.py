"""Whose customer a contact is: said by those who may, seen by the owner, kept through transfers and merges."""

from relevo.contracts.base import new_id
from relevo.contracts.identity import RoleChanged
from relevo.contracts.permissions import ROLES

from .contact_office import Office
from .test_contacts_api import writes


async def owner(office, who, contact, **given):
    return await office.call("PUT", f"/contacts/{contact}/owner", who, json=given)


def test_the_owner_sees_the_contact_s_conversations_old_and_new_and_a_line_tells(at_office):
    async def body(office, boss):
        people = office.people
        # An agent who reaches nothing but their own.
        eva = await people.hire("Eva", "agent", inbox_ids=(), language="es")
        as_eva = people.as_(eva)
        await writes(office, id="cliente-1")
        (found,) = (await office.get("/conversations", boss)).json()["items"]
        conversation, contact = found["id"], found["contact"]["id"]
        assert (await office.get(f"/conversations/{conversation}", as_eva)).status_code == 404
        made = await owner(office, boss, contact, agent_id=eva)
        assert (made.status_code, made.json()["owner_id"]) == (200, eva)
        assert (await office.get(f"/conversations/{conversation}", as_eva)).json()["contact"]["owner_id"] == eva
        lines = (await office.get(f"/conversations/{conversation}/messages", boss)).json()["items"]
        assert [line["text"] for line in lines if line["kind"] == "activity"][-1].endswith(
            "hizo a Eva responsable del contacto."
        )
        assert [one["id"] for one in (await office.get("/contacts", boss, owner=eva)).json()["items"]] == [contact]
        again = await owner(office, boss, contact, agent_id=eva)
        assert again.json()["sequence"] == made.json()["sequence"], "nothing changed"
        gone = await owner(office, boss, contact)
        assert (gone.json()["owner_id"], gone.json()["owner_team_id"]) == (None, None)
        assert (await office.get(f"/conversations/{conversation}", as_eva)).status_code == 404

    at_office(body)


def test_who_may_say_so_and_what_cannot_be(at_office):
    async def body(office, boss):
        contact = (await office.contact(boss, name="Ana"))["id"]
        agent = await office.who("agent")
        assert (await owner(office, agent, contact)).status_code == 403
        both = await owner(office, boss, contact, agent_id=new_id(), team_id=new_id())
        assert (both.status_code, both.json()["code"]) == (422, "one_owner")
        nobody = await owner(office, boss, contact, agent_id=new_id())
        assert (nobody.json()["code"], nobody.json()["errors"][0]["pointer"]) == ("agent_not_found", "/agent_id")
        team = await owner(office, boss, contact, team_id=new_id())
        assert (team.json()["code"], team.json()["errors"][0]["pointer"]) == ("team_not_found", "/team_id")
        assert (await owner(office, boss, new_id())).status_code == 404
        other = await Office(office.service).open()
        stranger = await other.who("administrator")
        assert (await owner(other, stranger, contact)).status_code == 404

    at_office(body)


def test_a_role_s_switch_says_who_may_and_administrators_always_do(at_office):
    async def body(office, boss):
        contact = (await office.contact(boss, name="Ana"))["id"]
        eva = await office.people.hire("Eva", "agent", language="es")
        may = {}
        for name, template in ROLES.items():
            role = office.people.roles[name]
            for on in (False, True):
                permissions = template.permissions | (template.switches if on else frozenset())
                changed = role.model_copy(update={"permissions": permissions})
                await office.people.tell(RoleChanged(role=changed), role.id)
                who = await office.who(name)
                answer = await owner(office, who, contact, agent_id=eva)
                # Who reaches no contact finds none, whatever they may.
                may[name, on] = answer.status_code
        assert may == {
            ("administrator", False): 200, ("administrator", True): 200,
            ("supervisor", False): 200, ("supervisor", True): 200,
            ("agent", False): 403, ("agent", True): 200,
            ("auditor", False): 403, ("auditor", True): 200,
            ("marketing", False): 403, ("marketing", True): 200,
        }  # fmt: skip

    at_office(body)


def test_a_contact_without_an_owner_takes_that_of_whom_it_is_merged_with(at_office):
    async def body(office, boss):
        eva = await office.people.hire("Eva", "agent")
        await office.service.settle()
        base, other = [await office.contact(boss, name=name) for name in ("Ana", "Ana B")]
        await owner(office, boss, other["id"], agent_id=eva)
        merged = (await office.post(f"/contacts/{base['id']}/merge", boss, {"other_id": other["id"]})).json()
        assert (await office.get(f"/contacts/{base['id']}", boss)).json()["owner_id"] == eva
        undone = await office.post(f"/contacts/merges/{merged['merge']['id']}/undo", boss)
        assert undone.status_code == 200, undone.text
        assert (await office.get(f"/contacts/{base['id']}", boss)).json()["owner_id"] is None
        assert (await office.get(f"/contacts/{other['id']}", boss)).json()["owner_id"] == eva

    at_office(body)


def told(office, conversation):
    """Each change of a conversation's owner: whose it was, and whose it is."""
    found = [body for name, _, body in office.events(conversation) if name == "owner_changed"]
    return [(body.get("from_owner_id"), body["conversation"]["contact"].get("owner_id")) for body in found]


def test_every_change_of_the_owner_is_told_once_with_whose_it_was(at_office):
    async def body(office, boss):
        eva, luis = [await office.people.hire(name, "agent") for name in ("Eva", "Luis")]
        await writes(office, id="de-eva")
        await writes(office, id="de-luis")
        known = {
            one["source_id"]: (one["contact"]["id"], one["id"])
            for one in (await office.get("/conversations", boss)).json()["items"]
        }
        (base, hers), (other, his) = known["de-eva"], known["de-luis"]
        await owner(office, boss, base, agent_id=luis)
        await owner(office, boss, base, agent_id=eva)
        await owner(office, boss, other, agent_id=luis)
        assert told(office, hers) == [(None, luis), (luis, eva)]
        # What is handed over is the other contact's owner's, and tells so to whoever keeps who may see what.
        merged = (await office.post(f"/contacts/{base}/merge", boss, {"other_id": other})).json()
        assert told(office, his) == [(None, luis), (luis, eva)]
        await owner(office, boss, base)
        undone = await office.post(f"/contacts/merges/{merged['merge']['id']}/undo", boss)
        assert undone.status_code == 200, undone.text
        assert told(office, his) == [(None, luis), (luis, eva), (eva, None), (None, luis)]
        assert told(office, hers) == [(None, luis), (luis, eva), (eva, None)]

    at_office(body)
