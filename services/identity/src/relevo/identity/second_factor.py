"""The second step of sign-in: set up, confirmed, asked for, and taken away again."""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from relevo.chassis import sealing
from relevo.chassis.database import Tx
from relevo.contracts.base import now
from relevo.contracts.identity import AgentState
from relevo.identity import links, problems
from relevo.identity.administration import Act
from relevo.identity.domain import totp
from relevo.identity.store import second_factor as store
from relevo.identity.store.audit import Record

_LABEL: Final = "second factor of "


async def begin(act: Act, agent: AgentState, master_key: bytes) -> bytes:
    """A new secret, which is asked for once it is confirmed. Raises Problem 409 when there is one in force."""
    if await store.confirmed(act.tx, act.account, agent.id) is not None:
        raise problems.second_factor_on()
    secret = totp.new_secret()
    await store.begin(act.tx, act.account, agent.id, sealing.seal(master_key, secret, label=_LABEL + agent.id))
    return secret


async def confirm(act: Act, agent: AgentState, master_key: bytes, code: str) -> list[str]:
    """Ask for codes from now on; answers the recovery codes, which are kept as hashes only.

    Raises Problem 409 when nothing is being set up, 403 for a wrong code.
    """
    held = await _lock(act.tx, act.account, agent.id, master_key)
    if held is None or held.in_force:
        raise problems.second_factor_on() if held else problems.second_factor_off()
    if not await held.use(code):
        raise problems.wrong_code(403)
    await store.confirm(act.tx, act.account, agent.id, now())
    codes = await _new_codes(act, agent)
    await _changed(act, agent, "second_factor.enabled", "second_factor_on")
    return codes


async def renew_codes(act: Act, agent: AgentState, master_key: bytes, code: str) -> list[str]:
    """Recovery codes in the place of those before. Raises Problem 409 without second factor, 403 for a wrong code."""
    await _use_any(act.tx, act.account, agent.id, master_key, code)
    codes = await _new_codes(act, agent)
    await act.done([], [Record("second_factor.codes_renewed", "agent", agent.id)])
    return codes


async def disable(act: Act, agent: AgentState, master_key: bytes, code: str) -> None:
    """Ask for codes no more. Raises Problem 409 without second factor, 403 for a wrong code."""
    await _use_any(act.tx, act.account, agent.id, master_key, code)
    await take_away(act, agent)


async def take_away(act: Act, agent: AgentState) -> None:
    """The same without a code, by whoever may: the telephone was lost. Raises Problem 409 without second factor."""
    if await store.confirmed(act.tx, act.account, agent.id) is None:
        raise problems.second_factor_off()
    await store.remove(act.tx, act.account, agent.id)
    await _changed(act, agent, "second_factor.disabled", "second_factor_off")


async def present(tx: Tx, account: str, agent: str, master_key: bytes, code: str | None) -> None:
    """Pass the second step of a sign-in, if there is one; what was presented is used up.

    Raises Problem 401: `second_factor_needed` without a code, `wrong_code` for one that is wrong or used.
    """
    held = await _lock(tx, account, agent, master_key)
    if held is None or not held.in_force:
        return
    if code is None:
        raise problems.second_factor_needed()
    if not await held.use(code):
        raise problems.wrong_code(401)


async def _use_any(tx: Tx, account: str, agent: str, master_key: bytes, code: str) -> None:
    held = await _lock(tx, account, agent, master_key)
    if held is None or not held.in_force:
        raise problems.second_factor_off()
    if not await held.use(code):
        raise problems.wrong_code(403)


@dataclass(frozen=True, slots=True)
class _Held:
    """An agent's second factor, locked, with its secret in the clear."""

    tx: Tx
    account: str
    agent: str
    secret: bytes = field(repr=False)
    last_step: int
    in_force: bool

    async def use(self, code: str) -> bool:
        """Whether the code is right; app's or recovery code, it is used up then."""
        step = totp.accepted(self.secret, code, now(), last_step=self.last_step)
        if step is not None:
            await store.use_step(self.tx, self.account, self.agent, step)
            return True
        return await store.use_code(self.tx, self.account, self.agent, _digest(code))


async def _lock(tx: Tx, account: str, agent: str, master_key: bytes) -> _Held | None:
    found = await store.lock(tx, account, agent)
    if found is None:
        return None
    secret = sealing.unseal(master_key, found.sealed, label=_LABEL + agent)
    return _Held(tx, account, agent, secret, found.last_step, found.confirmed_at is not None)


async def _new_codes(act: Act, agent: AgentState) -> list[str]:
    codes = totp.new_recovery_codes()
    await store.replace_codes(act.tx, act.account, agent.id, [_digest(code) for code in codes])
    return codes


def _digest(code: str) -> bytes:
    return hashlib.sha256(totp.normal_recovery_code(code).encode()).digest()


async def _changed(act: Act, agent: AgentState, action: str, template: str) -> None:
    await act.done([], [Record(action, "agent", agent.id)])
    links.warn(act.tx, template, account=act.stored.state, agent=agent, address=agent.email, actor=act.by.actor)
