"""What every test of the repository has: real servers, how far Hypothesis searches, and what docs/functions.yaml owes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "tests"))

import functions
import judged

from relevo.chassis.testing import recorded, unique

pytest_plugins = ["relevo.stack.testing"]

# `make test` runs Hypothesis' own profile `ci`; `make test-deep` this one.
settings.register_profile("deep", max_examples=1000, deadline=None, print_blob=True)

_OWED = {"docs/functions.yaml": functions.owed(), "docs/judged.yaml": judged.owed()}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that docs/functions.yaml or docs/judged.yaml names fails when it is skipped, or does not call what is said there."""
    report = yield
    for source, owed in _OWED.items():
        wanted = owed.get(item.nodeid.partition("[")[0])
        if wanted is None:
            continue
        missing = wanted - recorded.get(item.nodeid, set())
        if report.skipped or (report.when == "call" and report.passed and missing):
            told = "is skipped" if report.skipped else f"does not call {sorted(missing)}"
            report.outcome = "failed"
            report.longrepr = f"{source} names this test, but it {told}"
    return report


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server that speaks S3 over HTTP (moto's), as a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(  # noqa: S603 — our own
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    try:
        answered = False
        while not answered:
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not answer"
            with suppress(httpx.TransportError):
                answered = httpx.get(f"{address}/moto-api/", trust_env=False, timeout=5).status_code == 200
        yield address
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket's folder, as settings have it."""
    name = unique("b")
    assert httpx.put(f"{s3_server}/{name}", trust_env=False).status_code == 200
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return f"s3://{name}/kept?endpoint={s3_server}"
