"""`python -m relevo.conversation.seeding`: what `relevo seed` runs beside the service, with the service's environment."""

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from relevo.conversation.seeding.load import CannotSeed, Seeding, seed
from relevo.conversation.seeding.rows import Plan
from relevo.conversation.settings import Settings

_EVERY_SECONDS = 2.0


def main() -> None:
    """Seed the account that a JSON file describes; exits 2 when it cannot be done there."""
    parser = argparse.ArgumentParser(prog="python -m relevo.conversation.seeding", description=__doc__)
    parser.add_argument("--conversations", type=int, required=True)
    parser.add_argument("--account", type=Path, required=True, help="JSON: account_id, inboxes, agents, teams")
    parser.add_argument("--texts", type=Path, action="append", default=[], help="JSON lines to draw texts from")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    asked = parser.parse_args()
    given: dict[str, Any] = json.loads(asked.account.read_text())
    plan = Plan(conversations=asked.conversations, now=datetime.now(UTC).replace(microsecond=0), **given)
    try:
        seed(Seeding(Settings().database_url, plan, asked.texts, asked.workers), _Shown())
    except CannotSeed as refusal:
        print(refusal, file=sys.stderr)  # noqa: T201
        sys.exit(2)


class _Shown:
    """Progress, a line every two seconds."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._first: int | None = None
        self._next = 0.0

    def __call__(self, done: int, of: int) -> None:
        first = self._first = done if self._first is None else self._first
        passed = time.monotonic() - self._began
        if passed < self._next and done < of:
            return
        self._next = passed + _EVERY_SECONDS
        rate = (done - first) / passed if passed else 0.0
        left = f", {(of - done) / rate:.0f} s to go" if rate and done < of else ""
        print(f"{done:,} of {of:,} conversations, {rate:,.0f}/s{left}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
