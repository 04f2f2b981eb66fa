"""The owner's log: days moved to the object store, and read back as if they had never left."""

import asyncio
import os
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.chassis.archive import Archive
from relevo.chassis.database import Database, Pool
from relevo.chassis.log import Log
from relevo.chassis.objects import Folder, ObjectStore, open_store
from relevo.chassis.segments import LogRow, SegmentDamaged, pack, unpack
from relevo.chassis.testing import chassis_database

STREAM, TYPE = "EVT_PRESENCE", "relevo.presence.status_changed.v1"
TODAY = datetime.now(UTC).date()
WEEK = timedelta(days=7)


@pytest.fixture
def dsn(servers) -> str:
    return chassis_database(servers)


def fill(
    dsn: str, day: date, seqs: range, *, p: int = 0, relayed: bool = True, body: bytes = b'{"a":"\xc3\xa9"}'
) -> None:
    """Rows of one lane on one day, as the relay leaves them."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            f"create table if not exists outbox_{day:%Y%m%d} partition of outbox "
            f"for values from ('{day} 00:00+00') to ('{day + timedelta(days=1)} 00:00+00')"
        )
        for seq in seqs:
            connection.execute(
                "insert into outbox (created_at, stream, p, event_id, subject, headers, body, stream_seq) "
                "values (%s, %s, %s, gen_random_uuid(), %s, %s, %s, %s)",
                (
                    datetime(day.year, day.month, day.day, 12, tzinfo=UTC),
                    STREAM,
                    p,
                    f"evt.presence.acc.e{seq}.status_changed",
                    f'{{"ce-type": "{TYPE}"}}',
                    body,
                    seq if relayed else None,
                ),
            )


def database(dsn: str) -> Database:
    return Database(Pool(dsn, service="presence", size=2, lease_seconds=4), "presence")


async def everything(
    dsn: str, folder: Path | ObjectStore, *, p: int = 0, after: int = 0, before: int = 10**9
) -> list[LogRow]:
    opened = database(dsn)
    owned, rows, end = Log(opened, Folder(folder) if isinstance(folder, Path) else folder), [], False
    try:
        while not end:
            page = await owned.page(STREAM, p, after=after, before=before, types={TYPE})
            rows += page.rows
            assert page.end or page.through > after
            after, end = page.through, page.end
    finally:
        await opened.close()
    return rows


def archive(dsn: str, folder: Path) -> Archive:
    return Archive("presence", dsn, Folder(folder), WEEK)


def days(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("select relname from pg_class where relname ~ '^outbox_2[0-9]{7}$'").fetchall()
    return {row[0] for row in rows}


@given(
    st.lists(
        st.builds(
            LogRow,
            id=st.integers(1, 2**62),
            created_at=st.datetimes(timezones=st.just(UTC)),
            event_id=st.uuids().map(str),
            subject=st.text(),
            headers=st.text(),
            body=st.binary(),
            seq=st.integers(1, 2**62),
        )
    )
)
def test_a_block_gives_back_what_was_put_into_it(rows: list[LogRow]) -> None:
    assert unpack(pack(rows)) == rows
    assert pack(rows) == pack(rows)


async def test_archived_days_read_as_before(dsn, tmp_path):
    for ago, seqs in ((12, range(1, 1501)), (11, range(1501, 1600)), (9, range(1600, 1700)), (0, range(1700, 1800))):
        fill(dsn, TODAY - timedelta(days=ago), seqs)
    fill(dsn, TODAY - timedelta(days=12), range(5000, 5010), p=3)
    before = await everything(dsn, tmp_path)
    assert [row.seq for row in before] == list(range(1, 1800))
    done = await archive(dsn, tmp_path).run()
    assert done is not None
    assert (done.days, done.segments, done.rows, done.kept) == (3, 4, 1709, "")
    assert days(dsn) == {f"outbox_{TODAY:%Y%m%d}"}
    assert await everything(dsn, tmp_path) == before
    assert await everything(dsn, tmp_path, after=700, before=1705) == before[700:1704]
    assert len(await everything(dsn, tmp_path, p=3)) == 10
    again = await archive(dsn, tmp_path).run()
    assert again is not None
    assert again.days == 0


async def test_a_day_overlapping_the_next_is_read_in_the_order_of_the_stream(dsn, tmp_path):
    """A transaction that spans midnight: the earlier day has later sequences."""
    fill(dsn, TODAY - timedelta(days=12), range(1, 11))
    fill(dsn, TODAY - timedelta(days=12), range(13, 15))
    fill(dsn, TODAY - timedelta(days=11), range(11, 13))
    fill(dsn, TODAY - timedelta(days=11), range(15, 21))
    fill(dsn, TODAY - timedelta(days=11), range(23, 24))
    fill(dsn, TODAY, range(21, 23))
    fill(dsn, TODAY, range(24, 30))
    await archive(dsn, tmp_path).run()
    assert [row.seq for row in await everything(dsn, tmp_path)] == list(range(1, 30))


async def test_large_bodies_make_small_pages(dsn, tmp_path):
    fill(dsn, TODAY - timedelta(days=12), range(1, 8), body=os.urandom(300_000))
    fill(dsn, TODAY, range(8, 12), body=os.urandom(300_000))
    before = await everything(dsn, tmp_path)
    await archive(dsn, tmp_path).run()
    assert await everything(dsn, tmp_path) == before
    assert [row.seq for row in before] == list(range(1, 12))


async def test_a_day_with_a_row_that_is_not_in_its_stream_stays(dsn, tmp_path):
    fill(dsn, TODAY - timedelta(days=12), range(1, 5))
    fill(dsn, TODAY - timedelta(days=11), range(5, 7))
    fill(dsn, TODAY - timedelta(days=11), range(7, 8), relayed=False)
    done = await archive(dsn, tmp_path).run()
    assert done is not None
    assert done.days == 1
    assert "1 rows of EVT_PRESENCE/0 are not in their stream yet" in done.kept
    assert f"outbox_{TODAY - timedelta(days=11):%Y%m%d}" in days(dsn)


async def test_days_that_ended_lately_stay(dsn, tmp_path):
    fill(dsn, TODAY - timedelta(days=7), range(1, 5))
    fill(dsn, TODAY - timedelta(days=6), range(5, 9))
    done = await archive(dsn, tmp_path).run()
    assert done is not None
    assert done.days == 0


@pytest.mark.parametrize("harm", ["missing", "flipped", "truncated", "manifest"])
async def test_a_damaged_segment_is_refused_by_name(dsn, tmp_path, harm):
    for ago in (12, 11, 10):
        fill(dsn, TODAY - timedelta(days=ago), range(100 - ago * 5, 105 - ago * 5))
    await archive(dsn, tmp_path).run()
    day = TODAY - timedelta(days=11)
    path = tmp_path / "presence" / day.isoformat() / "EVT_PRESENCE.00.gz"
    if harm == "missing":
        path.unlink()
    elif harm == "flipped":
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
    elif harm == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        with psycopg.connect(dsn) as connection:
            connection.execute("delete from segments where day = %s", (day,))
    expected = "lacks a segment" if harm == "manifest" else f"presence/{day.isoformat()}/EVT_PRESENCE.00.gz"
    with pytest.raises(SegmentDamaged, match=expected):
        await everything(dsn, tmp_path)


_RUN = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from relevo.chassis.archive import Archive
from relevo.chassis.objects import Folder
asyncio.run(Archive("presence", sys.argv[1], Folder(Path(sys.argv[2])), timedelta(days=7)).run())
"""


@pytest.mark.parametrize(
    "point",
    [
        "archive.after_object",
        "archive.after_object:2",
        "archive.before_manifest",
        "archive.before_drop",
        "archive.after_drop",
    ],
)
async def test_dying_anywhere_loses_nothing(dsn, tmp_path, point):
    fill(dsn, TODAY - timedelta(days=12), range(1, 50))
    fill(dsn, TODAY - timedelta(days=12), range(50, 60), p=1)
    fill(dsn, TODAY - timedelta(days=11), range(60, 90))
    before = [await everything(dsn, tmp_path, p=p) for p in (0, 1)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _RUN, dsn, str(tmp_path), env=os.environ | {"RELEVO_CRASH": point}
    )
    assert await process.wait() == 137
    assert [await everything(dsn, tmp_path, p=p) for p in (0, 1)] == before
    done = await archive(dsn, tmp_path).run()
    assert done is not None
    assert done.kept == ""
    assert days(dsn) == set()
    assert [await everything(dsn, tmp_path, p=p) for p in (0, 1)] == before
    assert not list(tmp_path.rglob("*.unfinished"))


async def test_one_process_archives_at_a_time(dsn, tmp_path):
    fill(dsn, TODAY - timedelta(days=12), range(1, 5))
    with psycopg.connect(dsn) as connection:
        connection.execute("select pg_advisory_lock(79, 0)")
        assert await archive(dsn, tmp_path).run() is None
    assert await archive(dsn, tmp_path).run() is not None


def test_a_store_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="gs is not supported"):
        open_store("gs://bucket/archive")


async def test_days_in_a_bucket_are_read_as_from_a_folder(dsn, bucket):
    store = open_store(bucket)
    fill(dsn, TODAY - timedelta(days=12), range(1, 2500))
    before = await everything(dsn, store)
    done = await Archive("presence", dsn, store, WEEK).run()
    assert done is not None
    assert (days(dsn), len(before)) == (set(), 2499)
    assert await everything(dsn, store) == before
    assert await everything(dsn, store, after=2400, before=2410) == before[2400:2409]
    day = (TODAY - timedelta(days=12)).isoformat()
    await store.delete(f"presence/{day}/{STREAM}.00.gz")
    with pytest.raises(SegmentDamaged, match="is not there"):
        await everything(dsn, store)
