"""A service starts only on a broker that keeps what it acknowledged, unless it is told to."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing

from relevo.chassis import Consumer, Service, topology
from relevo.chassis.broker import server_faults
from relevo.chassis.bus import UnsafeBroker
from relevo.chassis.service import Runtime
from relevo.chassis.settings import BadSettings, ServiceSettings
from relevo.chassis.testing import admin_of, chassis_database
from relevo.contracts import streams
from relevo.contracts.grants import service_grants

GOOD = {
    "jetstream": {"config": {"sync_always": True, "store_dir": "/data", "max_storage": 2**40}},
    "max_payload": 1_048_576,
}


async def nothing(batch, tx):
    """What is handled is not the point."""


def service(settings: ServiceSettings) -> Service:
    return Service(
        "presence",
        settings,
        "none",
        (Consumer(streams.CMD_PRESENCE, nothing), Consumer(streams.EVT_ASSIGNMENT, nothing)),
    )


def test_a_good_server_has_no_faults():
    assert server_faults(GOOD) == []


@pytest.mark.parametrize(
    ("varz", "told"),
    [
        ({"max_payload": 1_048_576}, "JetStream is off"),
        (
            GOOD | {"jetstream": {"config": GOOD["jetstream"]["config"] | {"sync_always": False}}},
            "sync_interval: always",
        ),
        (GOOD | {"jetstream": {"config": {"sync_always": True}}}, "store_dir"),
        (GOOD | {"max_payload": 65_536}, "max_payload is 65536"),
    ],
)
def test_each_fault_is_told_with_its_mend(varz, told):
    assert [told in fault for fault in server_faults(varz)] == [True]


def test_a_monitoring_address_is_a_web_address():
    with pytest.raises(BadSettings, match="RELEVO_NATS_MONITOR_URL: must look like"):
        ServiceSettings(database_url="postgresql://a@b/c", nats_monitor_url="nats:8222")


@pytest.fixture
def careless(monkeypatch) -> Iterator:
    """A private pair whose broker syncs when it likes, as brokers do that nobody has configured."""
    from relevo.stack import nats
    from relevo.stack.testing import start_servers

    written = nats.configuration

    def configuration(*arguments, **named):
        return written(*arguments, **named).replace("sync_interval: always", "")

    monkeypatch.setattr(nats, "configuration", configuration)
    folder = Path(tempfile.mkdtemp(prefix="relevo-broker-"))
    folder.chmod(0o711)
    started = start_servers(folder)
    if started.nats is None:
        pytest.skip("the broker is not ours to configure")
    try:
        yield started
    finally:
        started.nats.stop()
        if started.postgres:
            started.postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def told(servers, bus, **more: object) -> dict[str, object]:
    dsn = chassis_database(servers)
    grants = service_grants("presence")
    credentials = bus.user("presence", publish=list(grants.publish), subscribe=list(grants.subscribe))
    return {"database_url": dsn, "nats_url": bus.nats_url, "nats_credentials": credentials, "http_port": 0} | more


async def start(settings: ServiceSettings) -> None:
    runtime = Runtime(service(settings))
    try:
        await runtime.start()
    finally:
        await runtime.stop()


async def test_a_careless_broker_is_refused_by_the_process_and_taken_when_told(careless):
    bus = careless.create_bus()
    async with admin_of(bus) as admin:
        await topology.apply(admin)
    settings = told(careless, bus, nats_monitor_url=careless.nats.monitoring_url)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, __file__],
        env={**os.environ, **{f"RELEVO_{name.upper()}": str(value) for name, value in settings.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 78
    lines = [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if line.startswith("{")]
    reason = next(line["reason"] for line in lines if line["event"] == "broker_refused")
    assert "sync_interval: always" in reason
    assert "Traceback" not in done.stdout + done.stderr
    with structlog.testing.capture_logs() as logs:
        await start(ServiceSettings(**settings, allow_unsafe_broker=True))
    assert any(line["event"] == "unsafe_broker" and "sync_interval" in line["reason"] for line in logs)


async def test_a_good_broker_is_taken_and_an_unknown_one_is_not(servers):
    if servers.nats is None:
        pytest.skip("where the broker tells of itself is not known")
    bus = servers.create_bus()
    async with admin_of(bus) as admin:
        await topology.apply(admin)
        with structlog.testing.capture_logs() as logs:
            await start(ServiceSettings(**told(servers, bus, nats_monitor_url=servers.nats.monitoring_url)))
        assert not any(line["event"] == "unsafe_broker" for line in logs)
        with pytest.raises(UnsafeBroker, match="RELEVO_NATS_MONITOR_URL"):
            await start(ServiceSettings(**told(servers, bus)))
        with pytest.raises(ConnectionError, match="does not answer"):
            await start(ServiceSettings(**told(servers, bus, nats_monitor_url="http://127.0.0.1:9")))


async def test_a_stream_that_would_drop_the_old_is_refused(servers):
    if servers.nats is None:
        pytest.skip("where the broker tells of itself is not known")
    bus = servers.create_bus()
    async with admin_of(bus) as admin:
        await topology.apply(admin)
        config = topology.stream_config(streams.EVT_PRESENCE) | {"discard": "old"}
        await admin.request("$JS.API.STREAM.UPDATE.EVT_PRESENCE", config)
        with pytest.raises(UnsafeBroker, match="EVT_PRESENCE has another discard"):
            await start(ServiceSettings(**told(servers, bus, nats_monitor_url=servers.nats.monitoring_url)))


if __name__ == "__main__":
    from relevo.chassis.process import main

    main(lambda: service(ServiceSettings()))
