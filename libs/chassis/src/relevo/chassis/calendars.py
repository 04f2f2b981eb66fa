"""The accounts' business calendars, out of the directory: one statement a transaction, parsed once a version."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

import structlog
from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.contracts.identity import CalendarState
from relevo.kernel.business_time import CalendarError
from relevo.kernel.calendars import Calendars, Counting, counting

log = structlog.get_logger("relevo.calendars")

_STATES: Final = text("""
    select account_id, cast(state as text) as state, sequence from directory
    where account_id = any(cast(:accounts as text[])) and kind = 'calendar' and not deleted order by id
""")


async def calendars(tx: Tx, accounts: Iterable[str]) -> Mapping[str, Calendars]:
    """The calendars of each of these accounts, as this transaction sees them; one that cannot be read counts nowhere."""
    wanted = sorted(set(accounts))
    if not wanted:
        return {}
    found: dict[str, list[Counting]] = defaultdict(list)
    for row in await tx.execute(_STATES, {"accounts": wanted}):
        if one := _read(row.state, row.sequence):
            found[row.account_id].append(one)
    return {account: Calendars(found.get(account, ())) for account in wanted}


@lru_cache(maxsize=512)
def _read(state: str, version: int) -> Counting | None:
    try:
        return counting(CalendarState.model_validate_json(state), version)
    except CalendarError as unusable:
        # Checked when it was written; another release's must not stop the line.
        log.warning("calendar_unusable", reason=str(unusable), calendar=state[:200])
        return None
