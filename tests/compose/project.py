"""docker-compose.yml brought up as a project of its own, on free ports; used from outside like any other stack."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from chaos.checker import Where
from whole_stack import Account, WholeStack, until

from relevo.stack.postgres import SUPERUSER
from relevo.stack.wiring import SERVICES

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "tests/compose/published.yml")
_LONG_SECONDS = 1500
_KEYS = "tar -C /var/lib/relevo -cf - secrets"


def missing() -> str | None:
    """Why no containers can be run here; None when they can."""
    if shutil.which("docker") is None:
        return "no container engine: the program docker is not installed"
    try:
        asked = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False, timeout=10)
    except subprocess.TimeoutExpired:
        return "the container engine does not answer within 10 s"
    if asked.returncode != 0:
        return f"no container engine answers: {asked.stderr.strip().splitlines()[-1]}"
    return None if _compose() else "neither `docker compose` nor docker-compose is installed"


def _compose() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
                return command
    return []


class Project(WholeStack):
    """One compose project with volumes of its own, and a copy of its secrets in `home`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.name = f"relevo-test-{secrets.token_hex(3)}"
        self.environment["COMPOSE_PROJECT_NAME"] = self.name
        self._command = [*_compose(), *(part for file in FILES for part in ("-f", str(ROOT / file)))]
        self.home.mkdir()

    # -- compose ------------------------------------------------------------------------------------------------------

    def compose(self, *arguments: str) -> str:
        """A command of compose; fails showing what it said."""
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONG_SECONDS,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def tool(self, *arguments: str, volumes: Iterable[str] = ()) -> subprocess.CompletedProcess[str]:
        """`docker compose run --rm relevo …`, as an operator calls the command line."""
        mounted = (part for volume in volumes for part in ("-v", volume))
        return subprocess.run(
            [*self._command, "run", "--rm", "-T", "-e", "COLUMNS=200", *mounted, "relevo", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONG_SECONDS,
        )

    def up(self) -> None:
        self.compose("up", "--detach")
        self.copy_secrets()

    def copy_secrets(self) -> None:
        """Out of the volume home, which only the command line's containers see."""
        told = subprocess.run(
            [*self._command, "run", "--rm", "-T", "--entrypoint", "sh", "relevo", "-c", _KEYS],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            check=True,
            timeout=_LONG_SECONDS,
        )
        subprocess.run(["tar", "-C", str(self.home), "-xf", "-"], input=told.stdout, check=True)

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")

    # -- containers ---------------------------------------------------------------------------------------------------

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """The project's containers (or a service's) as the engine describes them, the smallest number first."""
        labels = [f"com.docker.compose.project={self.name}", "com.docker.compose.oneoff=False"]
        labels += [f"com.docker.compose.service={service}"] if service else []
        found = docker("ps", "-aq", *(part for label in labels for part in ("--filter", f"label={label}"))).split()
        described: list[dict[str, Any]] = json.loads(docker("inspect", *found)) if found else []
        return sorted(described, key=lambda one: one["Name"])

    def running(self) -> dict[str, dict[str, Any]]:
        return {
            one["Name"].strip("/"): {
                "name": one["Config"]["Labels"]["com.docker.compose.service"],
                "ready": one["State"].get("Health", {}).get("Status") == "healthy",
            }
            for one in self.containers()
            if one["Config"]["Labels"]["com.docker.compose.service"] not in ("prepare", "setup")
        }

    async def ready(self, number: int, seconds: float = 180) -> None:
        """Wait until so many containers run and all of them are ready."""

        async def look() -> bool:
            now = await asyncio.to_thread(self.running)
            return len(now) == number and all(item["ready"] for item in now.values())

        await until(look, f"{number} containers, all ready", seconds)

    # -- for the judge ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def status_file(self) -> AsyncIterator[Path]:
        """A file that tells, a second ago at most, who is ready: what the supervisor writes elsewhere."""
        file = self.folder / "status.json"

        def write() -> None:
            unfinished = file.with_suffix(".new")
            unfinished.write_text(json.dumps({"servers": [], "services": list(self.running().values())}))
            unfinished.replace(file)

        async def follow() -> None:
            while True:
                await asyncio.sleep(1)
                await asyncio.to_thread(write)

        await asyncio.to_thread(write)
        following = asyncio.create_task(follow())
        try:
            yield file
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def where(self, account: Account, status_file: Path) -> Where:
        port = self.environment["RELEVO_PG_PORT"]
        return Where(
            account=account.id,
            inbox=account.inbox_id,
            edge_url=self.edge_url,
            api_token=account.api_token,
            nats_url=self.nats_url,
            reader_creds=self.home / "secrets" / "topology.creds",
            reader_inbox="_INBOX_topology",
            # As the superuser: the checker counts the rows of every account.
            databases={
                name: f"postgresql://{SUPERUSER}:{self.secret('postgres-admin')}@127.0.0.1:{port}/relevo_{name}"
                for name in SERVICES
            },
            status_file=status_file,
        )


def docker(*arguments: str) -> str:
    """A command of the engine; fails showing what it said."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"docker {arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def shared() -> Path:
    """The folder of data that is not ours to ship."""
    return Path(os.environ.get("RELEVO_SHARED") or ROOT.parent / "shared")
