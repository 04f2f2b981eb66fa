"""A measurement for people: on the terminal, and as docs/benchmarks.md. Both are made of its document alone, so that
what is printed, written and kept as JSON cannot differ.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from relevo.stack.bench.goals import goals
from relevo.stack.bench.results import line

MARK = "<!-- written by relevo bench; change nothing by hand -->"
_MB = 1024**2
_Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A title, what is said of it, and a table (without rows: no table)."""

    title: str
    text: str = ""
    columns: _Row = ()
    rows: tuple[_Row, ...] = ()


def show(found: Iterable[Section], console: Console) -> None:
    """Print the sections."""
    for section in found:
        console.print(f"\n[bold]{section.title}[/bold]")
        if section.text:
            console.print(section.text, markup=False, soft_wrap=True)
        if section.rows:
            table = Table(box=None, pad_edge=False)
            for number, column in enumerate(section.columns):
                table.add_column(column, justify="left" if number == 0 else "right")
            for row in section.rows:
                table.add_row(*row)
            console.print(table)


def markdown(document: dict[str, Any]) -> str:
    """The same as a page."""
    parts = ["# Benchmarks", MARK, f"`{line(document)}`"]
    for section in sections(document):
        parts.append(f"## {section.title}")
        if section.text:
            parts.append(section.text)
        if section.rows:
            head = f"| {' | '.join(section.columns)} |"
            rule = f"|{'|'.join('---' if n == 0 else '---:' for n in range(len(section.columns)))}|"
            parts.append("\n".join([head, rule, *(f"| {' | '.join(row)} |" for row in section.rows)]))
    return "\n\n".join(parts) + "\n"


def write(document: dict[str, Any], folder: Path) -> None:
    """benchmarks.md and benchmarks.json in that folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "benchmarks.md").write_text(markdown(document))


def sections(document: dict[str, Any]) -> list[Section]:
    """Everything that the document says, in order."""
    return [
        *_about(document),
        _goals(document),
        _rates(document),
        _latencies(document),
        _costs(document),
        _batches(document),
        _written(document),
        *_scenarios(document["scenarios"]),
        *beside(document),
    ]


def beside(document: dict[str, Any]) -> list[Section]:
    """Sweeps and profile, those that there are, and what went wrong."""
    return [
        *_sweeps(document["sweeps"]),
        *_profile(document["profile"]),
        *(
            [Section("Problems", "\n".join(f"✗ {problem}" for problem in document["problems"]))]
            if document["problems"]
            else []
        ),
    ]


def _about(document: dict[str, Any]) -> Iterator[Section]:
    about, plan = document["machine"], document["plan"]
    yield Section(
        "Where and how",
        f"{document['began'][:16]} UTC, commit {about['commit'] or 'unknown'}, version {document['version']}."
        f" {about['cpu']}, {about['cores']} cores, {about['memory_bytes'] / 1024**3:.1f} GB, {about['system']},"
        f" Python {about['python']}, {about['file_system']}; a durable write takes {about['sync_seconds'] * 1e6:.0f} µs."
        f" Load average {about['load_average_before']:.1f} before, {about['load_average_after']:.1f} after."
        " Load generator and metrics consumer run on the same cores.\n\n"
        f"Durable, checked before and after: {', '.join(f'{k} {v}' for k, v in document['durable'].items())}.\n\n"
        f"One NATS server, one PostgreSQL; replicas: {', '.join(f'{k} {v}' for k, v in document['replicas'].items())}."
        f" {plan['agents']} agents online in two teams, two rules of which one matches every tenth message,"
        f" at least {plan['contacts']:,} contacts alive. mix: one message in ten is a new contact's first; S1: all are.\n\n"
        f"Sustained is the highest rate of an open loop at which, after {plan['seconds']:.0f} s, the last message's metric,"
        " assignment and rule are there within one second of its publishing. It is sought by halving (probes of"
        f" {plan['probe_seconds']:.0f} s; a rate has failed when it failed twice, for noise only ever makes one fail), to"
        f" {plan['precision']:.0%}, then confirmed for the full time and lowered until it is. Latency counts"
        " from the moment at which a message was due.",
    )


def _goals(document: dict[str, Any]) -> Section:
    rows = tuple((goal.name, goal.wanted, goal.measured, "✓" if goal.met else "✗") for goal in goals(document))
    return Section("Promised and measured", "", ("", "promised", "measured", ""), rows)


def _parts(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return document["mix"], document["s1"]


def _rates(document: dict[str, Any]) -> Section:
    rows = []
    for part in _parts(document):
        run, name = part["run"], part["scenario"]
        floor, base = document["floor"][name], document["baseline"][name]
        rows.append(
            (
                name,
                f"{part['rate']:,.0f}",
                f"{run['took']:.0f} s",
                f"{run['sent']:,}",
                f"{run['drained']:.2f} s",
                f"{floor['rate']:,.0f}",
                f"{part['rate'] / floor['rate']:.2f}",
                f"{base['rate']:,.0f}",
                f"{part['rate'] / base['rate']:.2f}",
                f"{run['slip'] * 1000:.0f} ms",
                f"{part['bench_cores']:.0%}",
                f"{part['other_cores']:.0%}",
            )
        )
    text = (
        "Floor: one process without logic inserts as many rows and publishes as many events, in batches, on the same"
        " servers. Baseline: the same work in one process and one transaction a message, FastAPI and SQLAlchemy, no bus;"
        " one process uses one core beside PostgreSQL's, nobody else may listen, nothing is replayable."
    )
    columns = (
        "scenario",
        "messages/s",
        "for",
        "sent",
        "backlog at the end",
        "floor/s",
        "of the floor",
        "baseline/s",
        "times the baseline",
        "loader behind",
        "CPU of the bench",
        "of others here",
    )
    return Section("Sustained", text, columns, tuple(rows))


def _latencies(document: dict[str, Any]) -> Section:
    rows: list[_Row] = []

    def add(load: str, run: dict[str, Any]) -> None:
        for name in ("measured", "assigned"):
            if (latency := run[name]) is not None:
                rows.extend([(load, name, f"{latency['count']:,}", *_milliseconds(latency))])

    add("one a second", document["rest"]["singles"])
    for part in _parts(document):
        add(f"{part['scenario']}, half: {part['half']['rate']:,.0f}/s", part["half"])
        add(f"{part['scenario']}, full: {part['rate']:,.0f}/s", part["run"])
    for name, base in document["baseline"].items():
        add(f"baseline, {name}: {base['rate']:,.0f}/s", base["run"])
    return Section(
        "Latency",
        "From the moment a message was due to the arrival of its fact at a metrics consumer (of the baseline: to the"
        " answer after its commit), in ms.",
        ("load", "to", "n", "p50", "p95", "p99", "max"),
        tuple(rows),
    )


def _milliseconds(latency: dict[str, Any]) -> _Row:
    return tuple(f"{latency[name] * 1000:,.0f}" for name in ("p50", "p95", "p99", "longest"))


def _costs(document: dict[str, Any]) -> Section:
    mix, s1 = _parts(document)
    others = {cost["name"]: cost for cost in s1["costs"]}
    rest = document["rest"]
    rows: list[_Row] = [
        (
            cost["name"],
            f"{cost['cpu_per_message'] * 1000:.3f}",
            f"{cost['cores']:.0%}",
            f"{others[cost['name']]['cpu_per_message'] * 1000:.3f}",
            f"{others[cost['name']]['cores']:.0%}",
            f"{rest['cores'][cost['name']]:.1%}",
            f"{cost['rss'] / _MB:,.0f}",
            f"{cost['pss'] / _MB:,.0f}",
        )
        for cost in mix["costs"]
    ]
    rows.append(
        (
            "all",
            *(text for part in (mix, s1) for text in _sums(part["costs"])),
            f"{sum(rest['cores'].values()):.1%}",
            f"{sum(cost['rss'] for cost in mix['costs']) / _MB:,.0f}",
            f"{sum(cost['pss'] for cost in mix['costs']) / _MB:,.0f}",
        )
    )
    base = document["baseline"]
    for name, key in (("baseline: the program", "program"), ("baseline: postgres", "database")):
        per = {scenario: base[scenario][f"{key}_cpu_per_message"] for scenario in ("mix", "S1")}
        rows.append(
            (
                name,
                *(
                    text
                    for scenario in ("mix", "S1")
                    for text in (f"{per[scenario] * 1000:.3f}", f"{per[scenario] * base[scenario]['rate']:.0%}")
                ),
                "",
                "",
                "",
            )
        )
    columns = (
        "process",
        "mix: ms/message",
        "% of a core",
        "S1: ms/message",
        "% of a core",
        "at rest",
        "RSS, MB",
        "PSS, MB",
    )
    return Section("CPU and memory", "", columns, tuple(rows))


def _sums(costs: Iterable[dict[str, Any]]) -> _Row:
    costs = list(costs)
    return (
        f"{sum(cost['cpu_per_message'] for cost in costs) * 1000:.3f}",
        f"{sum(cost['cores'] for cost in costs):.0%}",
    )


def _batches(document: dict[str, Any]) -> Section:
    s1 = {one["service"]: one for one in document["s1"]["batches"]}
    rows = []
    for one in document["mix"]["batches"]:
        other = s1.get(one["service"])
        rows.append(
            (
                one["service"],
                f"{one['count']:,}",
                f"{one['mean_events']:.1f}",
                f"{one['mean_seconds'] * 1000:.1f}",
                f"{other['mean_events']:.1f}" if other else "",
                f"{other['mean_seconds'] * 1000:.1f}" if other else "",
            )
        )
    return Section(
        "Batches",
        "How many events a service handled in one transaction, and how long that took, at the sustained rate.",
        ("service", "mix: batches", "events in one", "ms", "S1: events in one", "ms"),
        tuple(rows),
    )


def _written(document: dict[str, Any]) -> Section:
    rows = []
    for name, written in document["writes_per_message"].items():
        floor = document["floor"][name]
        rows.append(
            (
                name,
                f"{written['events']:.1f}",
                f"{floor['event_bytes']:,}",
                f"{written['rows']:.1f}",
                f"{written['outbox_rows']:.1f}",
                f"{written['changes']:.1f}",
                f"{written['transactions']:.2f}",
                f"{written['wal_bytes'] / 1024:.1f}",
            )
        )
    columns = ("scenario", "events", "bytes of one", "rows", "outbox rows", "changed rows", "transactions", "WAL, KB")
    return Section("Written for one message", "", columns, tuple(rows))


def _scenarios(found: dict[str, Any]) -> Iterator[Section]:
    if not found:
        return
    s2 = found["S2"]
    yield Section(
        "S2: follow-ups of known contacts only",
        f"{s2['rate']:,.0f} messages/s for {s2['run']['took']:.0f} s;"
        f" p99 {_ms(s2['run']['measured'])} ms, at half of it {_ms(s2['half']['measured'])} ms.",
    )
    yield Section(
        "S3: overload, then drain",
        "",
        ("scenario", "offered/s", "for", "sent", "drained in", "drained/s", "longest wait", "lost", "twice"),
        tuple(
            (
                one["run"]["scenario"],
                f"{one['offered']:,.0f}",
                f"{one['run']['took']:.0f} s",
                f"{one['run']['sent']:,}",
                f"{one['run']['drained']:.1f} s",
                f"{one['drain_rate']:,.0f}",
                f"{one['run']['measured']['longest']:.1f} s",
                str(one["run"]["lost"]),
                str(one["run"]["twice"]),
            )
            for one in found["S3"]
        ),
    )
    yield Section(
        "S4: every process killed under half the load",
        "SIGKILL. Recovered: from the kill until the process answers again, facts come and less than a second of load waits.",
        ("process", "recovered in", "longest wait of a message", "sent", "lost", "twice"),
        tuple(
            (
                one["process"],
                "never" if one["recovered"] is None else f"{one['recovered']:.1f} s",
                f"{one['run']['measured']['longest']:.1f} s" if one["run"]["measured"] else "",
                f"{one['run']['sent']:,}",
                str(one["run"]["lost"] + one["run"]["unacknowledged"]),
                str(one["run"]["twice"]),
            )
            for one in found["S4"]
        ),
    )
    s5 = found["S5"]
    holds = "holds" if s5["at_full_held"] else "does not hold"
    yield Section(
        "S5: reports read under half the load",
        f"Four reads a second over {s5['facts']:,} facts. p99 of the messages: {_ms(s5['without']['measured'])} ms without,"
        f" {_ms(s5['run']['measured'])} ms with them. The sustained rate {holds} with them"
        f" (backlog {s5['at_full']['drained']:.2f} s).",
        ("report", "reads", "p50", "p95", "p99", "max"),
        tuple((name, str(reads["count"]), *_milliseconds(reads)) for name, reads in s5["reads"].items()),
    )
    s6 = found["S6"]
    yield Section(
        "S6: everything sent again",
        f"{s6['sent']:,} messages sent a second time were recognised at {s6['rate']:,.0f}/s; new facts: {s6['new_facts']};"
        f" new rows: {', '.join(f'{k} {v}' for k, v in s6['new_rows'].items())}.",
    )


def _ms(latency: dict[str, Any] | None) -> str:
    return "–" if latency is None else f"{latency['p99'] * 1000:,.0f}"


def _sweeps(found: dict[str, Any]) -> Iterator[Section]:
    for name, title in (
        ("replicas", "Replicas of each hot service"),
        ("conversations", "Conversations stored beforehand"),
    ):
        if points := found.get(name):
            yield Section(
                title,
                "On the same two servers and the same cores." if name == "replicas" else "Of another account.",
                (
                    title.partition(" ")[0].lower(),
                    "mix, messages/s",
                    "S1, conversations/s",
                    "mix: p99 at half, ms",
                    "S1: p99 at half, ms",
                ),
                tuple(
                    (
                        f"{point['setting']:,}",
                        *(f"{point['rates'][scenario]:,.0f}" for scenario in ("mix", "S1")),
                        *(f"{point['half_p99'][scenario] * 1000:,.0f}" for scenario in ("mix", "S1")),
                    )
                    for point in points
                ),
            )
    if points := found.get("accounts"):
        queues = "; ".join(
            f"{point['accounts']} accounts: {', '.join(f'{name} {count:,}' for name, count in point['waiting'].items())}"
            for point in points
            if point["waiting"]
        )
        yield Section(
            "Accounts, one of them flooding",
            "The mix over so many accounts; then all but one at three tenths of that rate, alone and beside one account"
            f" that sends twice of it.{f' Longest queues meanwhile, events: {queues}.' if queues else ''}",
            (
                "accounts",
                "messages/s",
                "others: p99 alone, ms",
                "p99 beside the flood, ms",
                "times",
                "flood sent/s",
                "lost",
            ),
            tuple(
                (
                    str(point["accounts"]),
                    f"{point['rate']:,.0f}",
                    *(
                        (
                            _ms(point["calm"]["measured"]),
                            _ms(point["flooded"]["measured"]),
                            f"{point['ratio']:.1f}",
                            f"{point['flooder']['sent'] / point['flooder']['took']:,.0f}",
                            str(point["flooded"]["lost"] + point["flooder"]["lost"]),
                        )
                        if point["ratio"] is not None
                        else ("", "", "", "", "")
                    ),
                )
                for point in points
            ),
        )


def _profile(found: dict[str, Any]) -> Iterator[Section]:
    for service, samples in found.get("services", {}).items():
        yield Section(
            f"Where the CPU goes: {service}",
            f"{samples['samples']:,} samples of 5 ms at {found['rate']:,.0f} messages/s of the mix.",
            ("function", "self"),
            tuple((f"{name}", f"{part:.1%}") for name, part in samples["self"]),
        )
        yield Section(
            f"{service}, with what is called",
            "",
            ("function", "with callees"),
            tuple((f"{name}", f"{part:.1%}") for name, part in samples["with_callees"]),
        )
