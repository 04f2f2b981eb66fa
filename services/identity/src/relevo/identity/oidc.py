"""Sign-in at the operator's identity provider (OpenID Connect, authorization code with PKCE).

It proves an address, no more: who may sign in is who is an agent here. The first time binds the agent to the provider's
own name for the person; an address that is later given to somebody else does not let them in.
"""

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import jwt
import structlog

from relevo.chassis.database import Database
from relevo.chassis.sealing import key_bytes
from relevo.contracts.base import now
from relevo.identity import limits, problems, second_factor, sessions
from relevo.identity.domain import oidc as rules
from relevo.identity.domain.links import OPENED_PER_IP
from relevo.identity.domain.oidc import ALGORITHMS, FLOW_LIFETIME, Vouched
from relevo.identity.domain.sign_in import PER_SECOND_FACTOR
from relevo.identity.sessions import Tokens
from relevo.identity.settings import IdentitySettings
from relevo.identity.store import audit, directory, persons, sign_in
from relevo.identity.store import oidc as store
from relevo.identity.store.audit import By, Record
from relevo.identity.store.sign_in import Candidate

log = structlog.get_logger("relevo.identity")

_TIMEOUT: Final = 10.0
_FRESH_SECONDS: Final = 3600.0
_KEYS_AGAIN_SECONDS: Final = 30.0
"""A key that is not known is looked for at most so often: strangers' tokens must not make us ask and ask."""
_LEEWAY_SECONDS: Final = 60
_ACCOUNTS: Final = 20


class ProviderError(Exception):
    """The provider does not answer, or not as OpenID Connect has it."""


class Refused(Exception):
    """The provider's word is not one to trust; the message is for the log."""


class Provider:
    """The operator's provider, as its discovery document describes it. One per process: it keeps the keys."""

    def __init__(self, issuer: str, client_id: str, client_secret: str, redirect_uri: str) -> None:
        self.issuer = issuer
        self.client_id = client_id
        self.redirect_uri = redirect_uri
        self._secret = client_secret
        self._document: dict[str, Any] = {}
        self._read_at = float("-inf")
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._keys_at = float("-inf")
        self._reading = asyncio.Lock()

    async def authorize_url(self, *, state: str, nonce: str, verifier: str) -> str:
        """Where the browser goes. Raises ProviderError."""
        return rules.authorize_url(
            await self._endpoint("authorization_endpoint"),
            client_id=self.client_id,
            redirect_uri=self.redirect_uri,
            state=state,
            nonce=nonce,
            verifier=verifier,
        )

    async def redeem(self, code: str, *, nonce: str, verifier: str) -> Vouched:
        """Whom the provider vouches for with this code. Raises ProviderError, Refused."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": verifier,
        }
        endpoint = await self._endpoint("token_endpoint")
        methods = self._document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        basic = (self.client_id, self._secret) if "client_secret_basic" in methods else None
        if basic is None:
            form |= {"client_id": self.client_id, "client_secret": self._secret}
        async with httpx.AsyncClient(timeout=_TIMEOUT, auth=basic) as client:
            try:
                answer = await client.post(endpoint, data=form, headers={"Accept": "application/json"})
                body = answer.json()
            except (httpx.HTTPError, ValueError) as error:
                raise ProviderError(f"{endpoint}: {type(error).__name__}") from error
        if answer.is_server_error:
            raise ProviderError(f"{endpoint}: {answer.status_code}")
        token = body.get("id_token") if isinstance(body, dict) else None
        if answer.is_error or not isinstance(token, str):
            raise Refused(f"the token endpoint answered {answer.status_code}")
        found = rules.vouched(await self._claims(token), client_id=self.client_id, nonce=nonce)
        if found is None:
            raise Refused("claims of another sign-in, or without a verified address")
        return found

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            key = await self._key(jwt.get_unverified_header(token).get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                issuer=self.issuer,
                audience=self.client_id,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, TypeError) as error:
            raise Refused(f"the ID token: {type(error).__name__}: {error}") from None
        return claims

    async def _key(self, key_id: str | None) -> jwt.PyJWK:
        async with self._reading:
            if key_id not in self._keys and time.monotonic() - self._keys_at > _KEYS_AGAIN_SECONDS:
                found = await self._get(await self._endpoint("jwks_uri", locked=True))
                self._keys = {}
                for raw in found.get("keys", []):
                    # A symmetric key here would let whoever reads it sign.
                    if isinstance(raw, dict) and raw.get("kty") in {"RSA", "EC", "OKP"} and raw.get("use") != "enc":
                        self._keys[raw.get("kid")] = jwt.PyJWK.from_dict(raw)
                self._keys_at = time.monotonic()
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if key_id not in self._keys:
            raise Refused("signed with a key that the provider does not publish")
        return self._keys[key_id]

    async def _endpoint(self, name: str, *, locked: bool = False) -> str:
        if time.monotonic() - self._read_at > _FRESH_SECONDS:
            if locked:
                await self._discover()
            else:
                async with self._reading:
                    await self._discover()
        endpoint = self._document.get(name)
        if not isinstance(endpoint, str) or not endpoint.startswith(("https://", "http://")):
            raise ProviderError(f"the discovery document has no {name}")
        return endpoint

    async def _discover(self) -> None:
        document = await self._get(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != self.issuer:
            raise ProviderError(f"the provider calls itself {document.get('issuer')!r}: set RELEVO_OIDC_ISSUER to that")
        self._document, self._read_at = document, time.monotonic()

    async def _get(self, url: str) -> dict[str, Any]:
        async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
            try:
                answer = await client.get(url)
                found = answer.raise_for_status().json()
            except (httpx.HTTPError, ValueError) as error:
                raise ProviderError(f"{url}: {type(error).__name__}") from error
        if not isinstance(found, dict):
            raise ProviderError(f"{url}: no object")
        return found


def provider(settings: IdentitySettings) -> Provider | None:
    """The provider that is configured."""
    if settings.oidc_issuer is None or settings.oidc_client_id is None or settings.oidc_client_secret is None:
        return None
    redirect_uri = f"{settings.public_url.rstrip('/')}/oidc/callback"
    return Provider(
        settings.oidc_issuer, settings.oidc_client_id, settings.oidc_client_secret.get_secret_value(), redirect_uri
    )


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that begins. ``state`` comes back with the browser, ``flow`` stays in it."""

    url: str
    state: str = field(repr=False)
    flow: str = field(repr=False)


async def begin(db: Database, provider: Provider, ip: str) -> Begun:
    """Begin a sign-in. Raises Problem 429, 503 when the provider does not answer."""
    await limits.check(db, (OPENED_PER_IP, "oidc", ip))
    state, flow, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(4))
    try:
        url = await provider.authorize_url(state=state, nonce=nonce, verifier=verifier)
    except ProviderError as error:
        log.warning("oidc_unavailable", error=str(error)[:300])
        raise problems.oidc_unavailable() from None
    async with db.begin() as tx:
        await store.add(
            tx,
            state=_digest(state),
            flow=_digest(flow),
            nonce=nonce,
            verifier=verifier,
            expires_at=now() + FLOW_LIFETIME,
        )
    return Begun(url, state, flow)


@dataclass(frozen=True, slots=True)
class Return:
    """The browser is back. ``code`` None: the provider has spoken before, and the account or a second factor was missing."""

    state: str = field(repr=False)
    flow: str = field(repr=False)
    code: str | None = field(repr=False)
    account_id: str | None
    second_factor: str | None = field(repr=False)
    ip: str
    user_agent: str


async def complete(db: Database, settings: IdentitySettings, provider: Provider, back: Return) -> Tokens:
    """Begin the session of whom the provider vouches for.

    Raises Problem 410 for a sign-in that is over or of another browser; 401 when the provider's word is not to be
    trusted, nobody here has the address, or a second factor is needed or wrong; 409 with several accounts; 429, 503.
    """
    await limits.check(db, (OPENED_PER_IP, "oidc", back.ip))
    mine = {"state": _digest(back.state), "flow": _digest(back.flow)}
    if back.code is not None:
        async with db.begin() as tx:
            flow = await store.use(tx, **mine, now=now())
        if flow is None:
            raise problems.oidc_over()
        try:
            found = await provider.redeem(back.code, nonce=flow.nonce, verifier=flow.verifier)
        except ProviderError as error:
            log.warning("oidc_unavailable", error=str(error)[:300])
            raise problems.oidc_unavailable() from None
        except Refused as error:
            log.warning("oidc_refused", error=str(error)[:300])
            raise problems.oidc_refused() from None
        async with db.begin() as tx:
            await store.vouch(tx, state=mine["state"], email=found.email, subject=found.subject)
    return await _enter(db, settings, provider.issuer, back, mine)


async def _enter(db: Database, settings: IdentitySettings, issuer: str, back: Return, mine: dict[str, bytes]) -> Tokens:
    async with db.begin() as tx:
        flow = await store.lock(tx, **mine, now=now())
        if flow is None or flow.email is None or flow.subject is None:
            raise problems.oidc_over()
        candidates = await sign_in.candidates(tx, flow.email, back.account_id, limit=_ACCOUNTS)
        known = await store.subjects(
            tx, issuer, [one.agent_id for one in candidates], [one.account_id for one in candidates]
        )
        meant = [one for one in candidates if known.get(one.agent_id, flow.subject) == flow.subject]
        if not meant:
            raise problems.oidc_nobody()
        if len(meant) > 1:
            raise sessions.which_account(meant)
        who = meant[0]
    if back.second_factor is not None:
        await limits.check(db, (PER_SECOND_FACTOR, "code", who.agent_id))
    return await _admitted(db, settings, issuer, back, mine, who)


async def _admitted(  # noqa: PLR0917
    db: Database, settings: IdentitySettings, issuer: str, back: Return, mine: dict[str, bytes], who: Candidate
) -> Tokens:
    async with db.begin(who.account_id) as tx:
        account = await directory.lock_account(tx, who.account_id)
        flow = await store.lock(tx, **mine, now=now())
        if account is None or flow is None or flow.subject is None:
            raise problems.oidc_over()
        if not await sign_in.lock_agent(tx, who.account_id, who.agent_id):
            raise problems.oidc_nobody()
        known = await store.subjects(tx, issuer, [who.agent_id], [who.account_id])
        if known.get(who.agent_id, flow.subject) != flow.subject:
            raise problems.oidc_nobody()
        await second_factor.present(
            tx, who.account_id, who.agent_id, key_bytes(settings.master_key), back.second_factor
        )
        if not known:
            await store.bind(tx, who.account_id, who.agent_id, issuer, flow.subject)
            by = By(f"agent:{who.agent_id}", flow.email or "", back.ip, back.user_agent)
            record = Record("oidc.bound", "agent", who.agent_id, None, {"issuer": issuer, "subject": flow.subject})
            await audit.append(tx, who.account_id, by, [record], at=now())
        if flow.email is not None:
            await persons.prove(tx, who.account_id, who.agent_id, flow.email)
        await store.end(tx, mine["state"])
        if back.second_factor is not None:
            await sign_in.forgive_attempts(tx, [limits.subject("code", who.agent_id)])
        return await sessions.begin(tx, settings, who.account_id, who.agent_id, ip=back.ip, user_agent=back.user_agent)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
