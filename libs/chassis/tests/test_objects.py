"""The object store keeps one promise, in a folder and in a bucket."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relevo.chassis.objects import Access, Folder, ObjectMissing, ObjectStore, open_store
from relevo.chassis.objects_s3 import StoreDown
from relevo.chassis.settings import BadSettings, ServiceSettings

LARGE = 20 * 1024 * 1024 + 7
"""More than two parts of what is sent to a bucket at once."""


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return Folder(tmp_path) if request.param == "folder" else open_store(request.getfixturevalue("bucket"))


async def chunks(*given: bytes) -> AsyncIterator[bytes]:
    for one in given:
        yield one


async def test_what_was_put_is_there_whole_and_in_parts_until_it_is_deleted(store: ObjectStore) -> None:
    content = bytes(range(256)) * 500
    await store.put("a/b", chunks(content[:1000], content[1000:90_000], content[90_000:]))
    assert await store.get("a/b", 0, len(content)) == content
    assert await store.get("a/b", 999, 3) == content[999:1002]
    assert await store.get("a/b", len(content) - 1, 1) == content[-1:]
    for offset, length in ((len(content) - 1, 2), (len(content), 1), (len(content) + 50, 10)):
        with pytest.raises(ObjectMissing, match="bytes were expected"):
            await store.get("a/b", offset, length)
    await store.put("a/b", chunks(b"otro"))
    assert await store.get("a/b", 0, 4) == b"otro"
    await store.delete("a/b")
    await store.delete("a/b")
    with pytest.raises(ObjectMissing, match="is not there"):
        await store.get("a/b", 0, 1)


async def test_a_large_object_goes_in_parts_and_comes_as_it_was(store: ObjectStore) -> None:
    piece = hashlib.sha256(b"x").digest() * 2048

    async def large() -> AsyncIterator[bytes]:
        left = LARGE
        while left:
            yield piece[:left]
            left -= min(left, len(piece))

    await store.put("large", large())
    digest = hashlib.sha256()
    for offset in range(0, LARGE, 2**20):
        digest.update(await store.get("large", offset, min(2**20, LARGE - offset)))
    wanted = hashlib.sha256()
    async for one in large():
        wanted.update(one)
    assert digest.digest() == wanted.digest()
    with pytest.raises(ObjectMissing):
        await store.get("large", LARGE - 1, 2)


@pytest.mark.parametrize("before", [0, LARGE])
async def test_what_breaks_off_leaves_what_was_there(store: ObjectStore, before: int) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for _ in range(0, before, 2**20):
            yield bytes(2**20)
        yield b"nuevo"
        raise ConnectionResetError("the browser went away")

    await store.put("one", chunks(b"viejo"))
    with pytest.raises(ConnectionResetError):
        await store.put("one", broken())
    assert await store.get("one", 0, 5) == b"viejo"
    with pytest.raises(ObjectMissing):
        await store.get("one", 0, 6)


async def test_no_name_leads_out_of_the_store(store: ObjectStore) -> None:
    for name in ("/etc/passwd", "../x", "a/../../x"):
        with pytest.raises(ValueError, match="cannot be an object's name"):
            await store.get(name, 0, 1)
        with pytest.raises(ValueError, match="cannot be an object's name"):
            await store.put(name, chunks(b"x"))


async def test_stores_below_one_bucket_do_not_see_each_other(bucket: str) -> None:
    one, other = open_store(bucket), open_store(bucket.replace("/kept?", "/other?"))
    await one.put("name", chunks(b"mine"))
    with pytest.raises(ObjectMissing):
        await other.get("name", 0, 4)


async def test_a_bucket_that_cannot_be_had_is_told_without_its_secrets() -> None:
    down = open_store("s3://bucket/x?endpoint=http://127.0.0.1:9", Access("me", "very-secret"))
    for act in (down.get("a", 0, 1), down.delete("a"), down.put("a", chunks(b"x"))):
        with pytest.raises(StoreDown, match="object a: ") as raised:
            await act
        assert "very-secret" not in str(raised.value)
    assert "very-secret" not in repr(Access("me", "very-secret"))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3:///folder", "must look like s3://bucket"),
        ("s3://me:secret@bucket", "must look like s3://bucket"),
        ("s3://bucket?endpoint=minio:9000", "endpoint must begin with"),
        ("s3://bucket?zone=x", "zone: s3 addresses take"),
        ("gs://bucket", "gs is not supported"),
        ("file://elsewhere/x", "file is not supported"),
    ],
)
def test_addresses_that_are_wrong_say_why(url: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEVO_DATABASE_URL", "postgresql://a@b/c")
    monkeypatch.setenv("RELEVO_ARCHIVE_URL", url)
    with pytest.raises(BadSettings, match=f"RELEVO_ARCHIVE_URL: {why}"):
        ServiceSettings()


def test_who_we_are_to_a_bucket_is_a_setting_that_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATABASE_URL": "postgresql://a@b/c",
        "ARCHIVE_URL": "s3://logs/relevo?region=eu-west-1",
        "S3_ACCESS_KEY_ID": "me",
        "S3_SECRET_ACCESS_KEY": "very-secret",
    }.items():
        monkeypatch.setenv(f"RELEVO_{name}", value)
    settings = ServiceSettings()
    assert "very-secret" not in repr(settings)
    # One client a bucket, however often it is asked for.
    assert settings.archive() is settings.archive()
