"""The broker's disk is full for a while: adapters are held up, and what was acknowledged is there afterwards."""

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.run import SEED, ChaosStack, chaos_stack, under_load
from whole_stack import shared_folder

SIZE_MB = 256
RATE = 100.0
FULL_SECONDS = 10.0
BACK_SECONDS = 60.0
_BLOCK = b"\0" * 65536


@pytest.fixture
def small_disk() -> Iterator[tuple[ChaosStack, Path]]:
    """A stack whose broker stores on a small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    with shared_folder() as folder:
        store = folder / "home" / "servers" / "nats" / "jetstream"
        store.mkdir(parents=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0700", "tmpfs", str(store)],
            capture_output=True,
            text=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
        for closed in (folder / "home", folder / "home" / "servers", folder / "home" / "servers" / "nats"):
            closed.chmod(0o711)
        try:
            with chaos_stack(folder) as running:
                yield running, store
        finally:
            subprocess.run(["umount", str(store)], check=True)


def fill(store: Path) -> Path:
    """Take all the room that is left; answers the file that has it."""
    filler = store / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(_BLOCK) == len(_BLOCK):
                pass
        except OSError:
            pass
    return filler


@pytest.mark.deep
@pytest.mark.timeout(400)
async def test_a_full_disk_holds_adapters_up_and_loses_nothing(small_disk: tuple[ChaosStack, Path]) -> None:
    running, store = small_disk
    async with under_load(running, random.Random(SEED), rate=RATE, variety=False, settle=120, read_back=40) as scene:
        ledger = scene.ledger
        await asyncio.sleep(8)
        filler = await asyncio.to_thread(fill, store)
        full = time.monotonic()
        await asyncio.sleep(FULL_SECONDS)
        held_up = ledger.rate(time.monotonic() - 3, time.monotonic())
        filler.unlink()
        # What an operator does after making room: the broker stops its store when it cannot write.
        assert running.stack.signal("nats", signal.SIGKILL)
        freed = time.monotonic()
        while ledger.rate(time.monotonic() - 2, time.monotonic()) < RATE / 2:
            assert time.monotonic() - freed < BACK_SECONDS, "nothing is acknowledged any more"
            await asyncio.sleep(0.1)
        back = time.monotonic() - freed
        await asyncio.sleep(5)
    print(
        f"  full for {freed - full:.1f} s: {held_up:.1f} messages/s acknowledged in its last 3 s; "
        f"flowing again {back:.1f} s after the broker was started again"
    )
    print(scene.verdict.text())
    assert held_up < RATE / 2, "the disk was not full for the broker"
    assert scene.verdict.faults == {}
