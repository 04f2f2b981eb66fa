"""What a measurement finds, as data; its document is what reports are made of. Times in seconds, sizes in bytes."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from relevo.stack.bench.drive import Run
from relevo.stack.bench.figures import Scenario


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each part takes, in seconds, and how much there is of each."""

    seconds: float = 60.0
    probe_seconds: float = 8.0
    warm_up_seconds: float = 10.0
    half_load_seconds: float = 20.0
    rest_seconds: float = 20.0
    singles: int = 20
    floor_seconds: float = 8.0
    baseline_seconds: float = 8.0
    agents: int = 50
    contacts: int = 5000
    probes: int = 7
    precision: float = 0.1
    scenario_seconds: float = 20.0
    """Each of S2 to S6, and each point of a sweep."""
    overload_seconds: float = 10.0
    fault_seconds: float = 8.0
    """The load around each killed process."""


QUICK = Plan(
    seconds=2.0,
    probe_seconds=1.0,
    warm_up_seconds=0.5,
    half_load_seconds=1.0,
    rest_seconds=1.0,
    singles=2,
    floor_seconds=1.0,
    baseline_seconds=1.0,
    agents=4,
    contacts=100,
    probes=6,
    precision=1.0,
    scenario_seconds=2.0,
    overload_seconds=1.0,
    fault_seconds=3.0,
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took during a run."""

    name: str
    cpu_per_message: float
    cores: float
    rss: int
    pss: int
    """What it would free: pages that several processes share count by their share."""


@dataclass(frozen=True, slots=True)
class Batches:
    """How a service read during a run: batches handled, events in one, and the seconds of one's transaction."""

    service: str
    count: int
    mean_events: float
    mean_seconds: float


@dataclass(frozen=True, slots=True)
class Sustained:
    """One scenario: the run that confirmed its rate, with its costs, and the run at half of it."""

    scenario: Scenario
    rate: float
    """Messages a second."""
    run: Run
    half: Run
    costs: list[Cost]
    batches: list[Batches]
    bench_cores: float
    """What measuring itself took: load generator, metrics consumer, this process."""
    other_cores: float
    """What everything else on the machine took meanwhile. The figures are only as good as this is small."""
    probes: list[Run]


@dataclass(frozen=True, slots=True)
class FloorResult:
    """What one process without logic reaches, and what it was told to write for a message."""

    rate: float
    cpu_per_message: float
    rows: float
    events: float
    event_bytes: int


@dataclass(frozen=True, slots=True)
class BaselineResult:
    """What the one-process program carried of a scenario, and what it and its database took for a message."""

    rate: float
    run: Run
    program_cpu_per_message: float
    database_cpu_per_message: float


@dataclass(frozen=True, slots=True)
class Rest:
    """The stack with nothing to do, then with a message a second."""

    cores: dict[str, float]
    rss: dict[str, int]
    singles: Run


@dataclass(slots=True)
class Result:
    """Everything that was measured."""

    began: datetime
    version: str
    machine: dict[str, Any]
    durable: dict[str, str]
    replicas: dict[str, int]
    plan: Plan
    rest: Rest
    mix: Sustained
    s1: Sustained
    writes_per_message: dict[str, dict[str, float]]
    """By the whole stack, in each scenario."""
    floor: dict[str, FloorResult]
    baseline: dict[str, BaselineResult]
    restarts: int
    scenarios: dict[str, Any] = field(default_factory=dict)
    """S2 to S6, when they were asked for."""
    sweeps: dict[str, Any] = field(default_factory=dict)
    """Replicas, accounts, stored conversations, when they were asked for."""
    profile: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def ratio(self, part: Sustained) -> float:
        """The share of the floor that the stack reaches."""
        return part.rate / self.floor[part.scenario].rate

    def document(self) -> dict[str, Any]:
        """For machines, and for `report`."""
        return {
            **asdict(self),
            "began": self.began.isoformat(),
            "floor_ratio": self.ratio(self.mix),
            "s1_floor_ratio": self.ratio(self.s1),
        }


def line(document: dict[str, Any]) -> str:
    """The last line of a measurement."""
    return (
        f"sustained: {document['mix']['rate']:.0f} messages/s (mix), {document['s1']['rate']:.0f} conversations/s (S1),"
        f" floor ratio {document['floor_ratio']:.2f}"
    )


def problems(document: dict[str, Any]) -> list[str]:
    """What makes the figures doubtful, or the stack wrong."""
    runs = [document["rest"]["singles"]]
    for part in (document["mix"], document["s1"]):
        runs += [part["run"], part["half"], *part["probes"]]
    found = []
    if lost := sum(run["lost"] for run in runs):
        found.append(f"{lost} things were acknowledged and never counted")
    if twice := sum(run["twice"] for run in runs):
        found.append(f"{twice} facts were published twice")
    if document["restarts"]:
        found.append(f"{document['restarts']} processes fell and were started again")
    return found
