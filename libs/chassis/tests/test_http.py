"""The HTTP application over real PostgreSQL: who is let in, what errors look like, what is done once."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Annotated, Literal
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from sqlalchemy import text
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from relevo.chassis import directory, dropping, idempotency, outbox, telemetry, timers
from relevo.chassis.auth import Principal, access_token, hash_key, new_key, require, require_adapter
from relevo.chassis.database import Database, Pool
from relevo.chassis.http import Db, Rt, create_app
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page, decode, encode, page
from relevo.chassis.problems import Problem, unavailable
from relevo.chassis.settings import ServiceSettings
from relevo.contracts.base import new_id, now
from relevo.contracts.identity import (
    PLATFORM,
    AgentState,
    KeyState,
    RoleState,
    SessionRevoked,
    SigningKeyState,
)
from relevo.contracts.permissions import ConversationScope, Permission

pytestmark = pytest.mark.anyio

Reader = Annotated[Principal, Depends(require(Permission.CONTACTS_READ))]


class NewThing(BaseModel):
    name: str = Field(min_length=2, max_length=10)
    size: int = Field(ge=1)
    kind: str = "plain"


class Asked(BaseModel):
    tag: list[str] = []
    until: int | Literal["now"] | None = Field(None, alias="to")


class Thing(BaseModel):
    id: str
    name: str


def routes() -> APIRouter:
    router = APIRouter(tags=["things"])

    @router.get("/me")
    async def who_am_i(who: Annotated[Principal, Depends(require())]) -> dict:
        viewer = who.viewer
        return {
            "actor": who.actor,
            "account": who.account_id,
            "permissions": sorted(viewer.permissions),
            "scope": viewer.scope,
            "teams": sorted(viewer.team_ids),
            "inboxes": None if viewer.inbox_ids is None else sorted(viewer.inbox_ids),
        }

    @router.get("/contacts")
    async def list_contacts(who: Reader) -> list[str]:
        return [who.account_id]

    @router.get("/contacts/found")
    async def find_contacts(_: Reader, asked: Annotated[Asked, Query()], limit: Limit = 50) -> list[str]:
        return [*asked.tag, str(limit)]

    @router.get("/adapter")
    async def adapter_inbox(who: Annotated[Principal, Depends(require_adapter)]) -> str | None:
        return who.inbox_id

    @router.post("/things", status_code=201)
    async def create_thing(body: NewThing, _: Reader, db: Db, once: Idempotency) -> Thing:
        async with db.begin() as tx:
            await once.start(tx)
            id_ = (
                await tx.execute(text("insert into thing (name) values (:name) returning id"), body.model_dump())
            ).scalar()
            if body.kind == "slow":
                await asyncio.sleep(0.2)
            if body.kind == "broken":
                raise unavailable(es="Ahora no.", en="Not now.")
            return await once.finish(tx, Thing(id=str(id_), name=body.name))

    @router.get("/things/{number}")
    async def get_thing(number: int, limit: Limit = 50) -> int:
        return number * limit

    @router.get("/things")
    async def list_things(db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[Thing]:
        after = decode(cursor, int)[0] if cursor else 0
        async with db.begin() as tx:
            rows = await tx.execute(
                text("select id, name from thing where id > :after order by id limit :n"),
                {"after": after, "n": limit + 1},
            )
        return page(rows.all(), limit, lambda r: (r.id,), lambda r: Thing(id=str(r.id), name=r.name))

    @router.get("/boom")
    async def boom(rt: Rt) -> None:
        raise RuntimeError(f"password=hunter2 {rt}")

    return router


@pytest.fixture
def dsn(servers) -> str:
    dsn = servers.create_database()
    with psycopg.connect(dsn) as connection:
        for ddl in (*outbox.DDL_V1, *directory.DDL_V1, *idempotency.DDL_V1, *timers.DDL_V1, *dropping.DDL):
            connection.execute(ddl)
        connection.execute("create table thing (id bigint generated always as identity, name text)")
    return dsn


class World:
    """An application, a client for it, and the hand that identity's events would have."""

    def __init__(self, app, client: httpx.AsyncClient, db: Database) -> None:
        self.app = app
        self.client = client
        self.db = db
        self.account = new_id()
        self.key_id = new_id()
        pair = Ed25519PrivateKey.generate()
        self.private = pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        self.public = pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    async def apply(self, kind, state, sequence=1, *, account=None, id_=None, deleted=False) -> None:
        async with self.db.begin() as tx:
            await directory.apply(tx, kind, account or self.account, id_ or state.id, state, sequence, deleted=deleted)

    async def sign_on(self) -> None:
        await self.apply("signing_key", SigningKeyState(id=self.key_id, public_pem=self.public), account=PLATFORM)

    def role(self, *permissions: Permission, **more) -> RoleState:
        more = {"name": "Custom", "scope": ConversationScope.TEAM} | more
        return RoleState(id=new_id(), account_id=self.account, permissions=frozenset(permissions), **more)

    async def agent(self, *permissions: Permission, **more) -> AgentState:
        role = self.role(*permissions)
        await self.apply("role", role)
        agent = AgentState(
            **(
                {"id": new_id(), "account_id": self.account, "name": "Ana", "email": "a@b.es", "role_id": role.id}
                | more
            )
        )
        await self.apply("agent", agent)
        return agent

    def token(self, agent: AgentState, session="s1", *, private=None, seconds=60, kid=None, account=None) -> str:
        return access_token(
            private or self.private,
            kid or self.key_id,
            agent_id=agent.id,
            account_id=account or agent.account_id,
            session_id=session,
            issued_at=now(),
            expires_at=now() + timedelta(seconds=seconds),
        )

    async def get(self, path: str, credential: str | None = None, **headers: str) -> httpx.Response:
        return await self.client.get(f"/api/v1{path}", headers=self._headers(credential, headers))

    async def post(self, path: str, credential: str | None, json, **headers: str) -> httpx.Response:
        return await self.client.post(f"/api/v1{path}", headers=self._headers(credential, headers), json=json)

    @staticmethod
    def _headers(credential: str | None, headers: dict[str, str]) -> dict[str, str]:
        bearer = {"authorization": f"Bearer {credential}"} if credential else {}
        return bearer | {name.replace("_", "-"): value for name, value in headers.items()}


@asynccontextmanager
async def world(dsn: str) -> AsyncIterator[World]:
    db = Database(Pool(dsn, service="test", size=4, lease_seconds=4), "test")
    app = create_app("test", routes(), ServiceSettings(database_url=dsn, http_max_body_bytes=2048))
    app.state.runtime = SimpleNamespace(database=db, missing=dict)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        try:
            yield World(app, client, db)
        finally:
            await db.close()


async def test_an_agent_is_who_the_token_says_and_may_what_the_directory_says(dsn):
    async with world(dsn) as w:
        await w.sign_on()
        agent = await w.agent(Permission.CONTACTS_READ, team_ids=("t1",), inbox_ids=("i1",))
        answer = await w.get("/me", w.token(agent))
        assert answer.json() == {
            "actor": f"agent:{agent.id}",
            "account": w.account,
            "permissions": ["contacts.read"],
            "scope": "team",
            "teams": ["t1"],
            "inboxes": ["i1"],
        }
        assert (await w.get("/contacts", w.token(agent))).json() == [w.account]

        await w.apply("role", w.role().model_copy(update={"id": agent.role_id}), sequence=2)
        refused = await w.get("/contacts", w.token(agent), accept_language="en-GB,en;q=0.9")
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_missing")
        assert refused.json()["permissions"] == ["contacts.read"]


async def test_every_way_not_to_be_let_in(dsn):
    async with world(dsn) as w:
        await w.sign_on()
        agent = await w.agent(Permission.CONTACTS_READ)
        stranger = (
            Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        )
        unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."
        for credential, code in (
            (None, "missing_credential"),
            ("nonsense", "invalid_token"),
            (unsigned, "invalid_token"),
            (w.token(agent, private=stranger), "invalid_token"),
            (w.token(agent, seconds=-60), "token_expired"),
            ("rk_short_x", "invalid_token"),
        ):
            answer = await w.get("/contacts", credential)
            assert (answer.status_code, answer.json()["code"]) == (401, code), credential
            assert answer.headers["www-authenticate"].startswith("Bearer")
        # An agent of another account with the same id does not exist.
        assert (await w.get("/contacts", w.token(agent, account=new_id()))).status_code == 503

        until = now() + timedelta(hours=1)
        ended = SessionRevoked(session_id="s1", agent_id=agent.id, account_id=w.account, until=until)
        await w.apply("session", ended, id_="s1")
        assert (await w.get("/contacts", w.token(agent))).json()["code"] == "session_ended"
        assert (await w.get("/contacts", w.token(agent, session="s2"))).status_code == 200
        await w.apply("agent", agent, sequence=2, deleted=True)
        assert (await w.get("/contacts", w.token(agent, session="s2"))).json()["code"] == "session_ended"
        await w.apply("agent", agent.model_copy(update={"active": False}), sequence=3)
        assert (await w.get("/contacts", w.token(agent, session="s2"))).json()["code"] == "session_ended"


async def test_what_the_directory_does_not_know_yet_is_waited_for(dsn):
    async with world(dsn) as w:
        role = w.role(Permission.CONTACTS_READ)
        agent = AgentState(id=new_id(), account_id=w.account, name="Ana", email="a@b.es", role_id=role.id)
        asking = asyncio.create_task(w.get("/contacts", w.token(agent)))
        await w.sign_on()
        await w.apply("agent", agent)
        await w.apply("role", role)
        assert (await asking).status_code == 200

        late = await w.get("/contacts", w.token(agent.model_copy(update={"id": new_id()})))
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")
        assert (await w.get("/contacts", w.token(agent, kid=new_id()))).status_code == 401
        old = UUID(int=int((datetime.now(UTC) - timedelta(minutes=2)).timestamp() * 1000) << 80 | 7 << 76 | 2 << 62)
        assert (await w.get("/contacts", f"rk_{old}_{'x' * 43}")).json()["code"] == "invalid_key"
        assert (await w.get("/contacts", f"rk_{uuid4()}_{'x' * 43}")).json()["code"] == "invalid_key"
        made_just_now = await w.get("/contacts", new_key("api").plain)
        assert (made_just_now.status_code, made_just_now.json()["code"]) == (503, "key_not_ready")
        # A key may be told of before whose it is.
        made, owner = new_key("api"), agent.model_copy(update={"id": new_id()})
        allowed = {"permissions": frozenset({Permission.CONTACTS_READ}), "agent_id": owner.id}
        state = KeyState(id=made.id, account_id=w.account, kind="api", name="k", sha256=made.sha256, **allowed)
        await w.apply("key", state)
        nobody_s = await w.get("/contacts", made.plain)
        assert (nobody_s.status_code, nobody_s.json()["code"]) == (503, "key_not_ready")
        await w.apply("agent", owner)
        assert (await w.get("/contacts", made.plain)).status_code == 200
        await w.apply("agent", owner, 2, deleted=True)
        assert (await w.get("/contacts", made.plain)).json()["code"] == "invalid_key"


async def test_the_administrator_holds_permissions_added_later(dsn):
    async with world(dsn) as w:
        await w.sign_on()
        agent = await w.agent(Permission.CONTACTS_READ, inbox_ids=None)
        role = w.role(name="administrator", predefined=True).model_copy(update={"id": agent.role_id})
        await w.apply("role", role, sequence=2)
        answer = (await w.get("/me", w.token(agent))).json()
        assert (answer["permissions"], answer["scope"], answer["inboxes"]) == (sorted(Permission), "all", None)


async def test_keys(dsn):
    async with world(dsn) as w:
        agent = await w.agent(Permission.AUDIT_READ, team_ids=("t1",))

        async def issue(kind="api", sequence=1, deleted=False, **more) -> tuple[str, KeyState]:
            made = new_key(kind)
            state = KeyState(id=made.id, account_id=w.account, kind=kind, name="k", sha256=made.sha256, **more)
            await w.apply("key", state, sequence, deleted=deleted)
            return made.plain, state

        read = frozenset({Permission.CONTACTS_READ})
        plain, state = await issue(permissions=read, scope=ConversationScope.ALL)
        assert hash_key(plain) == state.sha256
        assert (await w.get("/contacts", plain)).status_code == 200
        assert (await w.get("/me", plain)).json()["inboxes"] is None
        wrong = plain[:-1] + ("0" if plain[-1] != "0" else "1")
        assert (await w.get("/contacts", wrong)).json()["code"] == "invalid_key"
        assert (await w.get("/adapter", plain)).json()["code"] == "wrong_credential"
        assert (await w.get("/contacts", "ak" + plain[2:])).status_code == 401

        # An agent's key has the key's permissions, not the agent's, and dies with the agent.
        plain, state = await issue(permissions=read, agent_id=agent.id)
        mine = (await w.get("/me", plain)).json()
        assert (mine["actor"], mine["permissions"], mine["teams"]) == (f"key:{state.id}", ["contacts.read"], ["t1"])
        await w.apply("agent", agent, sequence=2, deleted=True)
        assert (await w.get("/me", plain)).status_code == 401

        expired, _ = await issue(permissions=read, expires_at=now() - timedelta(seconds=1))
        assert (await w.get("/contacts", expired)).status_code == 401
        revoked, _ = await issue(permissions=read, deleted=True)
        assert (await w.get("/contacts", revoked)).status_code == 401

        adapter, _ = await issue("adapter", inbox_id="i9")
        assert (await w.get("/adapter", adapter)).json() == "i9"
        assert (await w.get("/me", adapter)).json()["code"] == "wrong_credential"


async def _user(w: World) -> str:
    await w.sign_on()
    return w.token(await w.agent(Permission.CONTACTS_READ, language="en"))


async def test_errors_are_problems_in_the_language_asked_for(dsn):
    async with world(dsn) as w:
        user = await _user(w)
        bad = {"name": "x", "size": "many", "kind": "plain"}
        spanish = await w.post("/things", user, bad, accept_language="es-ES,en;q=0.5")
        assert spanish.headers["content-type"] == "application/problem+json"
        assert spanish.headers["content-language"] == "es"
        body = spanish.json()
        assert (body["status"], body["code"], body["type"]) == (
            422,
            "validation_failed",
            "urn:relevo:problem:validation_failed",
        )
        assert body["errors"] == [
            {"pointer": "/name", "detail": "Es demasiado corto: al menos 2 caracteres."},
            {"pointer": "/size", "detail": "Debe ser un número entero."},
        ]
        # Nothing asked for: the principal's own language.
        own = await w.get("/contacts", user, x="1")
        assert own.status_code == 200
        english = await w.post("/things", user, {"size": 0}, accept_language="en")
        assert [e["detail"] for e in english.json()["errors"]] == ["This field is missing.", "Must be 1 or more."]
        assert (await w.get("/things/abc")).json()["errors"][0]["pointer"] == "/path/number"
        assert (await w.get("/things/1?limit=201")).json()["errors"][0]["pointer"] == "/query/limit"
        assert (await w.get("/things?cursor=%22%22")).json()["code"] == "invalid_cursor"
        for forged in ("[9223372036854775808]", '["\\u0000"]', '["\\ud800"]', "[" * 1400):
            cursor = base64.urlsafe_b64encode(forged.encode()).decode().rstrip("=")
            assert (await w.get(f"/things?cursor={cursor}")).json()["code"] == "invalid_cursor"
        nul = await w.get("/contacts?x=a%00b", user)
        assert (nul.status_code, nul.json()["errors"][0]["pointer"]) == (422, "/query/x")
        assert (await w.get("/nowhere")).json()["code"] == "not_found"
        wrong_method = await w.client.put("/api/v1/things/1")
        assert (wrong_method.json()["code"], wrong_method.headers["allow"]) == ("method_not_allowed", "GET")
        broken = await w.client.post(
            "/api/v1/things",
            content="{",
            headers={"authorization": f"Bearer {user}", "content-type": "application/json"},
        )
        assert (broken.status_code, broken.json()["code"]) == (400, "malformed_json")


async def test_a_parameter_that_does_not_exist_is_refused_where_people_and_keys_ask(dsn):
    async with world(dsn) as w:
        user = await _user(w)
        found = await w.get("/contacts/found?tag=a&tag=b&limit=7&to=3", user)
        assert (found.status_code, found.json()) == (200, ["a", "b", "7"])
        refused = await w.get("/contacts/found?tags=a&until=3&limit=7&tags=b", user, accept_language="en")
        assert refused.status_code == 422
        assert refused.json()["errors"] == [
            {"pointer": f"/query/{name}", "detail": "There is no such parameter: use limit, tag, to."}
            for name in ("tags", "until")
        ]
        neither = await w.get("/contacts/found?to=soon", user, accept_language="en")
        told = "Must be a whole number. Or: Must be one of: 'now'."
        assert neither.json()["errors"] == [{"pointer": "/query/to", "detail": told}]
        nothing = await w.post("/things?dry_run=1", user, {"name": "xy", "size": 1}, accept_language="es")
        assert nothing.json()["errors"] == [
            {"pointer": "/query/dry_run", "detail": "No existe este parámetro: quítalo."}
        ]
        assert (await w.get("/things/1?utm_source=mail")).status_code == 200, "what the world calls is not narrowed"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_refused(dsn, chunked):
    async with world(dsn) as w:
        user = await _user(w)

        async def chunks():
            for _ in range(5):
                yield b"x" * 1000

        content = chunks() if chunked else b"x" * 5000
        headers = {"authorization": f"Bearer {user}", "content-type": "application/json"}
        answer = await w.client.post("/api/v1/things", content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_the_unexpected_is_a_500_with_an_id_and_without_the_cause(dsn):
    async with world(dsn) as w:
        with capture_logs(processors=[merge_contextvars]) as lines:
            answer = await w.get("/boom", x_request_id="my-request-1", accept_language="en")
        found = {line["event"]: line for line in lines}
        assert found["request_failed"]["correlation"] == "my-request-1"
        assert found["request"]["status"] == 500
        assert (answer.status_code, answer.json()["correlation_id"]) == (500, "my-request-1")
        assert "hunter2" not in answer.text
        assert answer.headers["x-request-id"] == "my-request-1"
        assert answer.headers["x-content-type-options"] == "nosniff"
        dirty = await w.get("/things/2", x_request_id="a b\tc")
        assert dirty.headers["x-request-id"] != "a b\tc"


async def test_a_database_that_is_away_is_no_bug(dsn):
    async with world("postgresql://nobody:x@127.0.0.1:1/none") as w:
        answer = await w.get("/things", accept_language="en")
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "not_ready", "1")


async def test_the_same_request_twice_is_done_once(dsn):
    async with world(dsn) as w:
        user = await _user(w)
        body = {"name": "one", "size": 1, "kind": "slow"}
        first, second = await asyncio.gather(*(w.post("/things", user, body, idempotency_key="k1") for _ in range(2)))
        assert first.status_code == second.status_code == 201
        assert first.json() == second.json()
        assert sorted(r.headers.get("idempotency-replayed", "") for r in (first, second)) == ["", "true"]

        other = await w.post("/things", user, body | {"name": "two"}, idempotency_key="k1")
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        # Another agent's key of the same name is another key.
        colleague = w.token(await w.agent(Permission.CONTACTS_READ))
        assert (await w.post("/things", colleague, body, idempotency_key="k1")).json() != first.json()
        # What failed was not done: it may be tried again.
        failing = {"name": "three", "size": 1, "kind": "broken"}
        assert (await w.post("/things", user, failing, idempotency_key="k2")).status_code == 503
        assert (await w.post("/things", user, failing, idempotency_key="k2")).status_code == 503
        async with w.db.begin() as tx:
            assert (await tx.execute(text("select count(*) from thing"))).scalar() == 2
            await tx.execute(text("update idempotency set created_at = now() - interval '25 hours'"))
        late = await w.post("/things", user, body, idempotency_key="k1")
        assert (late.status_code, late.json() == first.json()) == (201, False)


async def test_pages_neither_miss_nor_repeat(dsn):
    async with world(dsn) as w:
        async with w.db.begin() as tx:
            await tx.execute(text("insert into thing (name) select 'n' || n from generate_series(1, 5) n"))
        seen, cursor = [], ""
        while cursor is not None:
            found = (await w.get(f"/things?limit=2{cursor and '&cursor=' + cursor}")).json()
            seen += [item["name"] for item in found["items"]]
            cursor = found["next"]
        assert seen == ["n1", "n2", "n3", "n4", "n5"]


async def test_probes_and_metrics(dsn):
    async with world(dsn) as w:
        assert (await w.client.get("/livez")).json() == {"service": "test", "status": "alive"}
        assert (await w.client.get("/readyz")).status_code == 200
        await w.get("/things/7")
        labels = {"service": "test", "method": "GET", "route": "/api/v1/things/{number}", "status": "200"}
        assert telemetry.REGISTRY.get_sample_value("relevo_http_requests_total", labels) >= 1
        scraped = (await w.client.get("/metrics")).text
        assert 'route="/api/v1/things/{number}"' in scraped
        assert "things/7" not in scraped
        w.app.state.runtime.missing = lambda: {"bus": "not connected"}
        gone = await w.client.get("/readyz")
        assert (gone.status_code, gone.json()["missing"]) == (503, {"bus": "not connected"})


async def test_readiness_names_a_database_that_is_away(dsn):
    nobody = "postgresql://nobody:x@127.0.0.1:1/none"
    async with world(nobody) as w:
        missing = (await w.client.get("/readyz")).json()["missing"]
        assert "nobody" not in missing["database"]
        assert missing["database"].startswith("not reachable")


async def test_the_openapi_document_names_permissions_and_problems(dsn):
    async with world(dsn) as w:
        document = w.app.openapi()
        listing = document["paths"]["/api/v1/contacts"]["get"]
        assert (listing["operationId"], listing["x-permission"]) == ("list_contacts", ["contacts.read"])
        assert document["paths"]["/api/v1/me"]["get"]["x-permission"] == []
        assert document["paths"]["/api/v1/adapter"]["get"]["x-permission"] == ["adapter"]
        assert "x-permission" not in document["paths"]["/api/v1/things"]["get"]
        assert "application/problem+json" in listing["responses"]["default"]["content"]
        assert {"ProblemBody", "FieldProblem"} <= set(document["components"]["schemas"])
        assert "HTTPValidationError" not in str(document)
        assert (await w.client.get("/openapi.json")).status_code == 404


async def test_two_endpoints_of_one_name_are_refused(dsn):
    router = routes()

    @router.get("/other")
    async def get_thing() -> None: ...

    with pytest.raises(ValueError, match="get_thing"):
        create_app("test", router, ServiceSettings(database_url=dsn))


def test_a_cursor_holds_ids_and_moments_as_such() -> None:
    id_, at = new_id(), datetime(2026, 11, 22, 20, tzinfo=UTC)
    assert decode(encode(at.isoformat(), id_, 3), datetime, UUID, int) == (at, id_, 3)
    assert decode(encode("2026-11-22T21:00:00+01:00"), datetime)[0].isoformat() == at.isoformat()
    forged: list[tuple[str | int, type]] = [
        ("x", UUID),
        (7, UUID),
        ("x", datetime),
        ("0001-01-01T00:00:00+14:00", datetime),
    ]
    for part, kind in forged:
        with pytest.raises(Problem, match="invalid_cursor"):
            decode(encode(part), kind)
