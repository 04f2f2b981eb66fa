"""A thousand rules and ten thousand messages: what judging one event costs, and that no expression can make it cost more."""

import random
import time
from statistics import quantiles

import pytest

from relevo.automation.domain.rules import RuleSet, evaluate
from relevo.contracts.snapshots import ContactSnapshot
from relevo.kernel.conditions import ConditionError

from .samples import TEAM, contains, event, rule, said

WORDS = [f"palabra{n}" for n in range(3_000)]
RULES = 1_000


def _rules() -> list:
    """As accounts have them: most wait for a word, some for an inbox, a label or an attribute, a few are judged always."""
    found = []
    for n in range(RULES):
        match n % 10:
            case 0 | 1 | 2 | 3 | 4 | 5:
                conditions = {
                    "all": [contains("message.text", WORDS[n]), {"not": contains("message.text", WORDS[n + 1])}]
                }
            case 6:
                conditions = {"any": [contains("conversation.subject", WORDS[n]), contains("message.text", WORDS[-n])]}
            case 7:
                conditions = {
                    "all": [
                        {"field": "conversation.inbox_id", "operator": "equals", "value": f"i{n % 50}"},
                        {"field": "contact.phone", "operator": "starts_with", "value": f"+{n}"},
                    ]
                }
            case 8:
                conditions = {"field": "conversation.labels", "operator": "contains_any", "value": [f"l{n}", "x"]}
            case _ if n % 50 == 9:
                conditions = {"field": "contact.attributes.plan", "operator": "equals", "value": f"p{n}"}
            case _:
                conditions = {"field": "sender.id", "operator": "equals", "value": f"s{n}"}
        found.append(rule(conditions, name=str(n), actions=[{"type": "assign_team", "team_id": TEAM}]))
    return found


@pytest.mark.parametrize("messages", [1_000, pytest.param(10_000, marks=pytest.mark.deep)])
def test_a_thousand_rules_are_judged_in_well_under_a_millisecond(messages: int, capsys) -> None:
    chance = random.Random(7)
    rules = RuleSet(1, _rules())
    who = ContactSnapshot(id="c", phone="+34600111222", attributes={"plan": "p9"})
    said_ = [
        event(
            said(
                " ".join(chance.choices(WORDS, k=30)),
                subject=chance.choice(WORDS),
                labels=(f"l{chance.randrange(RULES)}",),
                contact=who,
                inbox_id=f"i{chance.randrange(50)}",
            )
        )
        for _ in range(messages)
    ]
    evaluate(rules, said_[0], depth_limit=8)
    fired, spent = 0, []
    for one in said_:
        began = time.process_time()
        fired += len(evaluate(rules, one, depth_limit=8))
        spent.append(1_000 * (time.process_time() - began))
    *_, p99 = quantiles(spent, n=100)
    mean = sum(spent) / len(spent)
    with capsys.disabled():
        print(f"\n{RULES} rules x {messages} messages: {mean:.3f} ms each, p99 {p99:.3f} ms, {fired} fired")  # noqa: T201  (what it is for)
    assert fired > messages, "it must not be quick because nothing matches"
    assert mean < 1


HOSTILE = ["(a+)+$", "(a|aa)+$", "(.*a){20}", "^(([a-z])+.)+[A-Z]([a-z])+$", "(x+x+)+y"]


@pytest.mark.parametrize("pattern", HOSTILE)
def test_a_hostile_expression_costs_no_more_than_its_text(pattern: str) -> None:
    asked = RuleSet(1, [rule({"field": "message.text", "operator": "matches", "value": pattern})])
    data = event(said("a" * 150_000 + "!"))
    began = time.process_time()
    evaluate(asked, data, depth_limit=8)
    assert time.process_time() - began < 0.25, "linear in the twenty thousand characters that it may see"


@pytest.mark.parametrize("pattern", ["(((a{100}){100}){100})", "(?=a)b", r"(a)\1", "a" * 501])
def test_an_expression_that_could_not_be_bounded_is_refused_when_it_is_written(pattern: str) -> None:
    with pytest.raises(ConditionError) as refused:
        rule({"field": "message.text", "operator": "matches", "value": pattern})
    assert refused.value.problems[0].code == "value_pattern"
