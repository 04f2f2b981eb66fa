"""Where the servers keep their data, and as whom they run.

PostgreSQL refuses to run as root, and a server that needs no privilege should have none. So a stack started by root
runs its servers as `nobody`. That user must reach its data and the programs; a home inside a folder closed to others
(such as root's own) is out of its reach, and opening that folder would be worse. Then the servers' data lives under
/var/lib (or the temporary folder where that is not writable), under the home's own random id, and the home records
where. For the same reason programs out of its reach are copied there, once per version.
"""

import hashlib
import os
import pwd
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relevo.stack.errors import StackError
from relevo.stack.process import RunAs

_UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of the servers' data and the identity that owns it (None: the caller's own)."""

    root: Path
    run_as: RunAs | None

    def folder(self, name: str) -> Path:
        """A folder below the root, owned by the servers' user and closed to others."""
        path = self.root / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.own(path)
        return path

    def write(self, path: Path, text: str) -> Path:
        """Write a file that the servers' user alone reads."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        self.own(path)
        return path

    def own(self, path: Path) -> None:
        if self.run_as is not None:
            os.chown(path, self.run_as.uid, self.run_as.gid)

    def program(self, path: Path, *, needs: Sequence[Path] = ()) -> Path:
        """The program, or a copy where the servers' user reaches it.

        `needs` are folders that must keep their position beside it (a program finds its libraries relative to itself).
        """
        path = path.resolve()
        if self.run_as is None or reachable(path, self.run_as):
            return path
        status = path.stat()
        mark = hashlib.sha256(f"{path} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:12]
        base = Path(os.path.commonpath([path.parent, *needs]))
        copies = self.root / "programs"
        copies.mkdir(exist_ok=True)
        copies.chmod(0o755)
        target = copies / f"{path.name}-{mark}"
        if not target.exists():
            unfinished = Path(tempfile.mkdtemp(dir=copies))
            unfinished.chmod(0o755)
            for folder in needs:
                shutil.copytree(
                    folder, unfinished / folder.relative_to(base), ignore=shutil.ignore_patterns("include", "*.a")
                )
            copy = unfinished / path.relative_to(base)
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)
            unfinished.replace(target)
        return target / path.relative_to(base)


def choose_place(home: Path, home_id: str) -> Place:
    """Where the servers of this home live. Deterministic, so that every start finds what the last one left."""
    run_as = unprivileged()
    if run_as is None or reachable(home, run_as):
        root = home / "servers"
    else:
        bases = (Path("/var/lib"), Path(tempfile.gettempdir()))
        base = next((base for base in bases if os.access(base, os.W_OK) and reachable(base, run_as)), None)
        if base is None:
            raise StackError(
                f"the user {_UNPRIVILEGED}, as whom root runs the servers, cannot reach {home}",
                "Set RELEVO_HOME to a folder that others can traverse, or start as an ordinary user",
            )
        root = base / f"relevo-{home_id}"
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    if root.stat().st_uid != os.geteuid():
        raise StackError(f"{root} belongs to somebody else", "Start as its owner, or set RELEVO_HOME to another folder")
    root.chmod(0o711 if run_as else 0o700)  # traversable, not listable: the folders below are the servers' own
    return Place(root, run_as)


def unprivileged() -> RunAs | None:
    """Whom the servers run as: None (ourselves) unless we are root."""
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam(_UNPRIVILEGED)
    except KeyError as error:
        raise StackError(
            f"started as root, but there is no user {_UNPRIVILEGED} to run the servers as", "Start as an ordinary user"
        ) from error
    return RunAs(user.pw_uid, user.pw_gid)


def reachable(path: Path, run_as: RunAs) -> bool:
    """Whether that user may traverse every folder down to the path, by the permission bits."""
    path = path.resolve()
    return all(_traversable(folder, run_as) for folder in (path, *path.parents) if folder.is_dir())


def _traversable(folder: Path, run_as: RunAs) -> bool:
    status = folder.stat()
    if status.st_uid == run_as.uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid == run_as.gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)
