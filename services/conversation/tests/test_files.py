"""Attachments: checked, kept, sent, fetched while their address is good, and forgotten."""

import asyncio
import hashlib
import json
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.chassis.objects import Folder, ObjectMissing, open_store
from relevo.chassis.testing import running
from relevo.conversation.app import build
from relevo.conversation.domain.files import MAX_BYTES, TYPES, check_type, part
from relevo.conversation.domain.state import Refused
from relevo.conversation.retention import forget_files

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 5000


@pytest.fixture
def at_files_desk(servers, world, tmp_path, desk_of):
    """A desk whose service keeps files in a folder of the test's own."""

    def runner(body):
        async def main():
            environment = {"RELEVO_FILES": str(tmp_path), "RELEVO_PUBLIC_URL": "https://relevo.example/"}
            async with running(build, servers, **environment) as service:
                await body(desk_of(service, world), tmp_path / "attachments")

        asyncio.run(main())

    return runner


async def upload(desk, who, content=PNG, name="captura día.png", kind="image/png"):
    return await desk.service.http.post(
        "/files", params={"name": name}, content=content, headers=who | {"content-type": kind}
    )


async def fetch(desk, url):
    parts = urlsplit(url)
    return await desk.service.http.get(f"{parts.path.removeprefix('/api/v1')}?{parts.query}")


def stored(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_a_file_goes_to_the_customer_s_channel_and_to_who_reads_the_conversation(at_files_desk):
    async def body(desk, folder):
        _, eva = await desk.agent()
        path = await desk.begun(eva)
        uploaded = await upload(desk, eva)
        assert uploaded.status_code == 201, uploaded.text
        file = uploaded.json()
        assert (file["name"], file["content_type"], file["size"]) == ("captura día.png", "image/png", len(PNG))
        sent = await desk.post(f"{path}/messages", eva, {"attachments": [file["id"]]}, idempotency_key="a")
        assert sent.status_code == 201, sent.text
        again = await desk.post(f"{path}/messages", eva, {"attachments": [file["id"]]}, idempotency_key="a")
        assert again.json() == sent.json()
        await desk.service.settle()
        ((_, _, out),) = await desk.service.admin.stored("OUTBOUND")
        (attachment,) = json.loads(out)["attachments"]
        assert attachment["url"].startswith("https://relevo.example/api/v1/files/")
        shown = (await desk.get(f"{path}/messages", eva)).json()["items"][-1]["attachments"][0]
        for url in (attachment["url"], shown["url"], file["url"]):
            got = await fetch(desk, url)
            assert got.status_code == 200
            assert hashlib.sha256(got.content).digest() == hashlib.sha256(PNG).digest()
            assert got.headers["content-type"] == "image/png"
            assert got.headers["x-content-type-options"] == "nosniff"
            assert "captura%20d%C3%ADa.png" in got.headers["content-disposition"]
        # Not a character of an address can be changed, and without signature there is none.
        for url in (
            shown["url"][:-1] + ("0" if shown["url"][-1] != "0" else "1"),
            shown["url"].replace("expires=1", "expires=2"),
        ):
            assert (await fetch(desk, url)).json()["code"] == "file_not_found"
        plain = shown["url"].partition("?")[0].removeprefix("/api/v1")
        assert (await desk.get(plain, eva)).status_code == 422
        twice = await desk.post(f"{path}/messages", eva, {"text": "x", "attachments": [file["id"]]})
        await desk.refused(twice, 422, "unknown_file", "/attachments/0")
        await desk.refused(await desk.post(f"{path}/messages", eva, {"text": " "}), 422, "empty_message", "/text")

    at_files_desk(body)


def test_what_is_no_such_file_too_large_or_of_a_type_not_taken_is_refused_and_leaves_nothing(at_files_desk):
    async def body(desk, folder):
        _, eva = await desk.agent()
        pointer = "/header/content-type"
        page = await upload(desk, eva, b"<html><script>", kind="text/html")
        await desk.refused(page, 422, "file_type_not_taken", pointer)
        await desk.refused(
            await upload(desk, eva, b"<svg/>", kind="image/svg+xml"), 422, "file_type_not_taken", pointer
        )
        await desk.refused(
            await upload(desk, eva, b"MZ\x90\0", kind="image/png"), 422, "file_is_something_else", pointer
        )
        await desk.refused(await upload(desk, eva, b"", kind="image/png"), 422, "file_is_empty")

        async def endless():
            for _ in range(MAX_BYTES // 2**20 + 1):
                yield b"%PDF-" + b"x" * (2**20 - 5)

        assert (await upload(desk, eva, endless(), kind="application/pdf")).status_code == 413
        assert stored(folder) == []

    at_files_desk(body)


def test_files_of_others_cannot_be_sent_and_those_nobody_wants_are_forgotten(at_files_desk, world):
    async def body(desk, folder):
        _, eva = await desk.agent()
        _, luis = await desk.agent()
        path = await desk.begun(eva)
        kept, note, _ = [(await upload(desk, eva)).json() for _ in range(3)]
        stolen = await desk.post(f"{path}/messages", luis, {"attachments": [kept["id"]]})
        await desk.refused(stolen, 422, "unknown_file", "/attachments/0")
        stranger = type(desk)(desk.service, type(world)())
        _, foreign = await stranger.agent("administrator")
        theirs = await stranger.begun(foreign)
        await desk.refused(
            await desk.post(f"{theirs}/messages", foreign, {"attachments": [kept["id"]]}), 422, "unknown_file"
        )
        await desk.post(f"{path}/messages", eva, {"attachments": [kept["id"]]})
        written = await desk.post(f"{path}/messages", eva, {"private": True, "attachments": [note["id"]]})
        await desk.send("DELETE", f"{path}/messages/{written.json()['id']}", eva)
        assert (await fetch(desk, note["url"])).status_code == 404
        database = desk.service.runtime.database
        assert await forget_files(database, Folder(folder)) == 1
        async with database.begin(desk.world.account_id) as tx:
            await tx.conn.execute("update files set created_at = created_at - interval '2 days'")
        assert await forget_files(database, Folder(folder)) == 1
        assert [p.name for p in stored(folder)] == [kept["id"]]
        assert (await fetch(desk, kept["url"])).status_code == 200
        await Folder(folder).delete(f"{desk.world.account_id}/{kept['id']}")
        assert (await fetch(desk, kept["url"])).json()["code"] == "file_is_gone"

    at_files_desk(body)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_that_is_taken_is_checked(kind):
    with pytest.raises(Refused):
        check_type(kind, b"\x7fELF\0\0\0\0")


def test_files_in_a_bucket_are_sent_fetched_in_parts_and_forgotten(servers, world, desk_of, bucket):
    async def main():
        environment = {"RELEVO_ATTACHMENTS_URL": bucket, "RELEVO_PUBLIC_URL": "https://relevo.example/"}
        async with running(build, servers, **environment) as service:
            desk = desk_of(service, world)
            _, eva = await desk.agent()
            path = await desk.begun(eva)
            file = (await upload(desk, eva)).json()
            await desk.refused(await upload(desk, eva, b"MZ", kind="image/png"), 422, "file_is_something_else")
            assert (await desk.post(f"{path}/messages", eva, {"attachments": [file["id"]]})).status_code == 201
            (shown,) = (await desk.get(f"{path}/messages", eva)).json()["items"][-1]["attachments"]
            whole = await fetch(desk, shown["url"])
            assert (whole.status_code, whole.headers["accept-ranges"]) == (200, "bytes")
            assert whole.content == PNG

            async def asked_for(asked, **more):
                parts = urlsplit(shown["url"])
                url = f"{parts.path.removeprefix('/api/v1')}?{parts.query}"
                return await desk.service.http.get(url, headers={"range": asked, **more})

            for asked, first, last in (
                ("bytes=0-9", 0, 9),
                ("bytes=300000-", 300_000, len(PNG) - 1),
                (f"bytes=5-{2**50}", 5, len(PNG) - 1),
                ("bytes=-4", len(PNG) - 4, len(PNG) - 1),
            ):
                answer = await asked_for(asked)
                assert answer.status_code == 206
                assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(PNG)}"
                assert answer.content == PNG[first : last + 1]
            beyond = await asked_for(f"bytes={len(PNG)}-")
            assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(PNG)}")
            for all_of_it in (await asked_for("bytes=0-1,5-6"), await asked_for("bytes=0-9", **{"if-range": '"x"'})):
                assert (all_of_it.status_code, all_of_it.content == PNG) == (200, True)

            note = (await upload(desk, eva)).json()
            written = await desk.post(f"{path}/messages", eva, {"private": True, "attachments": [note["id"]]})
            await desk.send("DELETE", f"{path}/messages/{written.json()['id']}", eva)
            objects = open_store(bucket)
            assert await forget_files(desk.service.runtime.database, objects) == 1
            with pytest.raises(ObjectMissing):
                await objects.get(f"{world.account_id}/{note['id']}", 0, 1)
            await objects.delete(f"{world.account_id}/{file['id']}")
            assert (await fetch(desk, shown["url"])).json()["code"] == "file_is_gone"

    asyncio.run(main())


@given(st.integers(1, 10**9), st.integers(0, 2 * 10**9), st.one_of(st.none(), st.integers(0, 2 * 10**9)))
def test_a_part_lies_within_the_file(size, first, last):
    asked = f"bytes={first}-{'' if last is None else last}"
    if last is not None and last < first:
        assert part(asked, size) is None
    elif first >= size:
        with pytest.raises(Refused):
            part(asked, size)
    else:
        assert part(asked, size) == (first, min(size - 1 if last is None else last, size - 1) - first + 1)
