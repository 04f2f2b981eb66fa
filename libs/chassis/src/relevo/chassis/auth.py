"""Who asks, and what they may: bearer tokens, API keys and adapter keys, judged by the projected directory.

- An access token (JWT, EdDSA, header `kid`, claims `sub` agent, `acc` account, `sid` session, `iat`, `exp`) says who
  it is; never what they may. Permissions, scope, teams and inboxes come from the directory at every request.
- `rk_<key id>_<secret>` is an API key, `ak_<key id>_<secret>` an adapter's, `bk_<key id>_<secret>` a bot's; only the SHA-256 of the whole key is known.

The directory follows identity within moments. What it does not know yet is waited for, up to a second; then an agent,
and a key whose id was made within a minute, is 503 with Retry-After, any other key is 401. Nothing is ever allowed by default.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID

import jwt
from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import text
from starlette.requests import Request

from relevo.chassis import dropping
from relevo.chassis.database import Database, Tx
from relevo.chassis.problems import Language, Problem, unavailable
from relevo.contracts.base import new_id
from relevo.contracts.identity import PLATFORM, AgentState, KeyState, RoleState, SigningKeyState
from relevo.contracts.permissions import ROLES, ConversationScope, Permission
from relevo.kernel.access import Viewer

ALGORITHM: Final = "EdDSA"
WAIT_SECONDS: Final = 1.0
_STEP_SECONDS: Final = 0.05
_MAX_WAITING: Final = 32
"""How many requests may wait for the directory at once: strangers must not occupy the database."""
_KEYS_FRESH_SECONDS: Final = 10.0
"""A retired signing key is refused after this long at the latest."""
_LATELY_SECONDS: Final = 60.0
"""So long a key that the directory does not know may be on its way: who made it is not told that it is wrong."""
_LEEWAY: Final = timedelta(seconds=5)
_KEY = re.compile(r"^(rk|ak|bk)_([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})_([A-Za-z0-9-]{20,100})$")
_KINDS: Final = {"rk": "api", "ak": "adapter", "bk": "bot"}
_PREFIXES: Final = {kind: prefix for prefix, kind in _KINDS.items()}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever sent the request. `session_id` only for agents, `inbox_id` only for keys of adapters and bots."""

    account_id: str
    kind: Literal["agent", "key", "adapter", "bot"]
    id: str
    name: str
    language: Language
    viewer: Viewer
    session_id: str | None = None
    inbox_id: str | None = None

    @property
    def actor(self) -> str:
        """What events name as their author."""
        return f"{self.kind if self.kind in ('agent', 'bot') else 'key'}:{self.id}"

    def can(self, permission: Permission) -> bool:
        """Whether the permission is held at all; for one conversation ask `kernel.access.may`."""
        return permission in self.viewer.permissions


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `plain` is shown once and never stored."""

    id: str
    plain: str = field(repr=False)
    sha256: str


def new_key(kind: Literal["api", "adapter", "bot"]) -> NewKey:
    """A new key: id, the whole key to hand out, and its SHA-256 (hex) to keep."""
    id_ = new_id()
    plain = f"{_PREFIXES[kind]}_{id_}_{secrets.token_hex(24)}"
    return NewKey(id_, plain, hash_key(plain))


def hash_key(plain: str) -> str:
    """The SHA-256 (hex) of a whole key. Its secret has 192 random bits: no slow hash is needed."""
    return hashlib.sha256(plain.encode()).hexdigest()


def access_token(
    private_pem: str,
    key_id: str,
    *,
    agent_id: str,
    account_id: str,
    session_id: str,
    issued_at: datetime,
    expires_at: datetime,
) -> str:
    """Sign an access token with an Ed25519 key (PEM); identity's business."""
    claims = {"sub": agent_id, "acc": account_id, "sid": session_id, "iat": issued_at, "exp": expires_at}
    return jwt.encode(claims, private_pem, algorithm=ALGORITHM, headers={"kid": key_id})


_AGENT = text("""
    select a.state as agent, a.deleted, r.state as role,
        exists (select 1 from directory s where s.kind = 'session' and s.id = :session) as revoked
    from directory a
    left join directory r on r.kind = 'role' and r.id = a.state ->> 'role_id'
        and r.account_id = a.account_id and not r.deleted
    where a.kind = 'agent' and a.id = :agent and a.account_id = :account
""")
_KEY_ROW = text("select state as key, deleted from directory where kind = 'key' and id = :id")
_OWNER = text("""
    select state as agent, deleted from directory where kind = 'agent' and id = :agent and account_id = :account
""")
_SIGNING_KEYS = text("select state from directory where kind = 'signing_key' and not deleted")


class Authenticator:
    """Turns an Authorization value into a Principal, by one query. One per process: it keeps the signing keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._signing_keys: dict[str, tuple[jwt.PyJWK | Any, datetime | None]] = {}
        self._loaded_at = float("-inf")
        self._loading = asyncio.Lock()
        self._waiting = 0

    async def authenticate(self, credential: str | None) -> Principal:
        """The principal of a bearer credential (without the word Bearer).

        Raises Problem 401 when it is missing, wrong, expired, revoked or its owner is gone; 503 when the directory
        does not know its owner yet, or a key that was made just now.
        """
        if not credential:
            raise _unauthenticated("missing_credential", "Falta la credencial.", "The credential is missing.")
        if match := _KEY.match(credential):
            return await self._key(match[1], match[2], credential)
        return await self._agent(credential)

    async def _agent(self, token: str) -> Principal:
        claims = await self._verified(token)
        return await self.agent(agent_id=claims["sub"], account_id=claims["acc"], session_id=claims["sid"])

    async def agent(self, *, agent_id: str, account_id: str, session_id: str) -> Principal:
        """The principal of an agent who has proved already who it is (an open socket), as the directory says now.

        Raises Problem 401 when the session has ended or the agent is gone; 503 when the directory does not know it yet.
        """
        parameters = {"agent": agent_id, "account": account_id, "session": session_id}

        async def known() -> Any:
            row = (await self._database.single(_AGENT, parameters, accounts=(account_id,))).first()
            # An agent whose role is not there yet can do nothing: wait for it as well.
            return row if row is not None and (row.deleted or row.role is not None) else None

        row = await self._await_directory(known)
        if row is None and await dropping.is_gone(self._database, account_id):
            raise _unauthenticated("session_ended", "La sesión ha terminado.", "The session has ended.")
        if row is None:
            raise unavailable(
                "agent_not_ready",
                es="Tu cuenta aún no está disponible aquí: inténtalo de nuevo en un momento.",
                en="Your account is not available here yet: try again in a moment.",
            )
        agent = AgentState.model_validate(row.agent)
        if row.deleted or not agent.active or row.revoked:
            raise _unauthenticated("session_ended", "La sesión ha terminado.", "The session has ended.")
        role = RoleState.model_validate(row.role)
        viewer = viewer_of(agent, role)
        return Principal(account_id, "agent", agent_id, agent.name, agent.language, viewer, session_id=session_id)

    async def _key(self, prefix: str, key_id: str, credential: str) -> Principal:
        async def known() -> Any:
            return (await self._database.single(_KEY_ROW, {"id": key_id}, door="key", sought=key_id)).first()

        row = await self._await_directory(known)
        if row is None:
            raise _key_not_ready() if _made_lately(key_id) else _bad_key()
        key = KeyState.model_validate(row.key)
        wrong = not hmac.compare_digest(key.sha256, hash_key(credential)) or key.kind != _KINDS[prefix]
        if wrong or row.deleted:
            raise _bad_key()
        agent: AgentState | None = None
        if key.agent_id is not None:
            whose = {"agent": key.agent_id, "account": key.account_id}

            async def owner() -> Any:
                return (await self._database.single(_OWNER, whose, accounts=(key.account_id,))).first()

            # Nothing says which of the two is told first.
            found = await self._await_directory(owner)
            if found is None and _made_lately(key_id):
                raise _key_not_ready()
            agent = _present(found)
        viewer = _viewer_of_key(key, agent)
        if viewer is None:
            raise _bad_key()
        language: Language = agent.language if agent else "es"
        if key.kind != "api":
            return Principal(key.account_id, key.kind, key.id, key.name, language, viewer, inbox_id=key.inbox_id)
        return Principal(key.account_id, "key", key.id, key.name, language, viewer)

    async def _verified(self, token: str) -> dict[str, Any]:
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            if not isinstance(key_id, str) or len(key_id) > 64:
                raise _bad_token()
            public = await self._signing_key(key_id)
            if public is None:
                raise _bad_token()
            claims: dict[str, Any] = jwt.decode(
                token,
                public,
                algorithms=[ALGORITHM],
                leeway=_LEEWAY,
                options={"require": ["exp", "sub", "acc", "sid"]},
            )
        except jwt.ExpiredSignatureError:
            raise _unauthenticated("token_expired", "La sesión ha caducado.", "The token has expired.") from None
        except jwt.PyJWTError:
            raise _bad_token() from None
        if not all(isinstance(claims[name], str) for name in ("sub", "acc", "sid")):
            raise _bad_token()
        return claims

    async def _signing_key(self, key_id: str) -> Any:
        async def known() -> Any:
            await self._load_signing_keys(
                unless_newer_than=_STEP_SECONDS if key_id not in self._signing_keys else _KEYS_FRESH_SECONDS
            )
            return self._signing_keys.get(key_id)

        found = await self._await_directory(known)
        if found is None:
            return None
        public, not_after = found
        return None if not_after is not None and not_after <= datetime.now(UTC) else public

    async def _load_signing_keys(self, *, unless_newer_than: float) -> None:
        async with self._loading:
            if time.monotonic() - self._loaded_at < unless_newer_than:
                return
            states = (await self._database.single(_SIGNING_KEYS, accounts=(PLATFORM,))).scalars().all()
            found: dict[str, tuple[Any, datetime | None]] = {}
            for state in states:
                key = SigningKeyState.model_validate(state)
                known = self._signing_keys.get(key.id)
                public = known[0] if known else jwt.get_algorithm_by_name(ALGORITHM).prepare_key(key.public_pem)
                found[key.id] = (public, key.not_after)
            self._signing_keys = found
            self._loaded_at = time.monotonic()

    async def _await_directory(self, ask: Callable[[], Awaitable[_T | None]]) -> _T | None:
        """Ask until there is an answer, for a second at most."""
        answer = await ask()
        if answer is not None or self._waiting >= _MAX_WAITING:
            return answer
        self._waiting += 1
        try:
            deadline = time.monotonic() + WAIT_SECONDS
            while answer is None and time.monotonic() < deadline:
                await asyncio.sleep(_STEP_SECONDS)
                answer = await ask()
        finally:
            self._waiting -= 1
        return answer


async def viewer_by_now(tx: Tx, account_id: str, actor: str) -> Viewer | None:
    """What an author of events, an agent or an API key, may see and do as the directory says now; None: they are gone.

    For work that goes on after the request that asked for it: rights that were taken away since are not used.
    """
    kind, _, id_ = actor.partition(":")
    if kind == "agent":
        row = (await tx.execute(_AGENT, {"agent": id_, "account": account_id, "session": ""})).first()
        if row is None or row.deleted or row.role is None:
            return None
        agent = AgentState.model_validate(row.agent)
        return viewer_of(agent, RoleState.model_validate(row.role)) if agent.active else None
    found = (await tx.execute(_KEY_ROW, {"id": id_})).first()
    if found is None or found.deleted:
        return None
    key = KeyState.model_validate(found.key)
    if key.account_id != account_id:
        return None
    owner = (await tx.execute(_OWNER, {"agent": key.agent_id, "account": account_id})).first()
    return _viewer_of_key(key, _present(owner))


def _present(row: Any) -> AgentState | None:
    """The agent of a row of _OWNER; None: there is none, or none any more."""
    return None if row is None or row.deleted else AgentState.model_validate(row.agent)


def _viewer_of_key(key: KeyState, owner: AgentState | None) -> Viewer | None:
    """What a key may see and do now; None: it has expired, or the agent that it is of is gone.

    It acts with its own permissions and scope; its agent lends it only teams and inboxes.
    """
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
        return None
    if key.agent_id is None:
        return Viewer(key.account_id, None, key.permissions, key.scope, frozenset(), None)
    if owner is None or not owner.active:
        return None
    teams = frozenset(owner.team_ids)
    return Viewer(key.account_id, key.agent_id, key.permissions, key.scope, teams, _inboxes(owner))


def viewer_of(agent: AgentState, role: RoleState) -> Viewer:
    """What the access rule needs to know of an agent, whoever asks on their behalf."""
    permissions, scope = _granted(role)
    return Viewer(agent.account_id, agent.id, permissions, scope, frozenset(agent.team_ids), _inboxes(agent))


def _granted(role: RoleState) -> tuple[frozenset[Permission], ConversationScope]:
    template = ROLES.get(role.name) if role.predefined else None
    if template is not None and not template.editable:
        # The administrator's: also the permissions that were added since the role was projected.
        return template.permissions, template.scope
    return role.permissions, role.scope


def _inboxes(agent: AgentState) -> frozenset[str] | None:
    return None if agent.inbox_ids is None else frozenset(agent.inbox_ids)


_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="relevo"'}


def _unauthenticated(code: str, es: str, en: str) -> Problem:
    return Problem(
        401, code, es=f"{es} Inicia sesión o revisa la clave.", en=f"{en} Sign in or check the key.", headers=_CHALLENGE
    )


def _bad_token() -> Problem:
    return _unauthenticated("invalid_token", "La credencial no es válida.", "The credential is not valid.")


def _made_lately(id_: str) -> bool:
    """Whether an id of ours (UUIDv7: it begins with the milliseconds since 1970) says that it was made within a minute."""
    found = UUID(id_)
    return found.version == 7 and abs(datetime.now(UTC).timestamp() - (found.int >> 80) / 1000) < _LATELY_SECONDS


def _key_not_ready() -> Problem:
    return unavailable(
        "key_not_ready",
        es="La clave aún no está disponible aquí: inténtalo de nuevo en un momento.",
        en="The key is not available here yet: try again in a moment.",
    )


def _bad_key() -> Problem:
    return _unauthenticated("invalid_key", "La clave no es válida.", "The key is not valid.")


_bearer = HTTPBearer(
    auto_error=False, description="An access token, an API key (rk_…), or the key of an adapter (ak_…) or a bot (bk_…)."
)


async def _principal(
    request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    authenticator: Authenticator | None = getattr(request.app.state, "authenticator", None)
    if authenticator is None:
        authenticator = request.app.state.authenticator = Authenticator(request.app.state.runtime.database)
    principal = await authenticator.authenticate(bearer.credentials if bearer else None)
    request.state.principal = principal
    return principal


_OUTSIDE: Final = {"adapter": ("adaptador", "an adapter"), "bot": ("bot", "a bot")}
"""Whoever has one inbox and the doors made for it, and nothing else."""


class Require:
    """A dependency that answers the Principal when it is an agent or key that holds one of the permissions.

    Raises Problem 401, 403 or 503.
    """

    def __init__(self, *permissions: Permission, only: Literal["adapter", "bot"] | None = None) -> None:
        self.permissions = permissions
        self.only = only

    async def __call__(self, principal: Annotated[Principal, Depends(_principal)]) -> Principal:
        outside = principal.kind if principal.kind in _OUTSIDE else None
        if outside != self.only:
            needed, given = self.only or "", outside or ""
            raise Problem(
                403,
                "wrong_credential",
                es=f"Aquí hace falta una clave de {_OUTSIDE[needed][0]}."
                if needed
                else f"Una clave de {_OUTSIDE[given][0]} no vale aquí.",
                en=f"The key of {_OUTSIDE[needed][1]} is needed here."
                if needed
                else f"The key of {_OUTSIDE[given][1]} does not serve here.",
            )
        if self.permissions and not any(principal.can(permission) for permission in self.permissions):
            names = ", ".join(self.permissions)
            raise Problem(
                403,
                "permission_missing",
                es=f"No tienes permiso para esto: hace falta {names}.",
                en=f"You are not allowed to do this: {names} is needed.",
                extra={"permissions": list(self.permissions)},
            )
        return principal


def require(*permissions: Permission) -> Require:
    """The dependency of an endpoint: any agent or key that holds one of these (none named: any agent or key)."""
    return Require(*permissions)


require_adapter: Final = Require(only="adapter")
"""The dependency of an endpoint for adapters: their key names account and inbox."""
require_bot: Final = Require(only="bot")
"""The same for bots."""
