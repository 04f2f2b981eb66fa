"""What a measurement reads of the machine and the servers: CPU and memory of processes, durability, writes, the disk."""

import os
import platform
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psycopg

from relevo.stack.errors import Exit, StackError
from relevo.stack.wiring import SERVICES

_PROC = Path("/proc")
_DISK_PROBES = 100
_VOLATILE = {"tmpfs", "ramfs"}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children have used: seconds of CPU since they began, bytes resident now."""

    cpu: float
    rss: int


@dataclass(frozen=True, slots=True)
class Writes:
    """What the whole stack had written at a moment. ``events`` are those of services: without what adapters published."""

    events: int
    event_bytes: int
    rows: int
    outbox_rows: int
    changes: int
    """Rows updated or deleted."""
    transactions: int
    wal_bytes: int

    def since(self, before: "Writes") -> "Writes":
        """What was written between the two moments."""
        return Writes(*(getattr(self, name) - getattr(before, name) for name in self.__slots__))


def check_platform() -> None:
    """Raises StackError where CPU and memory of processes cannot be read."""
    if not (_PROC / "self" / "stat").exists():
        raise StackError("the benchmark reads /proc, which this system does not have", "Run it on Linux")


def usage_of(pids: Mapping[str, int]) -> dict[str, Usage]:
    """What each process has used, its children (ended ones too) with it."""
    children = _children()
    return {name: _usage(pid, children) for name, pid in pids.items()}


def busy_seconds() -> float:
    """CPU seconds that the whole machine has spent since it began, with what its host took away from it."""
    fields = [int(value) for value in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _waiting, irq, softirq, stolen = fields[:8]
    return (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK")


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            found.setdefault(int(fields[1]), []).append(int(entry.name))
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; None when the process has ended."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _usage(root: int, children: Mapping[int, Iterable[int]]) -> Usage:
    ticks = 0
    private = shared_files = shared_memory = 0
    todo = [root]
    while todo:
        pid = todo.pop()
        todo += children.get(pid, ())
        fields = _stat(pid)
        if fields is None:
            continue
        ticks += sum(int(value) for value in fields[11:15])  # its own, and that of children that have ended
        memory = _memory(pid)
        private += memory.get("RssAnon", 0)
        # What children share with each other counts once.
        shared_files = max(shared_files, memory.get("RssFile", 0))
        shared_memory = max(shared_memory, memory.get("RssShmem", 0))
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), private + shared_files + shared_memory)


def _memory(pid: int) -> dict[str, int]:
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return {}
    return {
        name: int(value.split()[0]) * 1024 for name, _, value in (x.partition(":") for x in lines) if name[:3] == "Rss"
    }


def shares_of(pids: Mapping[str, int]) -> dict[str, int]:
    """What each process and its children would free if they ended, in bytes: shared pages count by their share."""
    children = _children()
    found = {}
    for name, root in pids.items():
        total, todo = 0, [root]
        while todo:
            pid = todo.pop()
            todo += children.get(pid, ())
            try:
                lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        found[name] = total
    return found


@dataclass(frozen=True, slots=True)
class Batched:
    """How much a service has read since it began, its replicas together."""

    batches: int = 0
    events: int = 0
    seconds: float = 0.0


_BATCH_LINE = re.compile(r'^relevo_(batch_events|handle_seconds)_(count|sum)\{service="([^"]+)"\} (\S+)$', re.MULTILINE)


def batched(ports: Iterable[int]) -> dict[str, Batched]:
    """Service to what it read so far, from the metrics of the services at these ports."""
    found: dict[str, Batched] = {}
    for histogram, kind, service, value in _metrics(ports, _BATCH_LINE):
        old = found.get(service, Batched())
        number = float(value)
        if histogram == "handle_seconds":
            new = replace(old, seconds=old.seconds + number) if kind == "sum" else old
        elif kind == "count":
            new = replace(old, batches=old.batches + int(number))
        else:
            new = replace(old, events=old.events + int(number))
        found[service] = new
    return found


_HANDLED_LINE = re.compile(
    r'^relevo_events_total\{outcome="handled",service="([^"]+)",stream="([^"]+)"\} (\S+)$', re.MULTILINE
)


def handled(ports: Iterable[int], service: str, stream: str) -> int:
    """How many events of a stream a service has handled since it began, its replicas together."""
    return sum(int(float(value)) for *whose, value in _metrics(ports, _HANDLED_LINE) if whose == [service, stream])


_LAG_LINE = re.compile(
    r'^relevo_lag_events\{partition="[^"]+",service="([^"]+)",stream="([^"]+)"\} (\S+)$', re.MULTILINE
)


def lags(ports: Iterable[int]) -> Counter[str]:
    """How many events wait in front of each reader ("service ← stream"), all partitions and replicas together."""
    found: Counter[str] = Counter()
    for service, stream, value in _metrics(ports, _LAG_LINE):
        found[f"{service} ← {stream}"] += int(float(value))
    return found


def _metrics(ports: Iterable[int], line: re.Pattern[str]) -> Iterator[tuple[str, ...]]:
    """What the services at these ports say in such lines, group by group."""
    with httpx.Client(timeout=5, trust_env=False) as client:
        for port in ports:
            yield from line.findall(client.get(f"http://127.0.0.1:{port}/metrics").text)


def check_durable(monitoring_url: str, postgres_dsn: str, databases: Iterable[str] = ()) -> dict[str, str]:
    """The settings that make an acknowledgement mean "on disk". Raises StackError when one of them is off.

    ``databases`` are looked at for settings of their own, as are all roles.
    """
    jetstream = _monitor(monitoring_url, "varz").get("jetstream", {}).get("config", {})
    found = {"nats sync_interval": "always" if jetstream.get("sync_always") else str(jetstream.get("sync_interval"))}
    with psycopg.connect(postgres_dsn) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            row = connection.execute(f"SHOW {name}").fetchone()  # type: ignore[call-overload, unused-ignore]
            assert row is not None
            found[f"postgres {name}"] = row[0]
        own = connection.execute("SELECT unnest(setconfig) FROM pg_db_role_setting").fetchall()
    off = [f"{name} is {value}" for name, value in found.items() if value not in ("on", "always")]
    off += [
        f"a role or database sets {row[0]}"
        for row in own
        if row[0].startswith("synchronous_commit=") and row[0] != "synchronous_commit=on"
    ]
    for dsn in databases:
        with psycopg.connect(dsn) as connection:
            row = connection.execute("SHOW synchronous_commit").fetchone()
            assert row is not None
            if row[0] != "on":
                off.append(f"synchronous_commit is {row[0]} in {connection.info.dbname}")
    if off:
        raise StackError(
            f"what is acknowledged here is not on disk: {'; '.join(off)}",
            "A figure without durability would mean nothing. Mend the configuration and measure again",
            Exit.FAILED,
        )
    return found


def check_disk(folder: Path) -> str:
    """The type of the file system that holds the folder. Raises StackError for one in memory."""
    kind = _file_system(folder)
    if kind in _VOLATILE:
        raise StackError(
            f"{folder} lies in memory ({kind}), where nothing is durable", "Set TMPDIR to a folder on a disk"
        )
    return kind


def _file_system(folder: Path) -> str:
    best, kind = "", "unknown"
    for line in (_PROC / "mounts").read_text().splitlines():
        _, point, found = line.split()[:3]
        inside = folder.resolve().is_relative_to(point.replace("\\040", " "))
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


def sync_seconds(folder: Path) -> float:
    """The median time of writing 512 bytes durably to this disk."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_DISK_PROBES):
            file.write(b"x" * 512)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def describe(folder: Path) -> dict[str, Any]:
    """The machine, so that figures of two runs can be told apart."""
    model = next(
        (
            x.partition(":")[2].strip()
            for x in (_PROC / "cpuinfo").read_text().splitlines()
            if x.startswith("model name")
        ),
        platform.machine(),
    )
    memory = next(x for x in (_PROC / "meminfo").read_text().splitlines() if x.startswith("MemTotal"))
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": int(memory.split()[1]) * 1024,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "file_system": _file_system(folder),
        "sync_seconds": sync_seconds(folder),
        "load_average_before": os.getloadavg()[0],
        "commit": _commit(),
    }


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def writes(monitoring_url: str, dsn_of: Mapping[str, str]) -> Writes:
    """What has been written up to now; the counters of PostgreSQL are up to a second late.

    ``dsn_of``: every service's database, and any one as "" for the whole cluster.
    """
    events = event_bytes = 0
    detail = _monitor(monitoring_url, "jsz?streams=true&accounts=true")
    for account in detail.get("account_details", ()):
        for stream in account.get("stream_detail", ()):
            if stream["name"].startswith(("EVT_", "CMD_", "OUTBOUND", "METRICS")):
                events += stream["state"]["last_seq"]
                event_bytes += stream["state"]["bytes"]
    rows = outbox = changes = transactions = 0
    for service, dsn in dsn_of.items():
        if service not in SERVICES:
            continue
        with psycopg.connect(dsn) as connection:
            for name, inserted, changed in connection.execute(
                "SELECT relname, n_tup_ins, n_tup_upd + n_tup_del FROM pg_stat_user_tables"
            ):
                if name.startswith("outbox"):
                    outbox += inserted
                else:
                    rows += inserted
                changes += changed
            row = connection.execute(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            ).fetchone()
            assert row is not None
            transactions += row[0]
    with psycopg.connect(dsn_of[""]) as connection:
        row = connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return Writes(events, event_bytes, rows, outbox, changes, transactions, int(row[0]))


def _monitor(url: str, path: str) -> dict[str, Any]:
    answer = httpx.get(f"{url}/{path}", timeout=10, trust_env=False)
    answer.raise_for_status()
    document: dict[str, Any] = answer.json()
    return document
