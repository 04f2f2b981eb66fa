"""Sign-in at an identity provider: a small real one, over HTTP, that can be made to lie."""

import asyncio
import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import psycopg
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse

from relevo.chassis.testing import unique
from relevo.contracts.base import now
from relevo.identity.domain import oidc as rules
from relevo.identity.domain import totp
from relevo.stack.process import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")
PUBLIC_URL = "https://relevo.example"
CLIENT, SECRET = "relevo", "of the provider: a secret that is long enough"


class Provider:
    """Issues codes for whoever is ``person``, checks what RFC 6749 and 7636 say, and signs with RS256."""

    def __init__(self) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}/realm"
        self.person = {"sub": "s-1", "email": "eva@example.com", "email_verified": True}
        self.lie: dict[str, object] = {}
        self.sign = self.sign_rightly
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.codes: dict[str, dict[str, str]] = {}
        self.down = False
        self.app = FastAPI()
        self.app.get("/realm/.well-known/openid-configuration")(self.discovery)
        self.app.get("/realm/authorize")(self.authorize)
        self.app.get("/realm/keys")(self.keys)
        self.app.post("/realm/token")(self.token)

    async def discovery(self) -> dict[str, object]:
        if self.down:
            raise HTTPException(503)
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }

    async def authorize(self, request: Request) -> RedirectResponse:
        asked = dict(request.query_params)
        assert (asked["client_id"], asked["response_type"], asked["code_challenge_method"]) == (CLIENT, "code", "S256")
        assert "openid" in asked["scope"].split()
        assert asked["redirect_uri"] == f"{PUBLIC_URL}/oidc/callback"
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return RedirectResponse(f"{asked['redirect_uri']}?code={code}&state={asked['state']}")

    async def keys(self) -> dict[str, object]:
        return {"keys": [json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key())) | {"kid": "k1"}]}

    async def token(self, request: Request) -> dict[str, str]:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        given = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        asked = self.codes.pop(form["code"], None)
        challenge = (
            base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        )
        if given != f"{CLIENT}:{SECRET}" or asked is None or asked["code_challenge"] != challenge:
            raise HTTPException(400, "invalid_grant")
        assert form["redirect_uri"] == asked["redirect_uri"]
        moment = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": moment, "exp": moment + 300, "nonce": asked["nonce"]}
        claims |= self.person | self.lie
        return {"access_token": "x", "token_type": "Bearer", "id_token": self.sign(claims)}

    def sign_rightly(self, claims: dict[str, object]) -> str:
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": "k1"})


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    started = threading.Event()

    server = uvicorn.Server(uvicorn.Config(made.app, port=made.port, log_level="error"))
    original = server.startup

    async def startup(*arguments: object, **options: object) -> None:
        await original(*arguments, **options)
        started.set()

    server.startup = startup
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(10)
    yield made
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture(scope="module")
def more_settings(provider):
    return {
        "RELEVO_OIDC_ISSUER": provider.issuer,
        "RELEVO_OIDC_CLIENT_ID": CLIENT,
        "RELEVO_OIDC_CLIENT_SECRET": SECRET,
        "RELEVO_OIDC_NAME": "Acme",
        "RELEVO_PUBLIC_URL": PUBLIC_URL,
    }


@pytest.fixture(autouse=True)
def honest(provider, account):
    """Each test begins with an honest provider, and nothing counted."""
    provider.lie, provider.sign, provider.down = {}, provider.sign_rightly, False
    provider.person = {"sub": unique("sub"), "email": f"{unique('eva')}@example.com", "email_verified": True}
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute("delete from sign_in_attempts")


async def begin(account):
    answer = await account.service.http.post("/oidc/start")
    assert answer.status_code == 201, answer.text
    return answer.json()


async def visit(provider, begun):
    """What the browser brings back from the provider."""
    async with httpx.AsyncClient(trust_env=False) as browser:
        answer = await browser.get(begun["url"])
    back = parse_qs(urlsplit(answer.headers["location"]).query)
    assert back["state"] == [begun["state"]]
    return back["code"][0]


async def complete(account, begun, code=None, **more):
    body = {"state": begun["state"], "flow": begun["flow"], **({"code": code} if code else {}), **more}
    return await account.service.http.post("/oidc/complete", json=body, headers={"Accept-Language": "en"})


async def enter(account, provider, **more):
    """The whole way: the answer."""
    begun = await begin(account)
    return await complete(account, begun, await visit(provider, begun), **more)


async def person(account, provider, **more):
    return await account.new_agent((await account.role("agent"))["id"], email=provider.person["email"], **more)


async def test_who_is_an_agent_here_enters_with_the_providers_word(account, provider):
    offered = (await account.service.http.get("/oidc")).json()
    assert offered == {"enabled": True, "name": "Acme"}
    agent = await person(account, provider)
    provider.person["email"] = provider.person["email"].upper()
    entered = await enter(account, provider)
    assert entered.status_code == 201, entered.text
    me = await account.call("GET", "/me", token=entered.json()["access_token"], expect=200)
    assert me.json()["agent"]["id"] == agent["id"]
    log = (await account.call("GET", f"/audit?entity_id={agent['id']}", expect=200)).json()["items"]
    assert log[0]["action"] == "oidc.bound"
    assert (await enter(account, provider)).status_code == 201


async def test_nobody_enters_who_is_no_agent(account, provider):
    unknown = await enter(account, provider)
    removed = await person(account, provider)
    await account.call("DELETE", f"/agents/{removed['id']}", expect=204)
    gone = await enter(account, provider)
    provider.person["email"] = f"{unique()}@example.com"
    body = {"name": "P", "email": provider.person["email"], "role_id": removed["role_id"], "inbox_ids": None}
    await account.call("POST", "/agents", body, expect=201)
    invited = await enter(account, provider)
    for answer in (unknown, gone, invited):
        assert (answer.status_code, answer.json()["code"]) == (401, "oidc_nobody")


async def test_an_address_that_the_provider_gave_to_somebody_else_does_not_let_them_in(account, provider):
    await person(account, provider)
    assert (await enter(account, provider)).status_code == 201
    provider.person["sub"] = unique("another")
    assert (await enter(account, provider)).json()["code"] == "oidc_nobody"


def other_key(claims):
    return jwt.encode(claims, rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256", {"kid": "k1"})


def unknown_key(claims):
    return jwt.encode(claims, rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256", {"kid": "k9"})


def unsigned(claims):
    return jwt.encode(claims, None, algorithm="none", headers={"kid": "k1"})


def with_the_shared_secret(claims):
    return jwt.encode(claims, SECRET, algorithm="HS256", headers={"kid": "k1"})


@pytest.mark.parametrize(
    "lie",
    [
        {"nonce": "of another sign-in"},
        {"nonce": None},
        {"aud": "another client"},
        {"aud": [CLIENT, "another"]},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"iat": None},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": None},
        {"email": None},
        {"email": "no address"},
        {"sub": ""},
        {"sub": 7},
        other_key,
        unknown_key,
        unsigned,
        with_the_shared_secret,
    ],
    ids=str,
)
async def test_a_word_that_is_not_to_be_trusted_is_refused(account, provider, lie):
    await person(account, provider)
    if callable(lie):
        provider.sign = lie
    else:
        provider.lie = lie
    refused = await enter(account, provider)
    assert (refused.status_code, refused.json()["code"]) == (401, "oidc_refused")


async def test_a_sign_in_is_the_browsers_that_began_it_and_good_once(account, provider):
    await person(account, provider)
    mine, theirs = await begin(account), await begin(account)
    code = await visit(provider, mine)
    # Somebody is made to end a sign-in that another began: their browser has another flow.
    for mixed in (mine | {"flow": theirs["flow"]}, mine | {"flow": ""}, theirs | {"flow": mine["flow"]}):
        refused = await complete(account, mixed, code)
        assert (refused.status_code, refused.json()["code"]) == (410, "oidc_over")
    answers = await asyncio.gather(*(complete(account, mine, code) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [201, 410, 410]
    assert (await complete(account, mine, code)).status_code == 410
    assert (await complete(account, mine)).status_code == 410
    # A code of one sign-in is none of another: the provider wants its verifier.
    code = await visit(provider, await begin(account))
    assert (await complete(account, theirs, code)).json()["code"] == "oidc_refused"
    late = await begin(account)
    code = await visit(provider, late)
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute("update oidc_flows set expires_at = now()")
    assert (await complete(account, late, code)).status_code == 410


async def test_one_address_in_two_accounts_says_which(account, other, provider):
    await person(account, provider)
    theirs = await person(other, provider)
    begun = await begin(account)
    which = await complete(account, begun, await visit(provider, begun))
    assert (which.status_code, which.json()["code"]) == (409, "account_needed")
    assert {one["id"] for one in which.json()["accounts"]} == {account.id, other.id}
    entered = await complete(account, begun, account_id=other.id)
    assert entered.json()["agent"]["id"] == theirs["id"]


async def test_a_second_factor_is_asked_for_here_too(account, provider):
    agent = await person(account, provider)
    token = await account.signed_in(agent["email"])
    body = {"password": account.password}
    secret = (await account.call("POST", "/me/second-factor", body, token=token)).json()["secret"]
    code = totp.code(base64.b32decode(secret), totp.step_of(now()))
    await account.call("POST", "/me/second-factor/confirm", {"code": code}, token=token, expect=200)
    begun = await begin(account)
    asked = await complete(account, begun, await visit(provider, begun))
    assert (asked.status_code, asked.json()["code"]) == (401, "second_factor_needed")
    wrong = await complete(account, begun, second_factor=code)
    assert wrong.json()["code"] == "wrong_code"
    following = totp.code(base64.b32decode(secret), totp.step_of(now()) + 1)
    assert (await complete(account, begun, second_factor=following)).status_code == 201


async def test_a_provider_that_does_not_answer_is_told_apart(account, provider):
    runtime = account.service.runtime
    known = runtime.extra["oidc"]
    runtime.extra["oidc"] = type(known)(known.issuer, CLIENT, SECRET, known.redirect_uri)
    provider.down = True
    try:
        answer = await account.service.http.post("/oidc/start")
        assert (answer.status_code, answer.json()["code"]) == (503, "oidc_unavailable")
        runtime.extra["oidc"] = type(known)(known.issuer + "/", CLIENT, SECRET, known.redirect_uri)
        provider.down = False
        assert (await account.service.http.post("/oidc/start")).status_code == 503  # calls itself otherwise
        runtime.extra["oidc"] = None
        assert (await account.service.http.post("/oidc/start")).json()["code"] == "oidc_off"
        assert (await account.service.http.get("/oidc")).json() == {"enabled": False, "name": None}
    finally:
        runtime.extra["oidc"] = known


async def test_the_challenge_is_that_of_rfc_7636():
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert rules.challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
