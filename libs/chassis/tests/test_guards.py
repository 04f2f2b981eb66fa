"""Guards against what the client libraries are known to do: measured traps, each with the place that stops it."""

import asyncio
import os
import subprocess
import sys
import textwrap

import psycopg
import pytest

from relevo.chassis import Consumer, Service
from relevo.chassis.bus import Bus
from relevo.chassis.service import application
from relevo.chassis.settings import ServiceSettings
from relevo.contracts import streams


def test_a_connection_that_the_client_library_closed_for_good_ends_the_process():
    """FastStream's pull loops spin at full load on a closed connection: the process must go, with code 70."""
    program = textwrap.dedent(
        """
        import asyncio
        from relevo.chassis.bus import Bus

        async def main():
            bus = Bus("presence", "nats://127.0.0.1:1", None)
            await bus._closed()
            raise SystemExit("still here")

        asyncio.run(main())
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 70, done.stderr


async def test_our_own_closing_is_no_failure():
    bus = Bus("presence", "nats://127.0.0.1:1", None)
    bus.stopping = True
    await bus._closed()


async def test_the_connection_never_gives_up_and_notices_a_half_open_socket():
    bus = Bus("presence", "nats://127.0.0.1:1", None)
    options = bus.broker._connection_kwargs
    assert options["max_reconnect_attempts"] == -1
    assert options["ping_interval"] * options["max_outstanding_pings"] <= 30
    assert options["inbox_prefix"] == "_INBOX_presence"


async def test_a_stopped_reader_stops_although_a_cancellation_is_swallowed():
    """On Python 3.11 wait_for can swallow a cancellation; readers therefore end by a flag as well."""
    from relevo.chassis.feed import Feed

    class Stubborn(Feed):
        async def _run(self) -> None:
            while not self._closing.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue

    feed = Stubborn.__new__(Stubborn)
    feed._closing, feed._restart = asyncio.Event(), asyncio.Event()
    feed._task = asyncio.create_task(feed._run())
    async with asyncio.timeout(30):
        await feed.close()
    assert feed._task.done()


@pytest.mark.parametrize("name", ["reader.before_transaction", "relay.after_publish", "transaction.after_commit"])
def test_a_crash_point_kills_at_once(name):
    program = (
        f"from relevo.chassis.crash import crash_point\ncrash_point('other')\ncrash_point({name!r})\nprint('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"RELEVO_CRASH": name},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 137
    assert "alive" not in done.stdout


def test_a_running_process_dies_once_at_a_point_that_is_armed_meanwhile(tmp_path):
    program = (
        "from pathlib import Path\nfrom relevo.chassis.crash import crash_point\ncrash_point('point')\n"
        f"Path({str(tmp_path / 'point')!r}).touch()\ncrash_point('other')\nprint('so far')\ncrash_point('point')\nprint('alive')"
    )
    run = [sys.executable, "-u", "-c", program]
    environment = {**os.environ, "RELEVO_CRASH_FOLDER": str(tmp_path)}
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (137, "so far\n")
    assert list(tmp_path.iterdir()) == []


async def test_a_start_that_fails_says_why(servers):
    settings = ServiceSettings(
        database_url="postgresql://nobody:x@127.0.0.1:1/none",
        nats_url=servers.nats_url,
        nats_credentials=servers.create_bus().admin_creds,
        allow_unsafe_broker=True,
    )
    app = application(
        Service(
            "presence",
            settings,
            "none",
            (Consumer(streams.CMD_PRESENCE, nothing), Consumer(streams.EVT_ASSIGNMENT, nothing)),
        )
    )
    with pytest.raises(psycopg.OperationalError):
        async with app.router.lifespan_context(app):
            pass


async def nothing(batch, tx):
    return
