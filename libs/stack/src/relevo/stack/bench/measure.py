"""The measurement that `relevo bench` takes of one ready stack, in its order: at rest, single messages, what is
sustained, latency at half of that, the floor, the baseline; and what was asked for beside it.
"""

import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

from relevo.stack.bench import baseline, floor, machine, scenarios
from relevo.stack.bench.drive import Run
from relevo.stack.bench.figures import Latency, Scenario, Search
from relevo.stack.bench.machine import Writes
from relevo.stack.bench.place import Place
from relevo.stack.bench.results import BaselineResult, FloorResult, Plan, Result, problems
from relevo.stack.bench.session import describe, open_session
from relevo.stack.bench.worker import Worker
from relevo.stack.errors import Exit, StackError
from relevo.stack.keys import write_secret
from relevo.stack.process import free_port

_BASELINE_START = 300.0


async def take(
    place: Place, plan: Plan, *, leave: bool, full: bool, say: Callable[[str], None], note: Callable[[str], None]
) -> Result:
    """Measure. ``leave``: the stack lives on; ``full``: S2 to S6 as well.

    Raises StackError when the stack is not durable, loses something, or no rate holds.
    """
    began = datetime.now(UTC)
    found = durable(place)
    described = machine.describe(place.home.path)
    restarts = place.restarts()
    async with open_session(place, plan, leave=leave, say=say, note=note) as session:
        carried = await session.fill()
        rest = await session.rest()
        mix, mix_written = await session.sustained("mix", carried["mix"])
        s1, s1_written = await session.sustained("S1", carried["S1"])
        fallen = place.restarts() - restarts
        more = await scenarios.take(session, mix, s1) if full else {}
    written = {"mix": (mix, mix_written), "S1": (s1, s1_written)}
    lowest = {name: await _floor(place, plan, writes, part.run.sent, say) for name, (part, writes) in written.items()}
    durable(place)
    result = Result(
        began=began,
        version=version("relevo-stack"),
        machine={**described, "load_average_after": os.getloadavg()[0]},
        durable=found,
        replicas={name: sum(x["service"] == name for x in place.status["services"]) for name in place.services},
        plan=plan,
        rest=rest,
        mix=mix,
        s1=s1,
        writes_per_message={
            name: {what: value / part.run.sent for what, value in asdict(writes).items()}
            for name, (part, writes) in written.items()
        },
        floor=lowest,
        baseline=await _baselines(place, plan, say, note),
        restarts=fallen,
        scenarios=more,
    )
    result.problems = [*problems(result.document()), *scenarios.problems(more)]
    return result


def durable(place: Place) -> dict[str, str]:
    """The settings that make an acknowledgement mean "on disk". Raises StackError when one is off."""
    file_system = machine.check_disk(place.home.place.root)
    found = machine.check_durable(place.monitoring_url, place.superuser_dsn(), place.service_dsns())
    return {**found, "file system": file_system}


async def _floor(place: Place, plan: Plan, written: Writes, messages: int, say: Callable[[str], None]) -> FloorResult:
    say("the floor")
    share = floor.Share(
        rows=written.rows / messages,
        events=written.events / messages,
        event_bytes=round(written.event_bytes / max(written.events, 1)),
    )
    credentials = write_secret(
        place.home.path / "bench-floor.creds",
        place.home.bus_keys().service_credentials(
            floor.USER,
            [
                floor.SUBJECT,
                f"$JS.API.STREAM.CREATE.{floor.STREAM}",
                f"$JS.API.STREAM.DELETE.{floor.STREAM}",
            ],
            [f"_INBOX_{floor.USER}.>"],
        ),
    )
    floor.make_database(place.superuser_dsn(), floor.DATABASE)
    try:
        where = {
            "nats_url": place.nats_url,
            "credentials": str(credentials),
            "dsn": place.superuser_dsn(floor.DATABASE),
        }
        async with Worker("relevo.stack.bench.floor", where) as worker:
            found = await worker.ask(do="run", share=asdict(share), seconds=plan.floor_seconds)
    finally:
        floor.drop_database(place.superuser_dsn(), floor.DATABASE)
        credentials.unlink()
    return FloorResult(found["rate"], found["cpu"] / found["messages"], share.rows, share.events, share.event_bytes)


async def _baselines(
    place: Place, plan: Plan, say: Callable[[str], None], note: Callable[[str], None]
) -> dict[str, BaselineResult]:
    """What one process with one transaction a message carries, on the same servers while the stack rests."""
    say("the baseline")
    port = free_port()
    floor.make_database(place.superuser_dsn(), baseline.DATABASE)
    try:
        where = {"dsn": place.superuser_dsn(baseline.DATABASE), "port": port, "agents": plan.agents}
        async with (
            Worker("relevo.stack.bench.baseline", where) as program,
            Worker("relevo.stack.bench.http_load", {"port": port}) as loader,
        ):
            pids = {"program": program.pid, "postgres": place.pids["postgres"]}
            await _post(loader, "S1", _BASELINE_START, plan.contacts / _BASELINE_START / 2)
            found: dict[str, BaselineResult] = {}
            scenarios_: tuple[Scenario, ...] = ("mix", "S1")
            for scenario in scenarios_:
                found[scenario] = await _baseline(loader, scenario, plan, pids, note)
            return found
    finally:
        floor.drop_database(place.superuser_dsn(), baseline.DATABASE)


async def _baseline(
    loader: Worker, scenario: Scenario, plan: Plan, pids: dict[str, int], note: Callable[[str], None]
) -> BaselineResult:
    search = Search(_BASELINE_START, precision=plan.precision, probes=plan.probes, tries=1)
    while search.next is not None:
        probe = await _post(loader, scenario, search.next, plan.baseline_seconds / 2)
        search.tell(held=probe.held)
    rate = search.held
    while rate is not None and rate >= 1:
        before = machine.usage_of(pids)
        run = await _post(loader, scenario, rate, plan.baseline_seconds)
        after = machine.usage_of(pids)
        note(f"baseline, {scenario} {describe(run)}")
        if run.held:
            used = {name: (after[name].cpu - before[name].cpu) / run.sent for name in pids}
            return BaselineResult(rate, run, used["program"], used["postgres"])
        rate *= 0.9
    raise StackError(f"the baseline carried no rate of {scenario}", code=Exit.FAILED)


async def _post(loader: Worker, scenario: Scenario, rate: float, seconds: float) -> Run:
    total = max(round(rate * seconds), 1)
    found = await loader.ask(scenario=scenario, rate=rate, total=total, hopeless=3 * rate + 10)
    return Run(
        scenario=scenario,
        rate=rate,
        sent=found["sent"],
        took=found["took"],
        drained=found["drained"],
        stopped=found["stopped"],
        lost=0,
        twice=0,
        unacknowledged=found["refused"],
        slip=0.0,
        loader_cpu=found["cpu"],
        measured=Latency(**found["measured"]) if found["measured"] else None,
        assigned=None,
    )
