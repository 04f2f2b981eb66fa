"""How people, and their accounts, want to hear of what."""

from collections.abc import Collection, Mapping
from typing import Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.notification.domain.deciding import Choice, Choices

_CHOICES = text("""
    select cast(agent_id as text) as owner, kind, in_app, email, push from preferences
    where account_id = any(cast(:accounts as uuid[])) and agent_id = any(cast(:agents as uuid[]))
    union all
    select cast(account_id as text), kind, in_app, email, push from account_preferences
    where account_id = any(cast(:accounts as uuid[]))
""")
_ROWS: Final = """* from unnest(
        cast(:kinds as text[]), cast(:in_app as boolean[]), cast(:email as boolean[]), cast(:push as boolean[]))"""
_CHANGES: Final = "set in_app = excluded.in_app, email = excluded.email, push = excluded.push"
_SAVE = text(f"""
    insert into preferences (account_id, agent_id, kind, in_app, email, push)
    select cast(:account as uuid), cast(:agent as uuid), {_ROWS} on conflict (agent_id, kind) do update {_CHANGES}
""")
_SAVE_DEFAULTS = text(f"""
    insert into account_preferences (account_id, kind, in_app, email, push)
    select cast(:account as uuid), {_ROWS} on conflict (account_id, kind) do update {_CHANGES}
""")
_DROP = text("""
    delete from preferences
    where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid) and kind = :kind
""")


async def of(tx: Tx, accounts: Collection[str], agents: Collection[str]) -> Choices:
    """What these agents and accounts chose."""
    rows = await tx.execute(_CHOICES, {"accounts": sorted(accounts), "agents": sorted(agents)})
    return {(row.owner, row.kind): Choice(row.in_app, row.email, row.push) for row in rows}


async def save(tx: Tx, account_id: str, agent_id: str, chosen: Mapping[str, Choice]) -> None:
    """Keep what an agent chose for these kinds."""
    await tx.execute(_SAVE, {"account": account_id, "agent": agent_id, **_values(chosen)})


async def save_defaults(tx: Tx, account_id: str, chosen: Mapping[str, Choice]) -> None:
    """Keep what holds in an account for whoever has not chosen."""
    await tx.execute(_SAVE_DEFAULTS, {"account": account_id, **_values(chosen)})


async def drop(tx: Tx, account_id: str, agent_id: str, kind: str) -> None:
    """Forget what an agent chose for a kind: the account's default holds again."""
    await tx.execute(_DROP, {"account": account_id, "agent": agent_id, "kind": kind})


def _values(chosen: Mapping[str, Choice]) -> dict[str, list[str] | list[bool]]:
    return {
        "kinds": list(chosen),
        "in_app": [one.in_app for one in chosen.values()],
        "email": [one.email for one in chosen.values()],
        "push": [one.push for one in chosen.values()],
    }
