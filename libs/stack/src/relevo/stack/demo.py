"""The demo: the shipped conversations played over and over, and a live table of what flows.

It runs in a thread beside the supervisor; the traffic takes the same public ways as anybody's.
"""

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from relevo.stack import observe
from relevo.stack.observe import Figures

_SPEED = 12.0
_AT_ONCE = 3
_PAUSE_SECONDS = 1.0
_REFRESH_SECONDS = 1.0

FLOW = (
    ("accepted", "ingest", "EVT_INGEST"),
    ("conversation events", "conversation", "EVT_CONVERSATION"),
    ("assigned or queued", "assignment", "EVT_ASSIGNMENT"),
    ("automated", "automation", "EVT_AUTOMATION"),
    ("answered", "conversation", "OUTBOUND"),
    ("metrics", "reporting", "METRICS"),
)


def sample() -> Path:
    """The conversations that the project ships."""
    return Path(str(resources.files("relevo.stack") / "samples" / "conversations.jsonl"))


class Traffic:
    """Plays the sample until stopped. What goes wrong is told once and tried again: a demo stops nothing."""

    def __init__(self, connection: dict[str, Any], report: Callable[[str], None]) -> None:
        self._connection = connection
        self._report = report
        self._thread = threading.Thread(target=self._run, name="demo", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to play."""
        self._thread.start()

    def stop(self) -> None:
        """End, leaving the conversations under way as they are."""
        self._ended.set()
        if self._loop and self._task:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._play())

    async def _play(self) -> None:
        from relevo.stack.replay.player import Player, own_credentials  # noqa: PLC0415  (only where it plays)
        from relevo.stack.replay.source import read  # noqa: PLC0415

        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        conversations = read(sample())
        told = False
        while not self._ended.is_set():
            try:
                async with (
                    own_credentials(self._connection) as own,
                    Player(own, speed=_SPEED, agents=self._connection["agents"]) as player,
                ):
                    while not self._ended.is_set():
                        await player.play(random.sample(conversations, _AT_ONCE))
                        await asyncio.sleep(_PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001  (whatever it is, the stack goes on)
                if not told:
                    self._report(f"the demo's traffic pauses: {error}")
                told = True
                await asyncio.sleep(2)


class Board:
    """The live table, redrawn every second by the supervisor's own loop."""

    def __init__(self, console: Console, ports: list[tuple[str, int]], footer: str) -> None:
        self._ports = ports
        self._footer = footer
        self._before: dict[str, Figures] = {}
        self._live = Live(console=console, refresh_per_second=4, transient=False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="board", daemon=True)

    def start(self) -> None:
        """Begin to draw."""
        self._thread.start()

    def stop(self) -> None:
        """Draw no more; what was last drawn stays."""
        self._stop.set()
        self._thread.join(timeout=3)

    def _run(self) -> None:
        with self._live:
            while not self._stop.is_set():
                self._live.update(self._draw())
                self._stop.wait(_REFRESH_SECONDS)

    def _draw(self) -> Group:
        now = observe.read_all(self._ports)
        flow = Table(title="What flows", title_justify="left", expand=False)
        flow.add_column("step")
        flow.add_column("total", justify="right")
        flow.add_column("last second", justify="right")
        flow.add_column("lag", justify="right")
        for name, service, stream in FLOW:
            figures, before = now.get(service, Figures()), self._before.get(service, Figures())
            total = figures.published_on(stream)
            fresh = max(total - before.published_on(stream), 0) if self._before else 0
            flow.add_row(name, f"{total:,}", f"+{fresh}" if fresh else "", str(figures.lag + figures.pending))
        self._before = now
        dead = sum(figures.dead_letters for figures in now.values())
        return Group(flow, Text(f"dead letters: {dead}"), Text(self._footer))
