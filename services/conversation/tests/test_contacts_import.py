"""Contacts from CSV files, over HTTP, on real servers."""

import asyncio
import csv
import io
import os
import sys
import time

import pytest

from relevo.contracts.base import new_id
from relevo.conversation import contacts_import, importing
from relevo.conversation.store import imports

from .contact_office import Office


async def sent(office, who, data, **more):
    """An import with its file."""
    made = await office.post("/contacts/imports", who, {"file_name": "clientes.csv"})
    assert made.status_code == 201, made.text
    path = f"/contacts/imports/{made.json()['id']}"
    answer = await office.call("PUT", f"{path}/file", who, content=data, headers={"content-type": "text/csv"} | more)
    assert answer.status_code == 200, answer.text
    return path, answer.json()


async def ended(office, who, path):
    async with asyncio.timeout(60):
        while True:
            state = (await office.get(path, who)).json()
            if state["state"] not in ("checking", "running"):
                return state
            # Each chunk is committed by the worker: asked again once it had a turn.
            await importing.step(office.service.runtime.database)


async def imported(office, who, data, columns=None, act="start", **settings):
    path, file = await sent(office, who, data)
    body = {"columns": columns or file["columns"]} | settings
    begun = await office.post(f"{path}/{act}", who, body)
    assert begun.status_code == 202, begun.text
    return path, await ended(office, who, path)


def tally(state):
    return {name: state[name] for name in ("created", "updated", "unchanged", "skipped", "failed") if state[name]}


FILE = (
    "Nombre;Correo;Teléfono;Identificador;Talla;Etiquetas\r\n"
    "Ana Núñez 🐟;ANA@ejemplo.es;600 111 222;c1;42,5;vip, norte\r\n"
    '"Peces; S.L.";peces@ejemplo.es;;c2;;\r\n'
    "\r\n"
    "Mal;no es correo;12;;mucha;\r\n"
    '"dos\nlíneas";;+34600333444;;;\r\n'
    ";;;;;vip\r\n"
    "Ana;ana@ejemplo.es;;c2;;\r\n"
)
SETTINGS = {
    "columns": ["name", "email", "phone", "identifier", "attributes.talla", "labels"],
    "new_attributes": [{"key": "talla", "name": "Talla", "kind": "number"}],
    "phone_region": "ES",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_a_file_is_rehearsed_imported_and_what_failed_comes_back(at_office, encoding):
    text = FILE if encoding != "cp1252" else FILE.replace("🐟", "€")

    async def body(office, who):
        path, file = await sent(office, who, text.encode(encoding))
        assert file["header"] == ["Nombre", "Correo", "Teléfono", "Identificador", "Talla", "Etiquetas"]
        assert file["columns"] == ["name", "email", "phone", "identifier", None, "labels"]
        checked = await office.post(f"{path}/check", who, SETTINGS)
        assert checked.status_code == 202, checked.text
        rehearsal = await ended(office, who, path)
        assert (rehearsal["state"], rehearsal["progress"]) == ("checked", 1.0)
        assert tally(rehearsal) == {"created": 3, "failed": 3}
        assert (await office.get("/contacts", who)).json()["items"] == []
        told = (await office.get(f"{path}/failures", who)).json()["items"]
        settings = {name: value for name, value in SETTINGS.items() if name != "new_attributes"}
        begun = await office.post(f"{path}/start", who, settings, idempotency_key="k")
        assert (await office.post(f"{path}/start", who, settings, idempotency_key="k")).json() == begun.json()
        state = await ended(office, who, path)
        assert (state["state"], tally(state)) == ("done", tally(rehearsal))
        failures = (await office.get(f"{path}/failures", who)).json()["items"]
        assert failures == told
        assert [(row["line"], [e["column"] for e in row["errors"]]) for row in failures] == [
            (5, ["Correo", "Teléfono", "Talla"]),
            (8, [""]),
            (9, [""]),
        ]
        people = {c["identifier"]: c for c in (await office.get("/contacts", who)).json()["items"]}
        ana = people["c1"]
        assert (ana["name"], ana["email"], ana["phone"]) == (
            "Ana Núñez 🐟" if encoding != "cp1252" else "Ana Núñez €",
            "ana@ejemplo.es",
            "+34600111222",
        )
        assert (ana["attributes"], ana["labels"]) == ({"talla": 42.5}, ["vip", "norte"])
        assert people["c2"]["name"] == "Peces; S.L."
        assert people[None]["name"] == "dos líneas"
        ((kind, sequence, event),) = office.events(ana["id"])
        assert (kind, sequence, event["origin"]) == ("contact_created", 1, "import")
        # What failed is mended and sent again as it came back.
        answer = await office.get(f"{path}/failures.csv", who)
        assert answer.content.startswith(b"\xef\xbb\xbf")
        rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert [row[0] for row in rows] == ["Nombre", "Mal", "", "Ana"]
        assert rows[0][-1] == "Errores"
        assert "Correo:" in rows[1][-1]
        rows[1][1:3], rows[1][4] = ["mal@ejemplo.es", "600999888"], "44"
        again = io.StringIO()
        csv.writer(again).writerows([row[:-1] for row in rows])
        _, state = await imported(office, who, again.getvalue().encode(), **settings)
        assert tally(state) == {"created": 1, "failed": 2}
        assert office.rows("select 1 from contact_import_parts where account_id = %s", office.account) == []

    at_office(body)


def test_the_same_file_again_changes_nothing(at_office):
    async def body(office, who):
        data = b"name,email\nAna,ana@x.es\nLuz,luz@x.es\n"
        assert tally((await imported(office, who, data))[1]) == {"created": 2}
        events = len(office.events())
        assert tally((await imported(office, who, data))[1]) == {"unchanged": 2}
        assert len(office.events()) == events
        changed = data.replace(b"Luz,", b"Luz M.,")
        assert tally((await imported(office, who, changed, mode="create"))[1]) == {"skipped": 2}
        assert tally((await imported(office, who, changed, mode="update"))[1]) == {"updated": 1, "unchanged": 1}
        (luz,) = (await office.get("/contacts", who, email="luz@x.es")).json()["items"]
        assert [(kind, n) for kind, n, _ in office.events(luz["id"])][-1] == ("contact_updated", 2)

    at_office(body)


def test_a_rehearsal_sees_what_its_own_rows_would_do(at_office, monkeypatch):
    monkeypatch.setattr(contacts_import, "CHUNK", 2)

    async def body(office, who):
        data = b"identifier,email\n1,a@x.es\n2,b@x.es\n1,c@x.es\n3,a@x.es\n4,b@x.es\n2,d@x.es\n"
        _, rehearsal = await imported(office, who, data, act="check")
        _, state = await imported(office, who, data)
        assert tally(rehearsal) == tally(state) == {"created": 3, "updated": 2, "failed": 1}
        assert office.rows("select 1 from contact_import_previews where account_id = %s", office.account) == []

    at_office(body)


def test_what_cannot_be_imported_is_refused_with_the_mend(at_office):
    async def body(office, who):
        made = (await office.post("/contacts/imports", who, {})).json()
        path = f"/contacts/imports/{made['id']}"
        for data in (b"", b"  \n ", b"PK\x03\x04zip", b'"nunca cerrada', b"x" * 1_100_000, b"\n" + b"a," * 300):
            answer = await office.call("PUT", f"{path}/file", who, content=data)
            assert (answer.status_code, answer.json()["code"]) == (422, "bad_csv"), data[:20]
        started = await office.post(f"{path}/start", who, {"columns": ["name"]})
        assert (started.status_code, started.json()["code"]) == (409, "import_has_no_file")
        path, _ = await sent(office, who, b"a,b\n1,2\n")
        for columns, pointer in (
            (["name"], "/columns"),
            (["name", "name"], "/columns/1"),
            (["name", "attributes.nada"], "/columns/1"),
            (["name", "sequence"], "/columns/1"),
            ([None, None], "/columns"),
        ):
            answer = await office.post(f"{path}/check", who, {"columns": columns})
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), columns
        big = await office.call("PUT", f"{path}/file", who, content=b"x", headers={"content-length": str(60 << 20)})
        assert (big.status_code, big.json()["code"]) == (413, "too_large")

        async def endless():
            yield b"name\n"
            for _ in range(60):
                yield b"Ana Ruiz\n" * (1024 * 1024 // 9)

        big = await office.call("PUT", f"{path}/file", who, content=endless())
        assert big.status_code == 413
        marketing = await office.who("marketing")
        new = {"columns": ["name", "attributes.b"], "new_attributes": [{"key": "b", "name": "B", "kind": "text"}]}
        assert (await office.post(f"{path}/start", marketing, new)).status_code == 403
        agent = await office.who()
        assert (await office.post("/contacts/imports", agent, {})).status_code == 403
        assert (await office.get(path, agent)).status_code == 403
        other = await Office(office.service).open()
        stranger = await other.who("administrator")
        for answer in (
            await office.get(path, stranger),
            await office.get(f"{path}/failures.csv", stranger),
            await office.post(f"{path}/start", stranger, {"columns": ["name", None]}),
            await office.call("PUT", f"{path}/file", stranger, content=b"a\n"),
        ):
            assert answer.status_code == 404

    at_office(body)


def test_a_running_import_can_be_cancelled_and_its_rows_stay(at_office):
    async def body(office, who):
        data = b"email\n" + b"".join(b"c%d@x.es\n" % n for n in range(20_000))
        path, file = await sent(office, who, data)
        await office.post(f"{path}/start", who, {"columns": file["columns"]})
        await importing.step(office.service.runtime.database)
        refused = await office.call("PUT", f"{path}/file", who, content=b"a\n")
        assert (refused.status_code, refused.json()["code"]) == (409, "import_running")
        state = (await office.post(f"{path}/cancel", who)).json()
        assert state["state"] == "cancelled"
        assert 0 < state["progress"] < 1
        ((count,),) = [
            tuple(r.values())
            for r in office.rows("select count(*) from contacts where account_id = %s", office.account)
        ]
        assert count == state["created"] == len(office.events())
        assert (await office.post(f"{path}/cancel", who)).status_code == 409
        assert (await office.get("/contacts/imports", who)).json()["items"][0]["id"] == state["id"]

    at_office(body)


def hundred_thousand(rows, bad_every=20):
    """A file with a bad row in every `bad_every`."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["name", "email", "phone", "identifier", "company", "city", "labels", "talla"])
    for n in range(rows):
        email = f"cliente{n}@ejemplo.es" if n % bad_every else f"cliente{n} en ejemplo.es"
        phone = f"+34{600_000_000 + n}"
        writer.writerow(
            [f"Cliente Núñez {n} 🐟", email, phone, f"crm-{n}", 'Peces "Sur", S.L.', "Cádiz", "vip, sur", n]
        )
    return out.getvalue().encode()


@pytest.mark.deep
@pytest.mark.timeout(300)
def test_a_hundred_thousand_rows_with_five_percent_bad(at_office, record_property):
    rows = 100_000

    async def body(office, who):
        path, file = await sent(office, who, hundred_thousand(rows))
        attribute = {"key": "talla", "name": "Talla", "kind": "number"}
        settings = {"columns": [*file["columns"][:-1], "attributes.talla"], "new_attributes": [attribute]}
        for act in ("check", "start"):
            begun = time.monotonic()
            answer = await office.post(f"{path}/{act}", who, settings)
            assert answer.status_code == 202, answer.text
            settings.pop("new_attributes", None)
            seen = []
            async with asyncio.timeout(200):
                while (state := (await office.get(path, who)).json())["state"] in ("checking", "running"):
                    seen.append(state["progress"])
                    await asyncio.sleep(0.2)  # as a page that shows the progress does
            seconds = time.monotonic() - begun
            record_property(act, seconds)
            assert seen == sorted(seen)
            assert tally(state) == {"created": rows - rows // 20, "failed": rows // 20}
            assert seconds < 60
        await office.service.settle(120)
        record_property("published", time.monotonic() - begun)

    at_office(body)


@pytest.mark.deep
@pytest.mark.timeout(300)
def test_a_file_of_fifty_megabytes(at_office, record_property):
    async def body(office, who):
        line = b"c%07d@x.es," + "ñandú ".encode() * 200 + b"\n"
        rows = (50 * 1024 * 1024 - 100) // len(line % 0)

        async def file():
            yield b"email,notas\n"
            for n in range(rows):
                yield line % n

        made = (await office.post("/contacts/imports", who, {})).json()
        path = f"/contacts/imports/{made['id']}"
        begun = time.monotonic()
        answer = await office.call("PUT", f"{path}/file", who, content=file())
        assert answer.status_code == 200, answer.text
        record_property("upload", time.monotonic() - begun)
        await office.post(f"{path}/start", who, {"columns": ["email", None]})
        state = await ended(office, who, path)
        record_property("import", time.monotonic() - begun)
        assert (state["state"], tally(state)) == ("done", {"created": rows})

    at_office(body)


WORKER = """
import asyncio, sys
from relevo.chassis.database import Database, Pool
from relevo.conversation import importing
from relevo.conversation.store import imports

async def main():
    database = Database(Pool(sys.argv[1], service="conversation", size=2, lease_seconds=4), "conversation")
    while await importing.step(database):
        pass
    await database.close()

asyncio.run(main())
"""


def made(service):
    """Of whom it was told that they came to be; labels that come with them are told of too."""
    return [headers["ce-subject"] for name, _, headers in service.events() if name == "contact_created"]


def test_killed_between_any_two_lines_it_goes_on_and_nothing_is_half_done(servers, run, tmp_path):
    async def body(service):
        account, id_, file_id = new_id(), new_id(), new_id()
        rows = 4_500
        data = hundred_thousand(rows)
        targets = ["name", "email", "phone", "identifier", "company", "city", "labels", None]
        async with service.database.begin(account) as tx:
            await imports.add(tx, account, id=id_, actor="agent:a", actor_name="a", file_name="f")
            for n in range(0, len(data), imports.PART):
                await imports.add_part(tx, account, file_id, n // imports.PART, data[n : n + imports.PART])
            header = data.partition(b"\r\n")[0].decode().split(",")
            start = len(data.partition(b"\r\n")[0]) + 2
            await imports.uploaded(
                tx,
                account,
                id_,
                file=file_id,
                size=len(data),
                delimiter=",",
                header=header,
                columns=[],
                offset=start,
                line=2,
            )
            await imports.begin(
                tx, account, id_, state="running", columns=targets, mode="create_and_update", region=None
            )
        script = tmp_path / "worker.py"
        script.write_text(WORKER)

        async def worker(crash=None):
            environment = dict(os.environ) | ({"RELEVO_CRASH": crash} if crash else {})
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(script), servers.serving(service.dsn), env=environment
            )
            return await process.wait()

        done = 0
        for crash in (
            "contacts_import.between_contacts_and_events:2",
            "contacts_import.before_commit",
            "transaction.before_commit",
            "contacts_import.after_commit",
        ):
            assert await worker(crash) == 137, crash
            (state,) = service.rows("select created, failed, next_line from contact_imports")
            assert state["created"] + state["failed"] == state["next_line"] - 2 >= done
            done = state["next_line"] - 2
            assert service.rows("select count(*) as n from contacts")[0]["n"] == state["created"]
            assert len(made(service)) == state["created"]
        assert 0 < done < rows
        assert await worker() == 0
        (state,) = service.rows("select state, created, updated, unchanged, failed from contact_imports")
        bad = rows // 20
        assert state == {"state": "done", "created": rows - bad, "updated": 0, "unchanged": 0, "failed": bad}
        told = made(service)
        assert len(told) == len(set(told)) == rows - bad
        assert service.rows("select count(*) as n from contact_import_failures")[0]["n"] == bad

    run(body)
