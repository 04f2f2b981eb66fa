"""Nobody grants what they do not hold, and an account never loses its last administrator."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.contracts.identity import AgentState, KeyState, RoleState
from relevo.contracts.permissions import ROLES, ConversationScope, Permission
from relevo.identity.domain import grants
from relevo.identity.domain.grants import Authority
from relevo.kernel.access import ConversationFacts, Viewer, may

IDS = ("1", "2", "3")
permissions = st.frozensets(st.sampled_from(sorted(Permission)), max_size=6)
scopes = st.sampled_from(ConversationScope)
some = st.frozensets(st.sampled_from(IDS))
inboxes = st.none() | some
authorities = st.builds(Authority, permissions, scopes, some, inboxes)
ROOT = Authority(frozenset(Permission), ConversationScope.ALL, frozenset(), None)
ADMINISTRATOR = RoleState(
    id="admin",
    account_id="a",
    name="administrator",
    permissions=frozenset(Permission),
    scope=ConversationScope.ALL,
    predefined=True,
)


def role(held, scope, **more):
    return RoleState(id="r", account_id="a", name="custom", permissions=held, scope=scope, **more)


def agent(teams=(), inbox_ids=()):
    return AgentState(
        id="x",
        account_id="a",
        name="X",
        email="x@example.com",
        role_id="r",
        team_ids=tuple(sorted(teams)),
        inbox_ids=None if inbox_ids is None else tuple(sorted(inbox_ids)),
    )


roles = st.builds(role, permissions, scopes)
agents = st.builds(agent, some, inboxes)
facts = st.builds(
    ConversationFacts,
    account_id=st.just("a"),
    inbox_id=st.sampled_from(IDS),
    team_id=st.none() | st.sampled_from(IDS),
    assignee_id=st.none() | st.just("somebody"),
)


def viewer(held: Authority, me: str) -> Viewer:
    return Viewer("a", me, held.permissions, held.scope, held.team_ids, held.inbox_ids)


@given(authorities, agents, roles, facts, st.sampled_from(Permission))
def test_whom_one_may_make_reaches_nothing_that_one_does_not_reach(holder, made, made_role, conversation, permission):
    if grants.judge_agent(holder, None, (made, made_role), other_administrators=1) is not None:
        return
    inbox_ids = None if made.inbox_ids is None else frozenset(made.inbox_ids)
    theirs = Authority(made_role.permissions, made_role.scope, frozenset(made.team_ids), inbox_ids)
    assert theirs.permissions <= holder.permissions
    if may(viewer(theirs, "x"), permission, conversation):
        assert may(viewer(holder, "holder"), permission, conversation)


@given(authorities, agents, roles, agents, roles)
def test_an_edit_gives_nothing_that_is_neither_the_holders_nor_the_agents_already(holder, was, had, becomes, gets):
    if grants.judge_agent(holder, (was, had), (becomes, gets), other_administrators=1) is not None:
        return
    assert had.permissions | gets.permissions <= holder.permissions
    if holder.scope is not ConversationScope.ALL:
        assert set(becomes.team_ids) <= set(was.team_ids) | holder.team_ids
        if holder.inbox_ids is not None and was.inbox_ids is not None:
            assert becomes.inbox_ids is not None
            assert set(becomes.inbox_ids) <= set(was.inbox_ids) | holder.inbox_ids


@given(authorities, roles | st.none(), roles)
def test_a_role_that_one_may_write_is_within_ones_own(holder, before, after):
    refusal = grants.judge_role(holder, before, after)
    within = after.permissions <= holder.permissions and grants.lacks(holder, scope=after.scope) is None
    if before is not None:
        within = within and grants.lacks(holder, permissions=before.permissions, scope=before.scope) is None
    assert (refusal is None) == within


@given(authorities, permissions, scopes)
def test_a_key_that_one_may_issue_is_within_ones_own(holder, held, scope):
    allowed = grants.judge_key(holder, held, scope) is None
    assert allowed == (held <= holder.permissions and grants.lacks(holder, scope=scope) is None)


@given(permissions, scopes, roles)
def test_a_trimmed_key_is_within_the_role_and_within_what_it_was(held, scope, then):
    key = KeyState(id="k", account_id="a", kind="api", name="k", sha256="", permissions=held, scope=scope)
    left = grants.trimmed_key(key, then)
    assert left.permissions == held & then.permissions
    for whole in (Authority(held, scope), Authority(then.permissions, then.scope)):
        assert grants.lacks(whole, permissions=left.permissions, scope=left.scope) is None


@given(authorities, agents, st.integers(0, 3))
def test_the_last_administrator_stays_one(holder, someone, others):
    edit = grants.judge_agent(
        holder,
        (someone, ADMINISTRATOR),
        (someone, role(frozenset(), ConversationScope.NONE)),
        other_administrators=others,
    )
    removal = grants.judge_agent_removal(holder, (someone, ADMINISTRATOR), other_administrators=others)
    if others == 0:
        assert edit is not None
        assert removal is not None
    elif holder.permissions == frozenset(Permission) and holder.scope is ConversationScope.ALL:
        assert edit is None
        assert removal is None


def test_the_last_administrator_is_told_so():
    removal = grants.judge_agent_removal(ROOT, (agent(), ADMINISTRATOR), other_administrators=0)
    assert removal is not None
    assert removal.code == "last_administrator"


@pytest.mark.parametrize("missing", sorted(Permission))
def test_nobody_rules_over_who_holds_more(missing):
    lesser = replace(ROOT, permissions=ROOT.permissions - {missing})
    whom = (agent(), ADMINISTRATOR)
    for refusal in (
        grants.judge_agent(lesser, whom, whom, other_administrators=5),
        grants.judge_agent_removal(lesser, whom, other_administrators=5),
        grants.judge_role_removal(lesser, role(ROOT.permissions, ConversationScope.ALL), agents=0),
        grants.judge_role(
            lesser, role(ROOT.permissions, ConversationScope.ALL), role(frozenset(), ConversationScope.OWN)
        ),
    ):
        assert refusal is not None
        assert refusal.code == "outranked"


def test_the_administrators_role_is_nobodys_to_edit():
    refusal = grants.judge_role(ROOT, ADMINISTRATOR, ADMINISTRATOR)
    assert refusal is not None
    assert refusal.code == "role_not_editable"
    assert not grants.is_administrator(ADMINISTRATOR.model_copy(update={"predefined": False}))


@pytest.mark.parametrize("name", sorted(set(ROLES) - {"administrator"}))
def test_the_other_predefined_roles_keep_their_name_and_stay(name):
    template = ROLES[name]
    mine = RoleState(
        id="r", account_id="a", name=name, permissions=template.permissions, scope=template.scope, predefined=True
    )
    more = mine.model_copy(update={"permissions": template.permissions | template.switches})
    assert grants.judge_role(ROOT, mine, more) is None
    renamed = grants.judge_role(ROOT, mine, mine.model_copy(update={"name": "other"}))
    assert renamed is not None
    assert renamed.code == "predefined_role_keeps_name"
    assert grants.judge_role_removal(ROOT, mine, agents=0) is not None


def test_a_role_that_agents_have_stays():
    refusal = grants.judge_role_removal(ROOT, role(frozenset(), ConversationScope.NONE), agents=2)
    assert refusal is not None
    assert (refusal.code, refusal.detail) == ("role_in_use", "2")


def test_into_a_team_one_brings_others_only_from_within():
    outsider = Authority(frozenset(Permission), ConversationScope.TEAM, frozenset({"mine"}), None)
    assert grants.judge_members(outsider, "theirs", [], ["x"]) is not None
    assert grants.judge_members(outsider, "theirs", ["x"], []) is None
    assert grants.judge_members(outsider, "mine", [], ["x"]) is None
    assert grants.judge_members(outsider, None, [], ["x"]) is None
    assert grants.judge_members(ROOT, "theirs", [], ["x"]) is None


def test_credentials_are_issued_for_inboxes_that_one_reaches():
    needed = Permission.INBOUND_PUBLISH
    held = Authority(frozenset({needed}), ConversationScope.TEAM, frozenset(), frozenset({"in"}))
    assert grants.judge_inbox_credential(held, needed, "in") is None
    assert grants.judge_inbox_credential(held, needed, "other") == grants.Refusal("not_held", "/inbox_id", "other")
    assert grants.judge_inbox_credential(replace(held, permissions=frozenset()), needed, "in") is not None
