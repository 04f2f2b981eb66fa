"""docker-compose.yml, really built and run: the story, a replay, then replicas under load with the chaos judge.

RELEVO_COMPOSE_SECONDS, _RATE and _SENDERS set the sizes of the load. RELEVO_COMPOSE_KEEP=1 leaves the project running.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos import checker
from chaos.load import Load
from compose.project import Project, docker, missing, shared
from e2e.test_replay import SAMPLE
from e2e.test_story import test_from_a_customers_word_to_the_report as story

from relevo.stack.wiring import SERVICES

SECONDS = float(os.environ.get("RELEVO_COMPOSE_SECONDS", "45"))
RATE = float(os.environ.get("RELEVO_COMPOSE_RATE", "60"))
SENDERS = int(os.environ.get("RELEVO_COMPOSE_SENDERS", "200"))
SCALE = {"conversation": 3, "assignment": 2}
ALONE = len(SERVICES) + 3
SCALED = ALONE + sum(SCALE.values()) - len(SCALE)
REPLAYED = 500

pytestmark = [
    pytest.mark.deep,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    found = Project(tmp_path_factory.mktemp("compose"))
    try:
        began = time.monotonic()
        found.compose("build")
        built = time.monotonic()
        found.up()
        print(f"\ncompose: {found.name} built in {built - began:.0f} s, up in {time.monotonic() - built:.0f} s")
        asyncio.run(found.ready(ALONE))
        print(f"compose: ready after {time.monotonic() - built:.0f} s")
        yield found
    finally:
        if "RELEVO_COMPOSE_KEEP" not in os.environ:
            found.down()


def test_every_container_has_the_least(project: Project) -> None:
    for one in project.containers():
        name, host = one["Name"], one["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert host["Memory"] > 0, name
        assert one["Config"]["User"] not in ("", "0", "0:0", "root"), name
    for service in SERVICES:
        (one,) = project.containers(service)
        mounts = {mount["Name"].removeprefix(f"{project.name}_"): mount["RW"] for mount in one["Mounts"]}
        assert mounts == {f"secrets-{service}": False, f"files-{service}": True}
        assert not [entry for entry in one["Config"]["Env"] if "PASSWORD" in entry or "SEED" in entry or "KEY" in entry]
        labels = one["Config"]["Labels"]
        assert {f"org.opencontainers.image.{name}" for name in ("version", "revision", "licenses")} <= labels.keys()
        sbom = json.loads(docker("exec", one["Id"], "cat", labels["relevo.sbom"]))
        assert {"relevo-chassis", f"relevo-{service}", "pydantic"} <= {part["name"] for part in sbom["components"]}
    published = {
        one["Config"]["Labels"]["com.docker.compose.service"]
        for one in project.containers()
        if any(one["NetworkSettings"]["Ports"].values())
    }
    assert published == {"edge", "nats", "postgres"}  # postgres for this test's judge alone


async def test_one_conversations_whole_story(project: Project) -> None:
    await story(project, killing=False)


def test_five_hundred_conversations_are_replayed_without_a_difference(project: Project) -> None:
    """From the command line's container."""
    made = project.tool("account", "demo")
    assert made.returncode == 0, made.stdout + made.stderr
    source, file = conversations(project.folder / "conversations.jsonl")
    done = project.tool(
        *("replay", "/data.jsonl", "--connection", "/var/lib/relevo/connection.json", "--limit", str(REPLAYED)),
        volumes=[f"{file}:/data.jsonl:ro"],
    )
    print(f"\nreplayed from {source}:\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{REPLAYED} conversations" in done.stdout
    assert "no difference" in done.stdout


def conversations(file: Path) -> tuple[str, Path]:
    """The shared data (RELEVO_SHARED); where there is none, as many copies of the shipped sample under ids of their own."""
    data = shared() / "data" / "conversations.jsonl"
    if data.exists():
        return "the shared data", data.absolute()
    sample = [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()]
    copies = [sample[n % len(sample)] | {"id": f"{sample[n % len(sample)]['id']}-{n}"} for n in range(REPLAYED)]
    file.write_text("".join(json.dumps(one) + "\n" for one in copies))
    file.chmod(0o644)
    return "copies of the sample", file


def test_an_account_is_made_from_the_command_line(project: Project) -> None:
    done = project.tool("account", "create", "Luna", "--admin", "Eva", "--email", "eva@relevo.example", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(json.loads(done.stdout)["password"]) >= 12
    again = project.tool("account", "create", "Luna", "--admin", "Eva", "--email", "eva@relevo.example", "--json")
    assert again.returncode == 1
    assert "Traceback" not in again.stderr


async def test_replicas_lose_double_and_disorder_nothing(project: Project) -> None:
    """Three of conversation, two of assignment; one of each is killed under load, one comes back; the judge decides."""
    keys = (project.home / "secrets" / "bus-keys.json").read_text()
    await asyncio.to_thread(
        project.compose, "up", "--detach", *(part for name, n in SCALE.items() for part in ("--scale", f"{name}={n}"))
    )
    await project.ready(SCALED)
    project.copy_secrets()
    assert (project.home / "secrets" / "bus-keys.json").read_text() == keys  # a second start keeps what is there
    seed = random.SystemRandom().randrange(1_000_000)
    done: list[str] = []

    async def strike(service: str, after: float, back: float) -> None:
        await asyncio.sleep(after)
        victim = project.containers(service)[-1]["Name"].strip("/")
        await asyncio.to_thread(docker, "kill", victim)
        done.append(f"killed {victim}")
        await asyncio.sleep(back)
        await asyncio.to_thread(docker, "start", victim)
        done.append(f"started {victim} again")

    async with project.account("ana", "berta", "carlos", "diana") as account, project.status_file() as status:
        for person in account.people:
            await person.be("available")
        load = Load(account, SENDERS, RATE, random.Random(seed))
        look = project.where(account, status)
        enough = asyncio.Event()
        sending = asyncio.create_task(load.run(enough))
        await asyncio.gather(
            asyncio.sleep(SECONDS), strike("conversation", SECONDS / 4, 8), strike("assignment", SECONDS / 2, 8)
        )
        enough.set()
        await sending
        async with load.listening():
            settled = await checker.quiet(look, load.ledger, 180)
        verdict = await checker.judge(look, load.ledger, read_back=40)
    shares = partitions(project)
    latencies = sorted(load.latencies)
    figures: dict[str, Any] = {
        "seed": seed,
        "done": done,
        "messages/s": round(len(load.ledger.tried) / load.seconds, 1),
        "acknowledged after, p50/p99 (ms)": [round(1000 * latencies[int(len(latencies) * q)], 1) for q in (0.5, 0.99)],
        "quiet after (s)": round(settled, 1),
        "holders of partitions": shares,
        "connections to PostgreSQL": connections(project),
    }
    verdict.figures = figures | verdict.figures
    print("\n" + verdict.text())
    assert verdict.faults == {}
    assert verdict.figures["acknowledged"] > SECONDS * RATE / 2
    assert {name: len(found) for name, found in shares.items()} == SCALE


def test_asked_to_stop_every_service_drains_and_ends_well(project: Project) -> None:
    for one in project.containers():
        service = one["Config"]["Labels"]["com.docker.compose.service"]
        if service in SERVICES:
            began = time.monotonic()
            docker("stop", one["Id"])
            took = time.monotonic() - began
            state = json.loads(docker("inspect", one["Id"]))[0]["State"]
            print(f"{one['Name']}: exit code {state['ExitCode']} after {took:.1f} s")
            assert state["ExitCode"] == 0, docker("logs", "--tail", "20", one["Id"])
            assert took < 25


def partitions(project: Project) -> dict[str, list[int]]:
    """How many partitions each process holds, by service."""
    statement = """
        select count(*) from pg_locks
        where locktype = 'advisory' and granted and classid = 77
          and database = (select oid from pg_database where datname = current_database())
        group by pid
    """
    return {service: sorted(row[0] for row in project.rows(service, statement)) for service in SCALE}


def connections(project: Project) -> int:
    """By the engine's own count, against max_connections of 300."""
    (one,) = project.containers("postgres")
    query = "select count(*) from pg_stat_activity where usename ~ '^relevo_'"
    command = f'PGPASSWORD=$(cat /etc/relevo/password) psql -h 127.0.0.1 -U relevo_admin -d postgres -Atc "{query}"'
    return int(docker("exec", one["Id"], "sh", "-c", command))
