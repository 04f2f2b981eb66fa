"""The spool: durable when it says so, in order, bounded, and whole after a crash."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevo.adapter import SpoolFull, SpoolUnusable
from relevo.adapter.spool import Record, Spool


def record(number: int, body: str = "{}") -> Record:
    return Record(f"inbound.a.b.s{number}.message", f"s{number % 3}", {"Nats-Msg-Id": str(number)}, body)


async def opened(path: Path, max_bytes: int = 1_000_000) -> Spool:
    spool = Spool(path, max_bytes)
    spool.open()
    return spool


def test_keeps_order_and_survives_the_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "deep" / "box.jsonl"
        spool = await opened(path)
        await asyncio.gather(*(spool.append(record(number)) for number in range(100)))
        assert path.stat().st_mode & 0o077 == 0
        first = spool.read(10)
        spool.drop(10)
        assert [r.headers["Nats-Msg-Id"] for r in first] == [str(n) for n in range(10)]
        assert spool.pending == 90
        await spool.close()
        again = await opened(path)
        # What was sent but not yet cleared away comes again: ingest folds it.
        assert again.pending == 100
        while again.pending:
            again.drop(len(again.read(7)))
        assert path.stat().st_size == 0
        await again.append(record(1))
        assert again.read(5) == [record(1)]
        await again.close()

    asyncio.run(scenario())


def test_is_bounded_and_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        spool = await opened(tmp_path / "s", 1000)
        results = await asyncio.gather(*(spool.append(record(n)) for n in range(100)), return_exceptions=True)
        taken = results.count(None)
        assert all("is full" in str(refused) for refused in results[taken:])
        assert isinstance(results[-1], SpoolFull)
        assert spool.pending == taken > 3
        spool.read(2)
        spool.drop(2)
        await spool.append(record(taken))
        await spool.close()

    asyncio.run(scenario())


def test_a_torn_end_is_cut_off_and_a_damaged_line_put_aside(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "s"
        path.write_bytes(record(1).line() + b'{"subject": 1\n' + record(2).line() + record(3).line()[:20])
        spool = await opened(path)
        assert spool.pending == 3
        found = []
        while spool.pending:
            read = spool.read(10)
            found += read
            spool.drop(len(read))
        assert found == [record(1), record(2)]
        assert (tmp_path / "s.rejected").read_bytes() == b'{"subject": 1\n'
        await spool.close()

    asyncio.run(scenario())


def test_one_process_at_a_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        spool = await opened(tmp_path / "s")
        with pytest.raises(SpoolUnusable, match="another process"):
            await opened(tmp_path / "s")
        await spool.close()
        await (await opened(tmp_path / "s")).close()
        with pytest.raises(SpoolUnusable, match="cannot be opened"):
            await opened(tmp_path / "s" / "not-a-folder" / "s")

    asyncio.run(scenario())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=40), st.integers(0, 3)), max_size=20))
def test_reads_and_drops_in_any_pattern(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    async def scenario() -> None:
        spool = await opened(tmp_path_factory.mktemp("spool") / "s")
        written, read = [], []
        for body, takes in steps:
            one = record(len(written), body)
            await spool.append(one)
            written.append(one)
            got = spool.read(takes)
            spool.drop(len(got))
            read += got
        while spool.pending:
            got = spool.read(4, max_bytes=10)
            spool.drop(len(got))
            read += got
        assert read == written
        await spool.close()

    asyncio.run(scenario())
