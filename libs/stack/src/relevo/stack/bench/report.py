"""A measurement for people to read."""

from rich.console import Console
from rich.table import Table

from relevo.stack.bench.drive import Run
from relevo.stack.bench.figures import Latency
from relevo.stack.bench.measure import Result, Sustained

_MB = 1024**2


def show(result: Result, console: Console) -> None:
    """Print the tables."""
    about = result.machine
    console.print(
        f"\n{about['cpu']}, {about['cores']} cores, {about['memory_bytes'] / 1024**3:.1f} GB, {about['system']},"
        f" Python {about['python']}, {about['file_system']}: a durable write takes {about['sync_seconds'] * 1e6:.0f} µs;"
        f" load average {about['load_average_before']:.1f} before, {about['load_average_after']:.1f} after",
        markup=False,
        soft_wrap=True,
    )
    console.print(
        "durable: " + ", ".join(f"{name} {value}" for name, value in result.durable.items()),
        markup=False,
        soft_wrap=True,
    )
    console.print(_rates(result))
    console.print(_latencies(result))
    console.print(_costs(result))
    _floor(result, console)
    for problem in result.problems:
        console.print(f"✗ {problem}", markup=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _rates(result: Result) -> Table:
    table = _table(
        "Sustained",
        "scenario",
        "messages/s",
        "for",
        "sent",
        "backlog at the end",
        "loader behind",
        "CPU of the bench",
        "of others on this machine",
    )
    for part in (result.mix, result.s1):
        run = part.run
        table.add_row(
            part.scenario,
            f"{part.rate:,.0f}",
            f"{run.took:.0f} s",
            f"{run.sent:,}",
            f"{run.drained:.2f} s",
            f"{run.slip * 1000:.0f} ms",
            f"{part.bench_cores:.0%}",
            f"{part.other_cores:.0%}",
        )
    return table


def _latencies(result: Result) -> Table:
    table = _table(
        "Latency, from the moment a message was due to its fact, ms", "load", "to", "n", "p50", "p95", "p99", "max"
    )

    def rows(load: str, run: Run) -> None:
        for name, latency in (("measured", run.measured), ("assigned", run.assigned)):
            if latency is not None:
                table.add_row(load, name, f"{latency.count:,}", *_milliseconds(latency))

    rows("one a second", result.rest.singles)
    for part in (result.mix, result.s1):
        rows(f"{part.scenario}, half: {part.half.rate:,.0f}/s", part.half)
        rows(f"{part.scenario}, full: {part.rate:,.0f}/s", part.run)
    return table


def _milliseconds(latency: Latency) -> list[str]:
    return [f"{value * 1000:,.1f}" for value in (latency.p50, latency.p95, latency.p99, latency.longest)]


def _costs(result: Result) -> Table:
    table = _table(
        "CPU and memory",
        "process",
        "mix: ms/message",
        "% of a core",
        "S1: ms/message",
        "% of a core",
        "at rest, %",
        "RSS, MB",
    )
    s1 = {cost.name: cost for cost in result.s1.costs}
    for cost in result.mix.costs:
        other = s1[cost.name]
        table.add_row(
            cost.name,
            f"{cost.cpu_per_message * 1000:.3f}",
            f"{cost.cores:.0%}",
            f"{other.cpu_per_message * 1000:.3f}",
            f"{other.cores:.0%}",
            f"{result.rest.cores[cost.name]:.1%}",
            f"{cost.rss / _MB:,.0f}",
        )
    table.add_row(
        "all",
        *(text for part in (result.mix, result.s1) for text in _sums(part)),
        f"{result.rest.total_cores:.1%}",
        f"{sum(cost.rss for cost in result.mix.costs) / _MB:,.0f}",
    )
    return table


def _sums(part: Sustained) -> tuple[str, str]:
    return (
        f"{sum(cost.cpu_per_message for cost in part.costs) * 1000:.3f}",
        f"{sum(cost.cores for cost in part.costs):.0%}",
    )


def _floor(result: Result, console: Console) -> None:
    written, floor = result.writes_per_message, result.floor
    console.print(
        f"\nWritten for one message of the mix: {written['events']:.1f} events of {floor.event_bytes} bytes,"
        f" {written['rows']:.1f} rows and {written['outbox_rows']:.1f} outbox rows, {written['changes']:.1f} changed rows,"
        f" {written['transactions']:.2f} transactions, {written['wal_bytes'] / 1024:.1f} KB of write-ahead log",
        soft_wrap=True,
    )
    console.print(
        f"Floor: one process without logic writes as many rows and publishes as many events for {floor.rate:,.0f} messages/s"
        f" ({floor.cpu_per_message * 1000:.2f} ms of its own CPU each)\n",
        soft_wrap=True,
    )
