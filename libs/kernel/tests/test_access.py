from dataclasses import asdict, replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import ARRAY, Integer, Text, Uuid, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import JSONB

from relevo.contracts.permissions import ROLES, ConversationScope, Permission
from relevo.kernel.access import ConversationColumns, ConversationFacts, Viewer, may, may_see, visible


def _id(number: int) -> str:
    return str(UUID(int=number))


ACCOUNTS, AGENTS, TEAMS, INBOXES = (
    [_id(base + n) for n in range(size)] for base, size in ((10, 2), (20, 3), (30, 3), (40, 3))
)
some = st.sampled_from

facts = st.builds(
    ConversationFacts,
    account_id=some(ACCOUNTS),
    inbox_id=some(INBOXES),
    team_id=st.none() | some(TEAMS),
    assignee_id=st.none() | some(AGENTS),
    participant_ids=st.frozensets(some(AGENTS)),
    owner_id=st.none() | some(AGENTS + TEAMS),
)
viewers = st.builds(
    Viewer,
    account_id=some(ACCOUNTS),
    agent_id=st.none() | some(AGENTS),
    permissions=st.frozensets(some([Permission.CONVERSATIONS_READ, Permission.CONVERSATIONS_REPLY])),
    scope=some(list(ConversationScope)),
    team_ids=st.frozensets(some(TEAMS)),
    inbox_ids=st.none() | st.frozensets(some(INBOXES)),
)


@pytest.mark.parametrize("kind", [Text(), Uuid()], ids=["text", "uuid"])
@settings(deadline=None, max_examples=150)
@given(viewer=viewers, conversations=st.lists(facts, min_size=1, max_size=12))
def test_a_list_in_sql_is_every_conversation_that_may_be_seen(database, kind, viewer, conversations):
    rows = [
        asdict(item) | {"participant_ids": sorted(item.participant_ids), "row": row}
        for row, item in enumerate(conversations)
    ]
    names = ("account_id", "inbox_id", "team_id", "assignee_id", "owner_id")
    table = (
        func.jsonb_to_recordset(bindparam(None, rows, type_=JSONB))
        .table_valued(
            column("row", Integer),
            column("participant_ids", ARRAY(kind)),
            *(column(name, kind) for name in names),
        )
        .render_derived(name="conversation", with_types=True)
    )
    seen = database.scalars(select(table.c.row).where(visible(viewer, ConversationColumns.of(table.c)))).all()
    assert sorted(seen) == [row for row, item in enumerate(conversations) if may_see(viewer, item)]


@given(viewer=viewers, conversation=facts)
def test_each_scope_reaches_what_the_narrower_ones_reach(viewer, conversation):
    seen = [may_see(replace(viewer, scope=scope), conversation) for scope in ConversationScope]
    assert seen == sorted(seen, reverse=True)


@given(viewer=viewers, conversation=facts)
def test_nothing_is_seen_across_accounts_or_without_the_permission_or_the_scope(viewer, conversation):
    if may_see(viewer, conversation):
        assert viewer.account_id == conversation.account_id
        assert Permission.CONVERSATIONS_READ in viewer.permissions
        assert viewer.scope is not ConversationScope.NONE


@given(viewer=viewers, conversation=facts, permission=some(list(Permission)))
def test_acting_needs_the_permission_and_the_sight(viewer, conversation, permission):
    assert may(viewer, permission, conversation) == (permission in viewer.permissions and may_see(viewer, conversation))


ANA, LUIS, EVA = AGENTS
SALES, SUPPORT, _ = TEAMS
WEB, MAIL, _ = INBOXES
ACCOUNT = ACCOUNTS[0]


def _agent(scope: ConversationScope) -> Viewer:
    return Viewer(ACCOUNT, ANA, frozenset({Permission.CONVERSATIONS_READ}), scope, frozenset({SALES}), frozenset({WEB}))


T = ConversationScope
CASES = [
    # what, its facts, who sees it: all, team, unassigned_own, own
    ("my inbox, no team, unassigned", {}, "yyyn"),
    ("my inbox, no team, another's", {"assignee_id": LUIS}, "yynn"),
    ("my inbox, my team", {"team_id": SALES, "assignee_id": LUIS}, "yynn"),
    ("my inbox, another team", {"team_id": SUPPORT}, "ynnn"),
    ("another inbox, my team", {"inbox_id": MAIL, "team_id": SALES}, "ynnn"),
    ("mine, elsewhere", {"inbox_id": MAIL, "team_id": SUPPORT, "assignee_id": ANA}, "yyyy"),
    ("mentioned, elsewhere", {"inbox_id": MAIL, "participant_ids": frozenset({ANA})}, "yyyy"),
    ("my contact's, elsewhere", {"inbox_id": MAIL, "team_id": SUPPORT, "owner_id": ANA}, "yyyy"),
    ("my team's contact's, another team", {"team_id": SUPPORT, "owner_id": SALES}, "ynnn"),
]


@pytest.mark.parametrize(("given_facts", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_rule_case_by_case(given_facts, expected):
    conversation = replace(ConversationFacts(ACCOUNT, WEB), **given_facts)
    seen = "".join(
        "y" if may_see(_agent(scope), conversation) else "n" for scope in (T.ALL, T.TEAM, T.UNASSIGNED_OWN, T.OWN)
    )
    assert seen == expected
    assert not may_see(_agent(T.NONE), conversation)


def test_the_predefined_roles_say_what_the_product_promises():
    assert ROLES["administrator"].permissions == frozenset(Permission)
    assert not ROLES["administrator"].editable
    assert ROLES["agent"].scope is ConversationScope.TEAM
    assert Permission.CONVERSATIONS_REPLY not in ROLES["auditor"].permissions
    assert Permission.AUDIT_READ in ROLES["auditor"].permissions
    assert ROLES["marketing"].scope is ConversationScope.NONE
    assert not any(permission.startswith("conversations.") for permission in ROLES["marketing"].permissions)
    for name in ("agent", "auditor", "marketing"):
        surveys = {Permission.SURVEYS_READ} if name == "agent" else set()
        assert ROLES[name].switches == {Permission.CONTACT_OWNER_SET, *surveys}
        assert not ROLES[name].switches & ROLES[name].permissions
    assert ROLES["agent"].permissions < ROLES["supervisor"].permissions
