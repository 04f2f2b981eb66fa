"""A replica of conversation behind a network that breaks in every way, while the other one goes on."""

import asyncio
import random
import re
import subprocess

import psycopg
import pytest
from chaos.links import Fault, Link
from chaos.run import SEED, ChaosStack, Scene, under_load
from chaos.test_replicas import Watcher

RATE = 150.0
BROKEN_SECONDS = 7.0
"""Longer than a lease."""
WELL_SECONDS = 4.0
FAULTS: list[tuple[str, Fault]] = [
    ("bus", "cut"),
    ("database", "cut"),
    ("bus", "half-open"),
    ("database", "half-open"),
    ("bus", "slow"),
    ("database", "slow"),
    ("bus", "reset"),
    ("database", "reset"),
]


async def takes_part(watcher: Watcher, process: subprocess.Popen[bytes], members: int) -> None:
    """Wait until so many replicas share the partitions."""
    async with asyncio.timeout(60):
        while len(set(watcher.holders().values())) != members:
            assert process.poll() in {None, 70}, "it ended of a broken network"
            await asyncio.sleep(0.1)


async def stored(scene: Scene) -> int:
    seen = len(scene.handled.seen)
    async with asyncio.timeout(10):
        while len(scene.handled.seen) == seen:  # noqa: ASYNC110 — nobody tells
            await asyncio.sleep(0.1)
    return scene.handled.stored


@pytest.mark.deep
@pytest.mark.timeout(600)
async def test_a_broken_network_loses_doubles_and_reorders_nothing(running: ChaosStack) -> None:
    stack = running.stack
    luck = random.Random(SEED)
    ports = {name: item["port"] for name, item in stack.running().items()}
    bus, database = Link(ports["nats"], luck), Link(ports["postgres"], luck)
    links = {"bus": bus, "database": database}
    told = stack.told("conversation")
    async with (
        bus.open(),
        database.open(),
        under_load(running, luck, rate=RATE, variety=False, settle=180, read_back=40) as scene,
    ):
        watcher = Watcher(scene.look, "conversation")
        far = {
            "RELEVO_NATS_URL": f"nats://127.0.0.1:{bus.port}",
            "RELEVO_DATABASE_URL": re.sub(r":\d+/", f":{database.port}/", told["RELEVO_DATABASE_URL"]),
        }
        process = stack.replica("conversation", **far)
        try:
            for place, fault in FAULTS:
                await takes_part(watcher, process, 2)
                before = await stored(scene)
                links[place].suffer(fault)
                await asyncio.sleep(BROKEN_SECONDS)
                links[place].suffer("none")
                await asyncio.sleep(WELL_SECONDS)
                if process.poll() is not None:  # it may end itself; somebody starts it again
                    process = stack.replica("conversation", **far)
                went_on = await stored(scene) - before
                print(f"  {place:<10} {fault:<10} {went_on} messages stored meanwhile")
                assert went_on > 0
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait)
            watcher.close()
    print(scene.verdict.text())
    assert scene.verdict.faults == {}


def test_a_database_address_is_bent_to_the_link() -> None:
    parts = psycopg.conninfo.conninfo_to_dict(re.sub(r":\d+/", ":7/", "postgresql://u:p@127.0.0.1:5433/relevo_x"))
    assert (parts["port"], parts["dbname"]) == ("7", "relevo_x")
