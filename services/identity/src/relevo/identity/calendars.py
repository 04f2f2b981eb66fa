"""Acts upon business calendars: each within the caller's transaction, which holds the account's lock."""

from collections.abc import Sequence

from relevo.contracts.identity import CalendarChanged, CalendarState
from relevo.identity import problems
from relevo.identity.administration import Act, known_inboxes, record_of
from relevo.identity.publish import Change
from relevo.identity.store import calendars as store
from relevo.identity.store import directory
from relevo.identity.store.directory import Stored
from relevo.kernel.business_time import CalendarError
from relevo.kernel.calendars import calendar_of


async def calendar(act: Act, calendar_id: str) -> Stored[CalendarState]:
    """One of the account's. Raises Problem 404."""
    found = await store.calendar(act.tx, act.account, calendar_id)
    if found is None:
        raise problems.not_found("calendar")
    return found


async def save_calendar(act: Act, before: Stored[CalendarState] | None, state: CalendarState) -> Stored[CalendarState]:
    """Make (``before`` None) or edit a calendar. An inbox, a team or the account that it takes leaves the one it had."""
    if before is not None and before.state == state:
        return before
    try:
        calendar_of(state)
    except CalendarError as refused:
        raise problems.bad_calendar(refused) from None
    others = [
        one
        for one in await store.calendars(act.tx, act.account, after=None, limit=store.MOST + 1)
        if one.state.id != state.id
    ]
    if before is None and len(others) >= store.MOST:
        raise problems.too_many_calendars(store.MOST)
    if any(one.state.name.casefold() == state.name.casefold() for one in others):
        raise problems.name_taken()
    await _known(act, before.state if before else None, state)
    after = Stored(state, before.version + 1 if before else 1)
    moved = [(one, Stored(left, one.version + 1)) for one in others if (left := _left(one.state, state)) != one.state]
    for _, now_is in moved:
        await store.save(act.tx, now_is)
    await store.save(act.tx, after)
    await act.done(
        [_told(now_is) for _, now_is in moved] + [_told(after)],
        [record_of("calendar", was, now_is) for was, now_is in moved] + [record_of("calendar", before, after)],
    )
    return after


async def remove_calendar(act: Act, before: Stored[CalendarState]) -> None:
    """Remove a calendar: where it counted, the next one does, or none."""
    gone = Stored(before.state, before.version + 1)
    await store.remove(act.tx, gone)
    await act.done([_told(gone, deleted=True)], [record_of("calendar", before, None)])


def _told(stored: Stored[CalendarState], *, deleted: bool = False) -> Change:
    state = stored.state
    return Change(CalendarChanged(calendar=state, deleted=deleted), state.account_id, state.id, stored.version)


def _left(state: CalendarState, taker: CalendarState) -> CalendarState:
    """What remains of a calendar's reach when another one takes its own."""
    return state.model_copy(
        update={
            "is_default": state.is_default and not taker.is_default,
            "team_ids": _without(state.team_ids, taker.team_ids),
            "inbox_ids": _without(state.inbox_ids, taker.inbox_ids),
        }
    )


def _without(had: Sequence[str], taken: Sequence[str]) -> tuple[str, ...]:
    return tuple(one for one in had if one not in taken)


async def _known(act: Act, before: CalendarState | None, state: CalendarState) -> None:
    """Refuse teams and inboxes that are not there; those it had may be gone since."""
    teams = set(state.team_ids) - set(before.team_ids if before else ())
    if missing := sorted(teams - (await directory.teams_by_id(act.tx, act.account, teams)).keys()):
        raise problems.unknown("team", "/team_ids", missing)
    await known_inboxes(act, set(state.inbox_ids) - set(before.inbox_ids if before else ()))
