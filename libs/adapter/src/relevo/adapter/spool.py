"""The spool: events that the bus could not take, on disk, in order, until it can.

One JSON object a line. A line is durable (fsync) when `append` returns. What is sent again after a crash is folded by
ingest, which knows every event for ever; so the spool need not remember how far it came within a file.
"""

import asyncio
import fcntl
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from relevo.adapter.errors import SpoolFull, SpoolUnusable

log = logging.getLogger("relevo.adapter.spool")


@dataclass(frozen=True, slots=True)
class Record:
    """One message for the bus; ``lane`` is the sender, whose order is kept."""

    subject: str
    lane: str
    headers: dict[str, str]
    body: str

    def line(self) -> bytes:
        fields = {"subject": self.subject, "lane": self.lane, "headers": self.headers, "body": self.body}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> "Record":
        """Raises ValueError, KeyError or TypeError when the line is no record."""
        fields = json.loads(line)
        return cls(fields["subject"], fields["lane"], dict(fields["headers"]), fields["body"])


class Spool:
    """A file of records, of one process at a time. ``pending`` counts those not yet dropped."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.pending = 0
        self._file = -1
        self._end = 0
        self._start = 0
        self._reserved = 0
        self._ends: list[int] = []
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Take the file and what an earlier run left in it. Raises SpoolUnusable."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = os.fstat(self._file).st_size
            left = os.pread(self._file, size, 0)
        except BlockingIOError:
            os.close(self._file)
            raise SpoolUnusable(f"{self.path} is in use by another process: give each adapter its own folder") from None
        except OSError as error:
            raise SpoolUnusable(f"the spool {self.path} cannot be opened: {error}") from None
        # A line without its end was being written when the process died: nobody was told that it was safe.
        self._end = left.rfind(b"\n") + 1
        if self._end < size:
            os.ftruncate(self._file, self._end)
        self.pending = left.count(b"\n")

    async def append(self, record: Record) -> None:
        """Add a record; returns when it is on disk. Raises SpoolFull, SpoolUnusable: then it is not in the spool."""
        line = record.line()
        if self._end - self._start + self._reserved + len(line) > self.max_bytes:
            raise SpoolFull(
                f"the bus is away and the spool {self.path} is full ({self.max_bytes} bytes, {self.pending} events)"
            )
        self._reserved += len(line)
        self.pending += 1
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((line, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await asyncio.shield(done)

    async def _write(self) -> None:
        """Write what waits, many records with one fsync."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            data = b"".join(line for line, _ in batch)
            try:
                await asyncio.to_thread(self._write_all, data)
            except OSError as error:
                self.pending -= len(batch)
                for _, done in batch:
                    if not done.cancelled():
                        done.set_exception(SpoolUnusable(f"the spool {self.path} cannot be written: {error}"))
            else:
                self._end += len(data)
                for _, done in batch:
                    if not done.cancelled():
                        done.set_result(None)
            finally:
                self._reserved -= len(data)

    def _write_all(self, data: bytes) -> None:
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._end + written)
            os.fsync(self._file)
        except OSError:
            # Half a line must not stand in front of the next one.
            os.ftruncate(self._file, self._end)
            raise

    def read(self, most: int, max_bytes: int = 4 * 1024 * 1024) -> list[Record]:
        """The oldest records that are on disk, not yet dropped; reads no further than it must."""
        data = os.pread(self._file, min(self._end - self._start, max_bytes), self._start)
        records: list[Record] = []
        self._ends = []
        at = self._start
        for line in data.splitlines(keepends=True)[:most]:
            if not line.endswith(b"\n"):
                break
            try:
                record = Record.read(line)
            except (ValueError, KeyError, TypeError):
                if records:
                    break
                log.warning("a line of the spool %s is damaged; it is put aside", self.path)
                self.set_aside(line)
                self.pending -= 1
                at = self._start = self._start + len(line)
                continue
            records.append(record)
            at += len(line)
            self._ends.append(at)
        if not records and self._start < self._end and len(data) < self._end - self._start:
            return self.read(most, max_bytes * 2)
        return records

    def set_aside(self, line: bytes) -> None:
        """Keep a line that cannot be sent in a file of its own, ``….rejected``."""
        with self.path.with_name(self.path.name + ".rejected").open("ab") as aside:
            aside.write(line)

    def drop(self, count: int) -> None:
        """Forget the first ``count`` records of the last `read`: they are on the bus."""
        if not count:
            return
        self._start = self._ends[count - 1]
        self._ends = self._ends[count:]
        self.pending -= count
        if self.pending == 0 and self._start == self._end:
            os.ftruncate(self._file, 0)
            self._start = self._end = 0
            self._ends = []

    async def close(self) -> None:
        """Let go of the file; what is in it stays for the next run."""
        if self._writer is not None:
            await self._writer
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
