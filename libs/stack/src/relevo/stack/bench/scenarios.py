"""S2 to S6: follow-ups, overload and drain, every process killed, reports during load, everything sent again."""

import asyncio
import os
import signal
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from relevo.stack import databases
from relevo.stack.api import Api
from relevo.stack.bench import machine
from relevo.stack.bench.drive import Run
from relevo.stack.bench.figures import Latency, percentile, summarise
from relevo.stack.bench.results import Sustained
from relevo.stack.bench.session import Session
from relevo.stack.errors import Exit, StackError

_OVERLOAD = 3.0
_PATIENCE = 60.0
_LOOK_SECONDS = 0.1
_RECOVERED_WITHIN = 90.0
_REPORTS_A_SECOND = 4.0
_QUIET_SECONDS = 2.0
_REPORTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("summary", {}),
    ("series", {"metric": "messages_in", "bucket": "hour"}),
    ("series", {"metric": "wait_in_queue", "bucket": "hour"}),
    ("facts", {"metric": "messages_in", "limit": 50}),
)
"""Under /reports, over the last hours."""


@dataclass(frozen=True, slots=True)
class Overload:
    """S3: three times what is sustained, then nothing until all is done."""

    offered: float
    run: Run
    drain_rate: float
    """Messages a second while only draining."""


@dataclass(frozen=True, slots=True)
class Killed:
    """S4: one process killed under half the sustained load."""

    process: str
    recovered: float | None
    """From the kill until the process was back, facts came again and less than a second of load waited.

    None: not within the time.
    """
    run: Run


@dataclass(frozen=True, slots=True)
class Reports:
    """S5: reports read under half the sustained load, beside the same load without them."""

    without: Run
    run: Run
    at_full: Run
    """At the sustained rate, with the reports: does it hold?"""
    reads: dict[str, Latency]
    facts: int


@dataclass(frozen=True, slots=True)
class Again:
    """S6: everything that one run sent, sent again under new message ids of the bus."""

    sent: int
    seconds: float
    rate: float
    new_facts: int
    new_rows: dict[str, int]
    """Of messages, conversations, facts: how many more there are; 0 where nothing was counted twice."""


async def take(session: Session, mix: Sustained, s1: Sustained) -> dict[str, Any]:
    """All of them, in order."""
    s2, _ = await session.sustained("S2", mix.rate * 1.2, seconds=session.plan.scenario_seconds)
    s3 = [asdict(await overload(session, part)) for part in (mix, s1)]
    s5 = await reports(session, mix)
    found: dict[str, Any] = {
        "S2": asdict(s2),
        "S3": s3,
        "S5": {**asdict(s5), "at_full_held": s5.at_full.held},
        "S6": asdict(await again(session, mix)),
    }
    found["S4"] = [asdict(one) for one in await kills(session, mix)]
    return found


async def overload(session: Session, part: Sustained) -> Overload:
    """Three times the sustained rate of a scenario."""
    offered = part.rate * _OVERLOAD
    run = await session.driver.run(
        part.scenario, offered, session.plan.overload_seconds, to_the_end=True, patience=_PATIENCE
    )
    behind = max(run.sent - part.rate * run.took, 0.0)
    drained = behind / run.drained if run.drained > 0 else 0.0
    session.note(f"S3, {part.scenario} at {offered:,.0f}/s: drained in {run.drained:.1f} s, lost {run.lost}")
    return Overload(offered, run, drained)


async def kills(session: Session, mix: Sustained) -> list[Killed]:
    """Each process once, the servers and the edge with them."""
    found = []
    for name in session.place.pids:
        one = await kill(session, mix.rate / 2, name)
        back = "not back" if one.recovered is None else f"recovered in {one.recovered:.1f} s"
        session.note(f"S4, {name} killed: {back}, lost {one.run.lost}, twice {one.run.twice}")
        found.append(one)
    return found


async def kill(session: Session, rate: float, name: str) -> Killed:
    """SIGKILL one process a quarter into a run."""
    place, driver, plan = session.place, session.driver, session.plan
    pid = place.pid_of(name)
    run = asyncio.create_task(driver.run("mix", rate, plan.fault_seconds, to_the_end=True, patience=_RECOVERED_WITHIN))
    await asyncio.sleep(plan.fault_seconds / 4)
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    recovered = facts_before = None
    while time.monotonic() - killed < _RECOVERED_WITHIN:
        await asyncio.sleep(_LOOK_SECONDS)
        sent, behind = driver.progress()
        if facts_before is None:
            facts_before = sent - behind if place.back(name, pid) else None
        elif run.done() or (behind < rate and sent - behind > facts_before):
            recovered = time.monotonic() - killed
            break
    return Killed(name, recovered, await run)


async def reports(session: Session, mix: Sustained) -> Reports:
    """Four reports a second."""
    driver, plan = session.driver, session.plan
    without = await driver.run("mix", mix.rate / 2, plan.scenario_seconds)
    taken: dict[str, list[float]] = {}
    reading = asyncio.create_task(_read(session, taken))
    try:
        run = await driver.run("mix", mix.rate / 2, plan.scenario_seconds)
        at_full = await driver.run("mix", mix.rate, plan.scenario_seconds)
    finally:
        reading.cancel()
    if reading.done() and not reading.cancelled() and (error := reading.exception()):
        raise error
    reads = {name: found for name, values in taken.items() if (found := summarise(values))}
    everything = [value for values in taken.values() for value in values]
    if everything:
        session.note(
            f"S5: report p95 {percentile(sorted(everything), 0.95) * 1000:.0f} ms over {len(everything)} reads"
        )
    return Reports(without, run, at_full, reads, _count(session, "reporting", "facts"))


async def _read(session: Session, taken: dict[str, list[float]]) -> None:
    one = session.scenes[0]
    async with Api(one.edge_url, one.api_token) as api:
        number = 0
        while True:
            path, parameters = _REPORTS[number % len(_REPORTS)]
            until = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
            since = until - timedelta(hours=6)
            began = time.monotonic()
            await api.get(f"/reports/{path}", since=since.isoformat(), until=until.isoformat(), **parameters)
            took = time.monotonic() - began
            taken.setdefault(path, []).append(took)
            number += 1
            await asyncio.sleep(max(1 / _REPORTS_A_SECOND - took, 0))


async def again(session: Session, mix: Sustained) -> Again:
    """Send a run, and all of it once more."""
    driver, plan = session.driver, session.plan
    run = await driver.run("mix", mix.rate / 2, plan.scenario_seconds, to_the_end=True, keep=True)
    tables = (("conversation", "messages"), ("conversation", "conversations"), ("reporting", "facts"))
    before = {table: _count(session, service, table) for service, table in tables}
    handled = machine.handled(session.place.ports, "ingest", "INBOUND")
    began = time.monotonic()
    sent, _ = await driver.repeat(mix.rate * 2)
    end = time.monotonic() + _PATIENCE
    while machine.handled(session.place.ports, "ingest", "INBOUND") - handled < sent["sent"]:
        if time.monotonic() > end:
            raise StackError("what was sent again is not all read by ingest", code=Exit.FAILED)
        await asyncio.sleep(_LOOK_SECONDS)
    seconds = time.monotonic() - began
    await asyncio.sleep(_QUIET_SECONDS)  # whatever would come of it wrongly has the time to come
    after = await driver.summary()
    new = {table: _count(session, service, table) - before[table] for service, table in tables}
    session.note(f"S6: {run.sent:,} sent again in {seconds:.1f} s, new rows {sum(new.values())}")
    return Again(sent["sent"], seconds, sent["sent"] / seconds, sum(after["counts"].values()), new)


def _count(session: Session, service: str, table: str) -> int:
    with psycopg.connect(session.place.superuser_dsn(databases.name_of(service))) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[call-overload, unused-ignore]
    assert row is not None
    return int(row[0])


def problems(found: dict[str, Any]) -> list[str]:
    """What S2 to S6 say against the stack."""
    if not found:
        return []
    said = []
    runs = {"S2": found["S2"]["run"], "S5": found["S5"]["run"]}
    runs |= {f"S3, {one['run']['scenario']}": one["run"] for one in found["S3"]}
    runs |= {f"S4, {one['process']} killed": one["run"] for one in found["S4"]}
    for name, run in runs.items():
        if run["lost"]:
            said.append(f"{name}: {run['lost']} things were acknowledged and never counted")
        if run["twice"]:
            said.append(f"{name}: {run['twice']} facts came twice")
        if run["unacknowledged"]:
            said.append(f"{name}: {run['unacknowledged']} messages were never acknowledged")
    said += [f"S4: {one['process']} did not recover" for one in found["S4"] if one["recovered"] is None]
    if extra := {name: count for name, count in found["S6"]["new_rows"].items() if count}:
        said.append(f"S6: sent again, {extra} were new")
    return said
