"""Random lives of an account, as its journal holds them."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from relevo.assignment.domain.inputs import (
    AgentDue,
    AgentEdited,
    Assign,
    CapacitySet,
    Closed,
    ConversationDue,
    CustomerWaits,
    Described,
    Input,
    OfferAnswered,
    Opened,
    PolicyEdited,
    Reopened,
    SkillsSet,
    StatusGiven,
    TeamEdited,
)
from relevo.assignment.domain.policy import Lighter, Overflow, Pace, Policy, RoutingRule, TakeBack
from relevo.assignment.domain.skills import Ring
from relevo.contracts.base import new_id

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def journal(seed: int, length: int = 400) -> Iterator[Input]:
    """A random life of an account: more conversations than anybody can take, in three inboxes and two teams."""
    dice = random.Random(seed)
    agents, teams, inboxes, contacts = ([new_id() for _ in range(n)] for n in (6, 2, 3, 4))
    channels = dict(zip(inboxes, ("web", "email", "whatsapp"), strict=True))
    conversations: dict[str, str] = {}
    open_ones: set[str] = set()
    # Policies name only teams that are known, and none that is gone comes back.
    yield from (TeamEdited(one, "T", auto_assign=True, deleted=False, sequence=1) for one in teams)
    gone: set[str] = set()
    for n in range(2, length):
        kind = dice.choices(
            [
                "open",
                "close",
                "reopen",
                "status",
                "agent",
                "team",
                "assign",
                "capacity",
                "skills",
                "policy",
                "customer",
                "due",
                "facts",
                "answer",
            ],
            [30, 14, 4, 14, 6, 1, 8, 4, 4, 2, 5, 5, 5, 20],
        )[0]
        if kind == "open":
            one = new_id()
            conversations[one] = dice.choice(inboxes)
            open_ones.add(one)
            at = T0 + timedelta(seconds=dice.randrange(1000))
            owner = dice.choice([None, None, None, *agents])
            yield Opened(
                one,
                conversations[one],
                channels[conversations[one]],
                at,
                n,
                dice.choice([None, *teams]),
                dice.randrange(4),
                owner,
                facts=facts(dice),
                contact_id=dice.choice(contacts),
            )
        elif kind == "close" and open_ones:
            one = dice.choice(sorted(open_ones))
            open_ones.discard(one)
            yield Closed(one, n)
        elif kind == "reopen" and len(conversations) > len(open_ones):
            one = dice.choice(sorted(set(conversations) - open_ones))
            open_ones.add(one)
            yield Reopened(
                one,
                conversations[one],
                channels[conversations[one]],
                T0 + timedelta(seconds=n),
                n,
                None,
                1,
                facts=facts(dice),
                contact_id=dice.choice(contacts),
            )
        elif kind == "facts" and open_ones:
            yield Described(dice.choice(sorted(open_ones)), facts(dice), n)
        elif kind == "answer" and open_ones:
            # Mostly of who is not asked.
            yield OfferAnswered(dice.choice(sorted(open_ones)), dice.choice(agents), dice.random() < 0.5)
        elif kind == "status":
            state = dice.choice(["available", "available", "available", "busy", "away", "offline"])
            yield StatusGiven(dice.choice(agents), state, T0, n)
        elif kind == "agent":
            mine = tuple(one for one in inboxes if dice.random() < 0.7)
            groups = tuple(one for one in teams if dice.random() < 0.6)
            yield AgentEdited(dice.choice(agents), f"A{n}", dice.random() < 0.9, groups, dice.choice([None, mine]), n)
        elif kind == "team":
            one = dice.choice(teams)
            if dice.random() < 0.1:
                gone.add(one)
            yield TeamEdited(one, f"T{n}", dice.random() < 0.7, one in gone, n)
        elif kind == "assign" and conversations:
            one = dice.choice([*sorted(conversations), new_id()])
            whom, where = dice.choice([None, *agents]), dice.choice([None, *teams])
            yield Assign(one, f"agent:{agents[0]}", "manual", dice.random() < 0.7, whom, dice.random() < 0.4, where)
        elif kind == "capacity":
            yield CapacitySet(dice.choice(agents), dice.choice([None, 0, 1, 2, 5]))
        elif kind == "skills":
            yield SkillsSet(dice.choice(agents), dice.choice([{}, {"pt": 2}, {"pt": 5, "sql": 1}]))
        elif kind == "policy":
            strategy = dice.choice(["round_robin", "least_loaded", "longest_idle", "most_skilled"])
            yield PolicyEdited(
                Policy(
                    strategy,
                    dice.randrange(1, 5),
                    dice.random() < 0.5,
                    dice.random() < 0.5,
                    owner_absent=dice.choice(("anyone", "wait")),
                    taken_back=taken_back(dice, teams),
                    overflow=overflow(dice, teams),
                    channel_weights=dice.choice(({}, {"email": 50}, {"email": 33, "whatsapp": 150})),
                    last_agent_days=dice.choice([0, 1, 1]),
                    priority_worth_seconds=dice.choice([None, 0, 60, 600]),
                    owner_wait_seconds=dice.choice([None, 0, 60]),
                    rules=rules(dice, teams),
                    lighter=dice.choice((None, Lighter(dice.choice([0, 30]), dice.choice([0, 40])))),
                    pace=dice.choice((None, None, Pace(dice.choice([1, 3]), dice.choice([5, 60])))),
                    hand_over=dice.choice(("direct", "offer")),
                    most_unanswered=dice.choice((None, 1)),
                    version=n,
                )
            )
        elif kind == "customer" and open_ones:
            since = dice.choice([None, T0 + timedelta(seconds=n)])
            yield CustomerWaits(dice.choice(sorted(open_ones)), since, n)
        elif kind == "due" and conversations:
            # Also what nobody made due: it changes nothing.
            yield dice.choice([ConversationDue(dice.choice(sorted(conversations))), AgentDue(dice.choice(agents))])


RINGS = (Ring(30, {"pt": 1}), Ring(60))


def facts(dice: random.Random) -> dict[str, list[str]]:
    """What rules look at."""
    return dice.choice(({}, {"conversation.labels": ["noche"]}, {"contact.labels": ["vip"]}))


def rules(dice: random.Random, teams: list[str]) -> tuple[RoutingRule, ...]:
    """By what customers are, by channel, by priority and by team, each with something that is otherwise; some of them."""
    team = dice.choice([None, *teams])
    every = (
        RoutingRule("vip", condition("contact.labels", "contains_any", ["vip"]), team, owner_absent="wait"),
        RoutingRule("noche", condition("conversation.labels", "contains_any", ["noche"]), team, "longest_idle"),
        RoutingRule(
            "mail", condition("conversation.channel", "equals", "email"), None, "least_loaded", out_of_shift=True
        ),
        RoutingRule(
            "urgent",
            condition("conversation.priority", "in", ["high", "urgent"]),
            busy_as_fallback=True,
            hand_over="offer",
        ),
        RoutingRule(
            "habla",
            condition("conversation.channel", "equals", "web"),
            needs={"pt": dice.choice([2, 5])},
            rings=dice.choice(((), RINGS, RINGS[1:])),
        ),
        RoutingRule("team", condition("conversation.team_id", "present", None), owner_first=False),
    )
    return tuple(one for one in dice.sample(every, len(every)) if dice.random() < 0.3)


def condition(field: str, operator: str, value: object) -> dict[str, object]:
    """One comparison."""
    given = {"field": field, "operator": operator}
    return given if value is None else given | {"value": value}


def overflow(dice: random.Random, teams: list[str]) -> tuple[Overflow, ...]:
    """From no team to the first, from there to the second; or a part of that."""
    chain = ((None, teams[0]), (teams[0], teams[1]))
    return tuple(Overflow(one, dice.choice([0, 30, 600]), to) for one, to in chain if dice.random() < 0.4)


def taken_back(dice: random.Random, teams: list[str]) -> tuple[TakeBack, ...]:
    """For some causes, after no time or some, to the queue or a team that may be there."""
    causes = [one for one in ("offline", "away", "off_shift", "unanswered") if dice.random() < 0.5]
    return tuple(
        TakeBack(one, dice.choice([0, 30, 600]), "team", dice.choice(teams))
        if dice.random() < 0.3
        else TakeBack(one, dice.choice([0, 30, 600]), raise_priority=dice.random() < 0.3)
        for one in causes
    )
