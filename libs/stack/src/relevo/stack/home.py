"""A stack's home: its secrets, its memory of ports and migrations, its logs, and the lock that keeps it to one start.

home/secrets/   keys, passwords, .creds files: folder 0700, files 0600
home/state.json what a later start must find again: id, ports, what was migrated
home/run/       pid files and status.json, while it runs
home/logs/      one file a process
home/files/     the services' own files
home/servers/   the servers' data (elsewhere when the servers' user cannot reach the home: see place.py)
"""

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from relevo.stack.errors import Exit, StackError
from relevo.stack.keys import BusKeys, write_secret
from relevo.stack.place import Place, choose_place, unprivileged
from relevo.stack.process import free_port, port_is_free

MINIMUM_FREE_BYTES = 1024**3
_DEFAULT = ".relevo"
_PUBLIC_PORTS = {
    "edge": ("RELEVO_PORT", 8080),
    "nats": ("RELEVO_NATS_PORT", 4222),
    "postgres": ("RELEVO_PG_PORT", 5433),
}


@dataclass(frozen=True)
class Home:
    """One stack's folder. Two homes with other ports run side by side."""

    path: Path

    @classmethod
    def from_environment(cls) -> "Home":
        return cls(Path(os.environ.get("RELEVO_HOME") or _DEFAULT).absolute())

    @property
    def exists(self) -> bool:
        return (self.path / "state.json").exists()

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def status_file(self) -> Path:
        return self.run / "status.json"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    def prepare(self) -> None:
        """Make the folders, closed to others. (Started as root, the home lets its servers' user through, to no file.)"""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o711 if unprivileged() else 0o700)
        for folder in (self.secrets, self.run, self.logs, self.path / "files"):
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the home for one start. Raises StackError when another holds it."""
        path = self.run / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = path.read_text().strip() or "unknown"
                raise StackError(
                    f"Relevo runs already in {self.path} (process {holder})",
                    "Stop it with `relevo down`, or set RELEVO_HOME and other ports for a second one",
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def running_pid(self) -> int | None:
        """The process that holds the lock."""
        path = self.run / "lock"
        try:
            with path.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(file.read().strip() or 0) or None
        except FileNotFoundError:
            pass
        return None

    # -- memory -------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads((self.path / "state.json").read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise StackError(
                f"{self.path / 'state.json'} is damaged",
                "Restore it from a backup, or remove it to have ports chosen anew",
            ) from error
        return document

    def remember(self, **values: Any) -> None:
        write_secret(self.path / "state.json", json.dumps({**self.state(), **values}, indent=1))

    def id(self) -> str:
        """A random name of this home, made once."""
        known: str | None = self.state().get("id")
        if known is None:
            known = secrets.token_hex(6)
            self.remember(id=known)
        return known

    @cached_property
    def place(self) -> Place:
        return choose_place(self.path, self.id())

    def check_disk(self) -> None:
        """Refuse to start where the disk is nearly full: a broker that cannot write stops everything."""
        for folder in {self.path, self.place.root}:
            free = shutil.disk_usage(folder).free
            if free < MINIMUM_FREE_BYTES:
                raise StackError(
                    f"only {free // 1024**2} MB free where {folder} lies, {MINIMUM_FREE_BYTES // 1024**2} MB are needed",
                    "Free some space, or set RELEVO_HOME to a folder on another disk",
                )

    # -- ports --------------------------------------------------------------------------------------------------------

    def public_port(self, name: str) -> int:
        """The port of edge, nats or postgres, as the environment says. Raises StackError when it is taken."""
        variable, default = _PUBLIC_PORTS[name]
        text = os.environ.get(variable) or str(default)
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise StackError(f"{variable}={text} is no port", "Give a number from 1 to 65535")
        port = int(text)
        if not port_is_free(port):
            raise StackError(
                f"port {port} ({name}) is taken", f"Set {variable} to a free one, or stop what listens there"
            )
        return port

    def private_ports(self, names: list[str]) -> dict[str, int]:
        """Loopback ports: those of the last start where still free, else others; no two the same."""
        known: dict[str, int] = self.state().get("ports", {})
        chosen: dict[str, int] = {}
        for name in names:
            port = known.get(name)
            while port is None or port in chosen.values() or not port_is_free(port):
                port = free_port()
            chosen[name] = port
        self.remember(ports=chosen)
        return chosen

    # -- secrets ------------------------------------------------------------------------------------------------------

    def secret(self, name: str) -> str:
        """A random secret of that name (256 bits, URL-safe text), generated once."""
        path = self.secrets / name
        if not path.exists():
            write_secret(path, secrets.token_urlsafe(32))
        return path.read_text()

    def bus_keys(self) -> BusKeys:
        path = self.secrets / "bus-keys.json"
        if not path.exists():
            self.save_bus_keys(BusKeys.generate())
        return BusKeys.load(path.read_text())

    def save_bus_keys(self, keys: BusKeys) -> None:
        write_secret(self.secrets / "bus-keys.json", keys.dump())


@contextmanager
def disk_full_is_said(home: Home) -> Iterator[None]:
    """Turn "no space left on device", wherever it happens, into one line with the mend."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StackError(
            f"the disk that holds {home.path} is full",
            "Free some space and start again: nothing accepted is lost",
            Exit.REFUSED,
        ) from error
