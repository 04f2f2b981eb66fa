"""Runs `python -m relevo.NAME migrate` for many services at the price of one.

Most of a migration's time on a small machine goes into importing the web framework, the broker's client and
SQLAlchemy. So one process imports them once and forks for each service, which then runs its own `__main__` exactly as
it would alone. Run as a module it takes the work as JSON on its standard input: it holds passwords.
"""

import json
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Migration:
    """What one service's migration runs with, and where it writes what it says."""

    environment: Mapping[str, str]
    log: Path


def migrate(migrations: Mapping[str, Migration]) -> dict[str, int]:
    """Run them, as many at once as there are processors; the exit code of each."""
    work = {
        service: {"environment": dict(migration.environment), "log": str(migration.log)}
        for service, migration in migrations.items()
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(work),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        start_new_session=True,
    )
    codes: dict[str, int] = json.loads(done.stdout or "{}")
    return {service: codes.get(service, done.returncode or 1) for service in migrations}


def _main() -> None:
    work = json.load(sys.stdin)
    import relevo.chassis.process  # noqa: F401, PLC0415 — what all of them need, once

    waiting = list(work.items())
    running: dict[int, str] = {}
    codes: dict[str, int] = {}
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 2):
            service, told = waiting.pop(0)
            running[_fork(service, told["environment"], told["log"])] = service
        pid, status = os.wait()
        codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)
    json.dump(codes, sys.stdout)


def _fork(service: str, environment: dict[str, str], log: str) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [f"relevo.{service}", "migrate"]
        runpy.run_module(f"relevo.{service}", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ending:
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:  # noqa: BLE001 — the child ends here whatever happens, and says why in its log
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _main()
