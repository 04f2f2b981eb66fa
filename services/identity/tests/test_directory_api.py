"""Accounts, agents, teams, roles, keys and the audit log through the API, on real PostgreSQL and NATS."""

import asyncio
import json
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import text

from relevo.chassis.auth import Principal
from relevo.chassis.problems import Problem
from relevo.chassis.testing import unique
from relevo.contracts.base import new_id
from relevo.contracts.ingest import InboxChanged, InboxState
from relevo.contracts.permissions import ROLES, ConversationScope, Permission
from relevo.identity import administration
from relevo.identity.store.audit import By
from relevo.kernel.access import Viewer
from relevo.kernel.names import folded_name, name_rank

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def events(account, name=None):
    """The published events of this account, in order: (type, sequence, body)."""
    await account.service.settle()
    found = []
    for _, headers, body in await account.service.admin.stored("EVT_IDENTITY"):
        if headers["relevo-account"] == account.id and (name is None or headers["ce-type"].endswith(f".{name}.v1")):
            found.append((headers["ce-type"], int(headers["relevo-sequence"]), json.loads(body)))
    return found


def of(found, kind, entity):
    return [(sequence, body) for _, sequence, body in found if body.get(kind, {}).get("id") == entity]


async def test_setup_makes_an_account_with_its_roles_and_an_administrator_who_can_do_everything(account):
    me = (await account.call("GET", "/me", expect=200)).json()
    assert (me["kind"], me["account"]["id"], me["scope"]) == ("key", account.id, "all")
    assert set(me["permissions"]) == set(Permission)
    roles = (await account.call("GET", "/roles", expect=200)).json()["items"]
    assert [role["name"] for role in roles] == list(ROLES)
    for role in roles:
        assert set(role["permissions"]) == set(ROLES[role["name"]].permissions)
        assert role["predefined"]
    signed_in = (await account.sign_in(account.admin_email)).json()
    assert signed_in["agent"]["id"] == account.admin_id
    mine = (await account.call("GET", "/me", token=signed_in["access_token"], expect=200)).json()
    assert (mine["kind"], mine["role"], mine["agent"]["email"]) == ("agent", "administrator", account.admin_email)
    found = await events(account)
    assert [kind.split(".")[2] for kind, _, _ in found if "role" not in kind] == [
        "account_changed",
        "agent_changed",
        "key_changed",
    ]
    assert {sequence for _, sequence, _ in found} == {1}


async def test_setup_happens_once_and_only_with_the_token(identity, account):
    body = {
        "account_name": "Other " + unique(),
        "admin": {"name": "R", "email": account.admin_email, "password": account.password},
    }
    again = await identity.http.post("/setup", json=body, headers={"Authorization": f"Bearer {account.setup_token}"})
    assert (again.status_code, again.json()["code"]) == (409, "already_set_up")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {account.setup_token}x"}):
        refused = await identity.http.post("/setup", json=body, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "wrong_setup_token")
    with_account_token = await identity.http.post("/setup", json=body, headers=account.headers())
    assert with_account_token.status_code == 401


async def test_the_account_is_edited_and_bad_values_are_named(account):
    edited = (
        await account.call("PATCH", "/account", {"name": "New name", "time_zone": "America/Bogota"}, expect=200)
    ).json()
    assert (edited["name"], edited["time_zone"], edited["language"]) == ("New name", "America/Bogota", "en")
    assert (await account.call("GET", "/account")).json() == edited
    bad = await account.call("PATCH", "/account", {"time_zone": "Mars/Olympus"}, expect=422)
    assert bad.json()["errors"] == [
        {"pointer": "/time_zone", "detail": "Not an IANA time zone, such as Europe/Madrid."}
    ]


async def test_an_agent_is_made_edited_and_removed_with_an_event_each_time(account):
    role = await account.role("agent")
    team = (await account.call("POST", "/teams", {"name": unique("team")}, expect=201)).json()
    agent = await account.new_agent(role["id"], name="  Ana ", email="ANA@Example.COM", team_ids=[team["id"]])
    assert (agent["name"], agent["email"], agent["team_ids"], agent["inbox_ids"]) == (
        "Ana",
        "ana@example.com",
        [team["id"]],
        None,
    )
    read = await account.call("GET", f"/agents/{agent['id']}", expect=200)
    assert read.json() == agent
    edited = await account.call(
        "PATCH", f"/agents/{agent['id']}", {"name": "Ana P.", "team_ids": []}, If_Match=read.headers["etag"], expect=200
    )
    assert (edited.json()["name"], edited.json()["team_ids"]) == ("Ana P.", [])
    await account.call("DELETE", f"/agents/{agent['id']}", expect=204)
    await account.call("GET", f"/agents/{agent['id']}", expect=404)
    found = await events(account)
    changes = of(found, "agent", agent["id"])
    assert [(sequence, body["agent"]["name"], body["deleted"]) for sequence, body in changes] == [
        (1, "Ana", False),
        (2, "Ana P.", False),
        (3, "Ana P.", True),
    ]
    members = [(sequence, body["team"]["member_ids"]) for sequence, body in of(found, "team", team["id"])]
    assert members == [(1, []), (2, [agent["id"]]), (3, [])]


async def test_an_edit_names_the_version_it_edits(account):
    role = await account.role("agent")
    for path, made in (
        ("agents", await account.new_agent(role["id"])),
        ("roles", await account.new_role(["contacts.read"])),
        ("teams", (await account.call("POST", "/teams", {"name": unique()}, expect=201)).json()),
    ):
        url = f"/{path}/{made['id']}"
        without = await account.call("PATCH", url, {"name": "A"})
        assert (without.status_code, without.json()["code"]) == (428, "if_match_missing")
        first = (await account.call("GET", url)).headers["etag"]
        second = (await account.call("PATCH", url, {"name": unique("B")}, If_Match=first, expect=200)).headers["etag"]
        assert first != second
        stale = await account.call("PATCH", url, {"name": "C"}, If_Match=first)
        assert (stale.status_code, stale.headers["etag"]) == (412, second)
        assert stale.json()["present"]["name"].startswith("B")
        await account.call("PATCH", url, {"name": unique("D")}, If_Match=f"W/{second}", expect=200)


async def test_an_edit_that_changes_nothing_is_no_event(account):
    agent = await account.new_agent((await account.role("agent"))["id"])
    same = await account.call("PATCH", f"/agents/{agent['id']}", {"name": agent["name"]}, If_Match="*", expect=200)
    assert same.headers["etag"] == '"1"'
    assert [sequence for sequence, _ in of(await events(account), "agent", agent["id"])] == [1]


async def test_names_and_addresses_are_taken_once_in_an_account(account, other):
    role = await account.role("agent")
    agent = await account.new_agent(role["id"])
    twice = await account.call(
        "POST",
        "/agents",
        {"name": "B", "email": agent["email"].upper(), "role_id": role["id"], "inbox_ids": None},
        expect=409,
    )
    assert (twice.json()["code"], twice.json()["errors"][0]["pointer"]) == ("email_taken", "/email")
    await account.call("POST", "/teams", {"name": "Ventas"}, expect=201)
    assert (await account.call("POST", "/teams", {"name": "VENTAS"}, expect=409)).json()["code"] == "name_taken"
    assert (await account.call("POST", "/roles", {"name": "Administrator"}, expect=409)).json()["code"] == "name_taken"
    # A removed agent's address is free again, and another account's never was taken.
    await account.call("DELETE", f"/agents/{agent['id']}", expect=204)
    await account.new_agent(role["id"], email=agent["email"])
    await other.new_agent((await other.role("agent"))["id"], email=agent["email"])


async def test_two_who_take_one_name_at_once_get_one_team(account):
    body = {"name": unique("both")}
    answers = await asyncio.gather(*(account.call("POST", "/teams", body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_tenants_are_apart(account, other):
    their_role = await other.new_role(["contacts.read"])
    their_agent = await other.new_agent(their_role["id"])
    their_team = (await other.call("POST", "/teams", {"name": unique()}, expect=201)).json()
    their_key = (await other.call("POST", "/api-keys", {"name": "k", "permissions": []}, expect=201)).json()
    for path, made in (("agents", their_agent), ("roles", their_role), ("teams", their_team)):
        await account.call("GET", f"/{path}/{made['id']}", expect=404)
        await account.call("PATCH", f"/{path}/{made['id']}", {"name": "Mine"}, If_Match="*", expect=404)
        await account.call("DELETE", f"/{path}/{made['id']}", expect=404)
        listed = (await account.call("GET", f"/{path}?limit=200")).json()["items"]
        assert made["id"] not in {item["id"] for item in listed}
    await account.call("DELETE", f"/api-keys/{their_key['id']}", expect=404)
    mine = await account.role("agent")
    person = {"name": "A", "email": f"{unique()}@example.com", "role_id": mine["id"], "inbox_ids": None}
    assert (await account.call("POST", "/agents", person | {"role_id": their_role["id"]}, expect=422)).json()[
        "code"
    ] == "role_unknown"
    assert (await account.call("POST", "/agents", person | {"team_ids": [their_team["id"]]}, expect=422)).json()[
        "code"
    ] == "team_unknown"
    members = {"name": unique(), "member_ids": [their_agent["id"]]}
    assert (await account.call("POST", "/teams", members, expect=422)).json()["code"] == "agent_unknown"
    log = (await account.call("GET", "/audit?limit=200")).json()["items"]
    assert their_agent["id"] not in {item["entity_id"] for item in log}


async def test_inboxes_of_agents_are_the_accounts_own(identity, account):
    role = await account.role("agent")
    mine, theirs = new_id(), new_id()
    for inbox, owner in ((mine, account.id), (theirs, new_id())):
        state = InboxState(id=inbox, account_id=owner, name="In", channel="webchat")
        await identity.admin.publish(InboxChanged(inbox=state), account=owner, entity=inbox, sequence=1)
    await identity.settle()
    assert (await account.new_agent(role["id"], inbox_ids=[mine]))["inbox_ids"] == [mine]
    body = {"name": "B", "email": f"{unique()}@example.com", "role_id": role["id"], "inbox_ids": [theirs]}
    assert (await account.call("POST", "/agents", body, expect=422)).json()["code"] == "inbox_unknown"


async def manager(account, permissions, scope="all", **more):
    """Somebody with exactly these permissions: the agent, and a token of theirs."""
    role = await account.new_role(permissions, scope)
    agent = await account.new_agent(role["id"], **more)
    return agent, await account.signed_in(agent["email"])


async def test_nobody_grants_what_they_do_not_hold(account):
    _, token = await manager(account, ["agents.manage", "roles.manage", "keys.manage", "contacts.read"], "team")
    admin, auditor = await account.role("administrator"), await account.role("auditor")
    person = {"name": "X", "email": f"{unique()}@example.com", "inbox_ids": None}
    for role in (admin, auditor):
        refused = await account.call("POST", "/agents", person | {"role_id": role["id"]}, token=token, expect=403)
        assert refused.json()["code"] == "not_held"
    within = {"name": unique(), "permissions": ["contacts.read"], "scope": "team"}
    for beyond in ({"permissions": ["contacts.read", "audit.read"]}, {"scope": "all"}):
        refused = await account.call("POST", "/roles", within | beyond, token=token, expect=403)
        assert refused.json()["code"] == "not_held"
        refused = await account.call("POST", "/api-keys", within | beyond, token=token, expect=403)
        assert refused.json()["code"] == "not_held"
    await account.call("POST", "/roles", within, token=token, expect=201)
    await account.call("POST", "/api-keys", within, token=token, expect=201)
    for call in (
        ("POST", "/adapter-credentials", {"inbox_id": new_id(), "name": "a"}),
        ("POST", "/bots", {"inbox_id": new_id(), "name": "b"}),
        ("POST", "/metrics-credentials", {"name": "m"}),
    ):
        assert (await account.call(*call, token=token, expect=403)).json()["code"] == "not_held"


async def test_nobody_raises_themselves_or_touches_who_holds_more(account):
    me, token = await manager(account, ["agents.manage", "roles.manage", "teams.manage"], "team")
    admin_role = await account.role("administrator")
    for agent in (me["id"], account.admin_id):
        refused = await account.call(
            "PATCH", f"/agents/{agent}", {"role_id": admin_role["id"]}, token=token, If_Match="*", expect=403
        )
        assert refused.json()["code"] in {"not_held", "outranked"}
    # Taking over the administrator by their address is the same as raising oneself.
    takeover = {"email": f"{unique()}@example.com"}
    assert (
        await account.call("PATCH", f"/agents/{account.admin_id}", takeover, token=token, If_Match="*", expect=403)
    ).json()["code"] == "outranked"
    assert (await account.call("DELETE", f"/agents/{account.admin_id}", token=token, expect=403)).json()[
        "code"
    ] == "outranked"
    supervisor = await account.role("supervisor")
    lower = await account.call(
        "PATCH", f"/roles/{supervisor['id']}", {"permissions": []}, token=token, If_Match="*", expect=403
    )
    assert lower.json()["code"] == "outranked"
    team = (await account.call("POST", "/teams", {"name": unique()}, expect=201)).json()
    for method, path, body in (
        ("PATCH", f"/teams/{team['id']}", {"member_ids": [me["id"]]}),
        ("PATCH", f"/agents/{me['id']}", {"team_ids": [team["id"]]}),
    ):
        assert (await account.call(method, path, body, token=token, If_Match="*", expect=403)).json()[
            "code"
        ] == "not_held"


async def test_the_last_administrator_stays(account):
    agent_role, admin_role = await account.role("agent"), await account.role("administrator")
    me = f"/agents/{account.admin_id}"
    assert (await account.call("DELETE", me, expect=409)).json()["code"] == "last_administrator"
    demote = {"role_id": agent_role["id"]}
    assert (await account.call("PATCH", me, demote, If_Match="*", expect=409)).json()["code"] == "last_administrator"
    second = await account.new_agent(admin_role["id"])
    # Two administrators who remove each other at once: one stays.
    tokens = [await account.signed_in(second["email"]), await account.signed_in(account.admin_email)]
    answers = await asyncio.gather(
        account.call("DELETE", me, token=tokens[0]),
        account.call("DELETE", f"/agents/{second['id']}", token=tokens[1]),
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses in ([204, 401], [204, 409])
    async with account.service.runtime.database.begin(account.id) as tx:
        left = await tx.execute(
            text("select count(*) from agents where account_id = :a and role_id = :r and deleted_at is null"),
            {"a": account.id, "r": admin_role["id"]},
        )
        assert left.scalar_one() == 1


async def test_the_administrators_role_cannot_be_edited_and_predefined_ones_not_removed(account):
    admin, marketing = await account.role("administrator"), await account.role("marketing")
    for body in ({"permissions": []}, {"name": "Boss"}, {"scope": "none"}):
        refused = await account.call("PATCH", f"/roles/{admin['id']}", body, If_Match="*", expect=409)
        assert refused.json()["code"] == "role_not_editable"
    for role in (admin, marketing):
        assert (await account.call("DELETE", f"/roles/{role['id']}", expect=409)).json()["code"] == "role_not_editable"
    switched = {"permissions": [*marketing["permissions"], "contact_owner.set"]}
    edited = await account.call("PATCH", f"/roles/{marketing['id']}", switched, If_Match="*", expect=200)
    assert "contact_owner.set" in edited.json()["permissions"]


async def test_a_role_in_use_stays_and_an_unused_one_goes(account):
    role = await account.new_role(["contacts.read"])
    agent = await account.new_agent(role["id"])
    assert (await account.call("DELETE", f"/roles/{role['id']}", expect=409)).json()["code"] == "role_in_use"
    await account.call("DELETE", f"/agents/{agent['id']}", expect=204)
    await account.call("DELETE", f"/roles/{role['id']}", expect=204)
    assert [(s, b["deleted"]) for s, b in of(await events(account), "role", role["id"])] == [(1, False), (2, True)]


async def test_a_team_is_edited_and_its_members_hear_of_it(account):
    role = await account.role("agent")
    ana, bea = await account.new_agent(role["id"]), await account.new_agent(role["id"])
    team = (await account.call("POST", "/teams", {"name": unique(), "member_ids": [ana["id"]]}, expect=201)).json()
    await account.call(
        "PATCH", f"/teams/{team['id']}", {"member_ids": [bea["id"]], "auto_assign": False}, If_Match="*", expect=200
    )
    await account.call("DELETE", f"/teams/{team['id']}", expect=204)
    found = await events(account)
    assert [b["agent"]["team_ids"] for _, b in of(found, "agent", ana["id"])] == [[], [team["id"]], []]
    assert [b["agent"]["team_ids"] for _, b in of(found, "agent", bea["id"])] == [[], [team["id"]], []]
    assert [(b["team"]["member_ids"], b["deleted"]) for _, b in of(found, "team", team["id"])] == [
        ([ana["id"]], False),
        ([bea["id"]], False),
        ([], True),
    ]


async def test_every_endpoint_asks_for_its_permission(account):
    _, token = await manager(account, ["directory.read"], "none")
    anything = new_id()
    refused = [
        ("PATCH", "/account", {}),
        ("POST", "/teams", {"name": "x"}),
        ("DELETE", f"/teams/{anything}", None),
        ("PATCH", f"/teams/{anything}", {}),
        ("DELETE", f"/agents/{anything}", None),
        ("PATCH", f"/agents/{anything}", {}),
        ("POST", "/agents", {"name": "x", "email": "x@example.com", "role_id": anything, "inbox_ids": None}),
        ("POST", "/roles", {"name": "x"}),
        ("PATCH", f"/roles/{anything}", {}),
        ("DELETE", f"/roles/{anything}", None),
        ("GET", "/api-keys", None),
        ("POST", "/api-keys", {"name": "x", "permissions": []}),
        ("DELETE", f"/api-keys/{anything}", None),
        ("GET", "/adapter-credentials", None),
        ("POST", "/adapter-credentials", {"name": "x", "inbox_id": anything}),
        ("DELETE", f"/adapter-credentials/{anything}", None),
        ("GET", "/bots", None),
        ("POST", "/bots", {"name": "x", "inbox_id": anything}),
        ("DELETE", f"/bots/{anything}", None),
        ("GET", "/metrics-credentials", None),
        ("POST", "/metrics-credentials", {"name": "x"}),
        ("DELETE", f"/metrics-credentials/{anything}", None),
        ("GET", "/audit", None),
    ]
    for method, path, body in refused:
        answer = await account.call(method, path, body, token=token)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_missing"), (method, path, answer.text)
    for path in ("/agents", "/teams", "/roles", "/account", "/me"):
        await account.call("GET", path, token=token, expect=200)
    others = (await account.call("GET", "/agents", token=token)).json()["items"]
    assert [agent["email"] for agent in others if agent["id"] == account.admin_id] == [None]
    unknown = await account.service.http.get("/agents")
    assert unknown.status_code == 401


async def test_keys_act_within_what_they_were_given_and_end_when_revoked(account):
    body = {"name": "crm", "permissions": ["directory.read"], "scope": "none"}
    made = (await account.call("POST", "/api-keys", body, expect=201)).json()
    assert made["key"].startswith(f"rk_{made['id']}_")
    listed = (await account.call("GET", "/api-keys")).json()["items"]
    assert made["id"] in {key["id"] for key in listed}
    assert all("key" not in key for key in listed)
    await account.call("GET", "/teams", token=made["key"], expect=200)
    await account.call("POST", "/teams", {"name": "x"}, token=made["key"], expect=403)
    await account.call("DELETE", f"/api-keys/{made['id']}", expect=204)
    await account.call("GET", "/teams", token=made["key"], expect=401)
    found = of(await events(account), "key", made["id"])
    assert [(s, b["deleted"]) for s, b in found] == [(1, False), (2, True)]
    assert made["key"] not in json.dumps([b for _, b in found])
    past = await account.call("POST", "/api-keys", body | {"expires_at": "2020-01-01T00:00:00Z"}, expect=422)
    assert past.json()["code"] == "expired_already"


async def test_a_key_shrinks_with_its_agents_role(account):
    agent, token = await manager(account, ["keys.manage", "contacts.read", "contacts.export"], "team")
    body = {"name": "k", "permissions": ["contacts.read", "contacts.export"], "scope": "team"}
    key = (await account.call("POST", "/api-keys", body, token=token, expect=201)).json()
    held = (await account.call("GET", f"/roles/{agent['role_id']}")).headers["etag"]
    less = {"permissions": ["keys.manage", "contacts.read"]}
    await account.call("PATCH", f"/roles/{agent['role_id']}", less, If_Match=held, expect=200)
    me = (await account.call("GET", "/me", token=key["key"], expect=200)).json()
    assert (me["permissions"], me["scope"]) == (["contacts.read"], "team")
    marketing = await account.new_role([], "none")
    await account.call("PATCH", f"/agents/{agent['id']}", {"role_id": marketing["id"]}, If_Match="*", expect=200)
    me = (await account.call("GET", "/me", token=key["key"], expect=200)).json()
    assert (me["permissions"], me["scope"]) == ([], "none")


async def test_a_removed_agents_sessions_and_keys_die_at_once(account):
    admin_role = await account.role("administrator")
    agent = await account.new_agent(admin_role["id"])
    signed_in = (await account.sign_in(agent["email"])).json()
    key = (
        await account.call(
            "POST", "/api-keys", {"name": "k", "permissions": []}, token=signed_in["access_token"], expect=201
        )
    ).json()
    await account.call("DELETE", f"/agents/{agent['id']}", expect=204)
    await account.call("GET", "/me", token=signed_in["access_token"], expect=401)
    await account.call("GET", "/me", token=key["key"], expect=401)
    refresh = await account.service.http.post("/sessions/refresh", json={"refresh_token": signed_in["refresh_token"]})
    assert refresh.status_code == 401
    assert (await account.sign_in(agent["email"])).status_code == 401
    found = await events(account)
    assert of(found, "key", key["id"])[-1][1]["deleted"]
    revoked = [body for kind, _, body in found if kind.endswith("session_revoked.v1")]
    assert [body["agent_id"] for body in revoked] == [agent["id"]]


async def test_a_retried_post_is_done_once(account):
    body, key = {"name": unique()}, unique("key")
    first = await account.call("POST", "/teams", body, Idempotency_Key=key, expect=201)
    again = await account.call("POST", "/teams", body, Idempotency_Key=key, expect=201)
    assert first.json() == again.json()


async def test_lists_are_paged_without_gap_or_repetition(account):
    made = [(await account.call("POST", "/teams", {"name": unique()}, expect=201)).json()["id"] for _ in range(5)]
    seen, cursor = [], ""
    while True:
        page = (await account.call("GET", f"/teams?limit=2{cursor}", expect=200)).json()
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == sorted(made)
    await account.call("GET", "/teams?cursor=rubbish", expect=422)


async def test_agents_are_found_by_a_part_of_their_name_whatever_its_accents_and_case(account):
    role = (await account.role("agent"))["id"]
    names = ["José Ángel Núñez", "nuñez, MARÍA", "Marta Ibáñez", "Ana-María Müller", "ÁNGELA Ruiz", "Ünal", "100% Ana_"]
    names += [f"Ana {n:02}" for n in range(7)]
    for name in names:
        await account.new_agent(role, name=name, initial_password=None)

    async def found(q, limit=4):
        seen, cursor = [], {}
        while True:
            page = (
                await account.service.http.get(
                    "/agents", params={"q": q, "limit": limit} | cursor, headers=account.headers()
                )
            ).json()
            seen += [item["name"] for item in page["items"]]
            if page["next"] is None:
                return seen
            cursor = {"cursor": page["next"]}

    assert await found("nunez") == ["nuñez, MARÍA", "José Ángel Núñez"]
    assert await found("NÚÑEZ") == await found("nunez"), "ñ and n find each other"
    assert await found("ángel") == ["ÁNGELA Ruiz", "José Ángel Núñez"]
    assert await found("%") == ["100% Ana_"], "no wildcard"
    assert await found("ría") == ["Ana-María Müller", "nuñez, MARÍA"]
    assert await found("nadie") == []
    for q in ("a", "an", "AN", "u", "z", "é", " ana "):
        ranked = [(name_rank(name, folded_name(q)), folded_name(name), name) for name in [*names, "Root"]]
        assert await found(q, 2) == [name for rank, _, name in sorted(r for r in ranked if r[0])], q
    await account.call("GET", "/agents?q=a&cursor=rubbish", expect=422)


async def test_the_audit_log_tells_who_did_what_to_what_and_holds_no_secret(account):
    agent, token = await manager(account, ["teams.manage", "directory.read"], "all")
    team = (await account.call("POST", "/teams", {"name": "Before"}, token=token, expect=201)).json()
    await account.call("PATCH", f"/teams/{team['id']}", {"name": "After"}, token=token, If_Match="*", expect=200)
    await account.call("DELETE", f"/teams/{team['id']}", token=token, expect=204)
    log = (await account.call("GET", f"/audit?entity_id={team['id']}", expect=200)).json()["items"]
    assert [(r["action"], r["actor"], r["actor_name"]) for r in log] == [
        (action, f"agent:{agent['id']}", "Ana") for action in ("team.removed", "team.updated", "team.created")
    ]
    assert (log[1]["before"]["name"], log[1]["after"]["name"]) == ("Before", "After")
    assert (log[0]["after"], log[2]["before"]) == (None, None)
    key = (await account.call("POST", "/api-keys", {"name": "k", "permissions": []}, expect=201)).json()
    whole = (await account.call("GET", "/audit?limit=200")).text
    assert key["id"] in whole
    for secret in (key["key"], account.password, "sha256", "argon2"):
        assert secret not in whole
    first = (await account.call("GET", "/audit?limit=1")).json()
    second = (await account.call("GET", f"/audit?limit=1&cursor={first['next']}")).json()
    assert first["items"][0]["id"] != second["items"][0]["id"]


async def test_the_audit_log_cannot_be_changed_even_by_the_service(account):
    for statement in ("update audit_log set actor = 'x'", "delete from audit_log", "truncate audit_log"):
        with psycopg.connect(account.service.dsn) as connection, pytest.raises(psycopg.errors.RaiseException):
            connection.execute(statement)


async def test_what_somebody_holds_is_looked_at_again_under_the_accounts_lock(account):
    role = await account.new_role(["contacts.read"], "own")
    agent = await account.new_agent(role["id"])
    everything = Viewer(account.id, agent["id"], frozenset(Permission), ConversationScope.ALL, frozenset({"t"}), None)
    stale = Principal(account.id, "agent", agent["id"], "Ana", "en", everything, session_id="s")
    database = account.service.runtime.database
    async with database.begin(account.id) as tx:
        act = await administration.begin(tx, stale, By(stale.actor, "Ana"), access_token=timedelta(minutes=15))
        assert (act.holder.permissions, act.holder.scope) == ({Permission.CONTACTS_READ}, ConversationScope.OWN)
        assert act.holder.team_ids == frozenset()
    await account.call("DELETE", f"/agents/{agent['id']}", expect=204)
    async with database.begin(account.id) as tx:
        with pytest.raises(Problem, match="401"):
            await administration.begin(tx, stale, By(stale.actor, "Ana"), access_token=timedelta(minutes=15))
