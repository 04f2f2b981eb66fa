"""`python -m relevo.assignment.simulating`: what `relevo simulate` runs beside the service, with the service's environment."""

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from relevo.assignment.domain.simulation import drafted, recorded
from relevo.assignment.settings import Settings
from relevo.assignment.simulating import draft
from relevo.assignment.simulating.journal import CannotSimulate, record
from relevo.assignment.simulating.report import Asked, Simulation, as_json, as_text


def main() -> None:
    """Print the simulation; exits 1 when the record does not give the decisions that were kept, 2 when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m relevo.assignment.simulating", description=__doc__)
    parser.add_argument("--account", help="its id; without one, the only account that there is")
    parser.add_argument("--since", required=True, help="a moment with its zone, as 2026-11-21T00:00:00Z")
    parser.add_argument("--until", help="likewise; without one, the journal's end")
    parser.add_argument("--policy", type=Path, help="the draft, as JSON; without one, only how it was")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds; who waits longer waits too long")
    parser.add_argument("--seed", type=int, default=1, help="what draws depend on")
    parser.add_argument("--json", action="store_true", help="for machines")
    asked = parser.parse_args()
    try:
        found = simulate(asked)
    except CannotSimulate as refusal:
        print(refusal, file=sys.stderr)  # noqa: T201
        sys.exit(2)
    print(as_json(found) if asked.json else as_text(found))  # noqa: T201
    sys.exit(1 if found.was.differences else 0)


def simulate(asked: argparse.Namespace) -> Simulation:
    """Do it. Raises CannotSimulate, psycopg.Error."""
    since = _moment(asked.since, "since")
    until = _moment(asked.until, "until") if asked.until else None
    with record(Settings().database_url, asked.account) as on_record:
        # The end is not in the period: one that the last input still is.
        until = until or on_record.last() + timedelta(microseconds=1)
        if since >= until:
            raise CannotSimulate(f"since: the period begins at {since} and ends at {until}: name an earlier moment")
        what = Asked(on_record.account, since, until, asked.limit, asked.seed)
        was = recorded(on_record.entries(), on_record.kept(since, until), since=since, until=until, limit=asked.limit)
        if asked.policy is None:
            return Simulation(what, was)
        try:
            text = asked.policy.read_bytes()
        except OSError as error:
            raise CannotSimulate(f"policy: {error}") from error
        given = draft.read(text, was.policy, was.names)
        would = drafted(on_record.entries(), was, given, since=since, until=until, limit=asked.limit, seed=asked.seed)
        return Simulation(what, was, given, would)


def _moment(text: str, field: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise CannotSimulate(f"{field}: {text} is no moment: give it as 2026-11-21T00:00:00Z") from error
    if at.tzinfo is None:
        raise CannotSimulate(f"{field}: {text} names no zone: end it with Z for UTC, or with an offset such as -05:00")
    return at.astimezone(UTC)


if __name__ == "__main__":
    main()
