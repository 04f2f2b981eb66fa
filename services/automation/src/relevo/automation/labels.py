"""Labels in rules: kept by their keys, so that another name changes no rule, and a merge changes those that named it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from relevo.automation import store
from relevo.automation.store import StoredRule
from relevo.chassis import Received, Tx
from relevo.chassis.labels import labels, project
from relevo.contracts.base import now
from relevo.kernel.conditions.replacing import values_of, with_values

_FIELDS: Final = frozenset({"conversation.labels", "contact.labels", "labels.added", "labels.removed"})


def relabelled(rule: StoredRule, key: Callable[[str], str]) -> StoredRule:
    """The rule with the key of every label that its conditions and actions name. Pure."""
    values = {name: key(name) for name in values_of(rule.conditions, _FIELDS)}
    return replace(
        rule,
        conditions=with_values(rule.conditions, _FIELDS, values),
        actions=[_action(action, key) for action in rule.actions],
    )


def _action(action: Mapping[str, Any], key: Callable[[str], str]) -> Mapping[str, Any]:
    if "labels" not in action:
        return action
    return {**action, "labels": list(dict.fromkeys(key(name) for name in action["labels"]))}


def _became(became: Mapping[str, str], name: str) -> str:
    return became.get(name, name)


async def keyed(tx: Tx, rule: StoredRule) -> StoredRule:
    """A rule as it is kept."""
    return relabelled(rule, (await labels(tx, rule.account_id)).key)


async def on_labels(batch: Sequence[Received], tx: Tx) -> None:
    """Keep what labels are called; the rules that name one that was merged name what it became, as their next version."""
    merged = [one.label for one in await project(batch, tx) if one.label.into_key and not one.deleted]
    for label in merged:
        became = {label.key: label.into_key or label.key}
        for rule in await store.all_rules(tx, label.account_id):
            after = relabelled(rule, partial(_became, became))
            if (after.conditions, after.actions) != (rule.conditions, rule.actions):
                changed = replace(after, version=rule.version + 1, updated_at=now(), updated_by="system")
                await store.update_rule(tx, changed)
