"""How an account's conversations are handed out, and taken back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter

from relevo.assignment.domain import skills
from relevo.assignment.domain.skills import MOST_NEEDS, Ladder, Level, Ring, SkillName
from relevo.assignment.domain.units import UNIT, Share, Weight
from relevo.kernel.text import clean
from relevo.kernel.variables import unknown

Strategy = Literal["round_robin", "least_loaded", "longest_idle", "most_skilled"]
OwnerAbsent = Literal["anyone", "wait"]
HandOver = Literal["direct", "offer"]
Cause = Literal["offline", "away", "off_shift", "unanswered"]

LONGEST_SECONDS: Final = 30 * 86_400
LONGEST_DAYS: Final = 3650
Days = Annotated[int, Field(ge=0, le=LONGEST_DAYS)]
Seconds = Annotated[int, Field(ge=0, le=LONGEST_SECONDS)]
Language = Literal["es", "en"]
VARIABLES: Final = ("place", "minutes")
"""What a notice may name: the place in the queue, from 1, and the minutes that the wait is expected to last still, which nobody may
know: {{minutes|some}}."""


def _with_known_variables(text: str) -> str:
    wrong = unknown(text, VARIABLES)
    if wrong is not None:
        raise ValueError(f"there is no variable {wrong}: there are {', '.join(VARIABLES)}")
    return text


NoticeText = Annotated[
    str, AfterValidator(clean), StringConstraints(min_length=1, max_length=1000), AfterValidator(_with_known_variables)
]
OfferSeconds = Annotated[int, Field(ge=5, le=3600)]


@dataclass(frozen=True, slots=True)
class TakeBack:
    """What becomes of a conversation whose holder has been `cause` for so long; `unanswered`: has not answered it.

    It waits in the queue again, since its customer does, or becomes a team's; with ``raise_priority`` one rank higher.
    """

    cause: Cause
    after_seconds: Seconds
    to: Literal["queue", "team"] = "queue"
    team_id: str | None = None
    raise_priority: bool = False


@dataclass(frozen=True, slots=True)
class Overflow:
    """What has waited for so long in a team's queue (None: in that of no team) becomes another team's; None: anybody's."""

    team_id: str | None
    after_seconds: Seconds
    to_team_id: str | None


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """What holds instead of the policy's own for the conversations that fit `when`; None: the policy's own.

    `when` is a condition tree over `rules.FIELDS`. With `team_id` they become that team's, whatever team they came with, where
    neither their contact's owner nor whoever had them before gets them, and no person has decided on them before.
    """

    name: Annotated[str, Field(min_length=1, max_length=100)]
    when: Mapping[str, Any]
    team_id: str | None = None
    strategy: Strategy | None = None
    busy_as_fallback: bool | None = None
    out_of_shift: bool | None = None
    owner_first: bool | None = None
    owner_absent: OwnerAbsent | None = None
    owner_wait_seconds: Seconds | None = None
    last_agent_days: Days | None = None
    hand_over: HandOver | None = None
    offer_seconds: OfferSeconds | None = None
    needs: Annotated[Mapping[SkillName, Level], Field(max_length=MOST_NEEDS)] = field(default_factory=dict)
    """The least levels of whoever gets them, by skill."""
    rings: Annotated[tuple[Ring, ...], Field(max_length=10)] = ()
    """What is needed instead of those that have waited for so long: ever less."""


@dataclass(frozen=True, slots=True)
class Lighter:
    """What waits for its customer takes only this part of its weight, once its holder has had it so for so long."""

    after_seconds: Seconds
    share: Share


@dataclass(frozen=True, slots=True)
class Pace:
    """An agent is given at most so many within any so many seconds, whatever room they have. What people decide does not count."""

    most: Annotated[int, Field(ge=1, le=1000)]
    within_seconds: Annotated[int, Field(ge=1, le=86_400)]

    def kept(self, given: Iterable[datetime], now: datetime) -> tuple[datetime, ...]:
        """Of the moments at which somebody was given one those that count now: the last `most`, the oldest first."""
        after = now - timedelta(seconds=self.within_seconds)
        return tuple(sorted(at for at in given if at > after)[-self.most :])

    def full(self, given: Sequence[datetime]) -> bool:
        """Whether there is none to be given at present, as far as these count still."""
        return len(given) >= self.most


@dataclass(frozen=True, slots=True)
class WaitingNotice:
    """What customers are told who wait in the queue for an answer: once they have for so long, and every so often again.

    `texts` may name VARIABLES. At most `most` times in one wait; once where it is never told again.
    """

    texts: Annotated[Mapping[Language, NoticeText], Field(min_length=1)]
    after_seconds: Annotated[int, Field(ge=5, le=86_400)] = 60
    every_seconds: Annotated[int, Field(ge=60, le=86_400)] | None = None
    most: Annotated[int, Field(ge=1, le=10)] = 3

    def text(self, language: str) -> str:
        """The text in the customer's language where there is one, else in the first in which there is."""
        tag = language.lower().replace("_", "-").partition("-")[0]
        return next((text for known, text in self.texts.items() if known == tag), next(iter(self.texts.values())))


class Terms(NamedTuple):
    """On which terms conversations of one kind are given; those with the same terms have the same free agents.

    `weight` is what one takes, in hundredths of a unit; `default_capacity` is in units.
    """

    strategy: Strategy = "round_robin"
    default_capacity: int = 10
    busy_as_fallback: bool = False
    out_of_shift: bool = False
    weight: int = UNIT
    pace: Pace | None = None
    most_unanswered: int | None = None
    wanted: tuple[str, ...] = ()
    """The skills by which the best is found, where the strategy looks for that."""


def endless(overflow: Sequence[Overflow]) -> int | None:
    """The place of the first rule with which conversations would go round for ever; None: there is none."""
    targets: dict[str | None, str | None] = {}
    for place, one in enumerate(overflow):
        targets.setdefault(one.team_id, one.to_team_id)
        team: str | None = one.to_team_id
        while team != one.team_id and team in targets:
            team = targets[team]
        if team == one.team_id:
            return place
    return None


@dataclass(frozen=True, slots=True)
class Policy:
    """How an account's conversations are handed out. `default_capacity` is in units; a conversation takes one."""

    strategy: Strategy = "round_robin"
    default_capacity: int = 10
    busy_as_fallback: bool = False
    out_of_shift: bool = False
    """Whether who is there outside of their shift gets work."""
    owner_first: bool = True
    """Whether the contact's owner goes before everybody else."""
    owner_absent: OwnerAbsent = "anyone"
    """What becomes of a conversation whose owner is not there: it goes to anyone, or lies in the inbox until they are."""
    owner_wait_seconds: Seconds | None = None
    """For how long it lies there at most; then it goes to anyone. None: for as long as it takes."""
    last_agent_days: Days = 0
    """Whoever has a conversation of the contact, or had the last one at most so many days ago, goes before everybody else
    who can have it; `strategy` chooses where they cannot. 0: nobody does."""
    priority_worth_seconds: Seconds | None = None
    """How much waiting each step of priority (low, medium, high, urgent) is worth, so that waiting counts, too: nothing is
    overtaken by what came more than three times as much later. None: the higher priority goes first, however long who waits."""
    taken_back: tuple[TakeBack, ...] = ()
    """At most one for each cause; for what is not named a conversation stays with its holder."""
    overflow: tuple[Overflow, ...] = ()
    """At most one for each team; chains end."""
    channel_weights: Mapping[str, Weight] = field(default_factory=dict)
    """What conversations of a channel take, where that is not one unit."""
    lighter: Lighter | None = None
    """None: those that wait for their customer take as much as the others."""
    pace: Pace | None = None
    """None: as many as they have room for, however fast."""
    hand_over: HandOver = "direct"
    """Whether whose turn it is has it then and there, or is offered it, and may decline. Its contact's owner, and whoever had
    it before it was closed, have it at once."""
    offer_seconds: OfferSeconds = 30
    """How long an offer stands; without an answer until then it goes to the next one."""
    most_unanswered: Annotated[int, Field(ge=1, le=100)] | None = None
    """Who let so many offers in a row pass gets nothing more until their status is another one. None: that does not count."""
    waiting_notice: WaitingNotice | None = None
    """None: customers are not told how long they will wait."""
    rules: tuple[RoutingRule, ...] = ()
    """The first that fits a conversation counts; each has a name of its own."""
    version: int = 1

    def under(self, rule: str) -> "Policy":
        """The policy as it is for the conversations of a rule; of one that it does not have, itself."""
        found = self._named(rule)
        if found is None:
            return self
        return replace(
            self,
            **{name: value for name in _RULED if (value := getattr(found, name)) is not None},
        )

    def team_of(self, rule: str) -> str | None:
        """The team that a rule gives its conversations to."""
        found = self._named(rule)
        return None if found is None else found.team_id

    def ladder(self, rule: str) -> Ladder:
        """What the conversations of a rule need of whoever gets them, the less the longer they wait."""
        found = self._named(rule)
        return () if found is None else skills.ladder(found.needs, found.rings)

    def _named(self, rule: str) -> RoutingRule | None:
        return next((one for one in self.rules if one.name == rule), None) if rule else None

    @property
    def asks_last_agent(self) -> bool:
        """Whether it matters, of any conversation, who had the last one of its contact."""
        return any((self.last_agent_days, *(one.last_agent_days for one in self.rules)))

    @property
    def watches_answers(self) -> bool:
        """Whether it matters since when customers wait for an answer, or are waited for."""
        return bool(self.taken_back) or self.lighter is not None or self.waiting_notice is not None

    @property
    def weighs(self) -> bool:
        """Whether some conversations take more, or less, than others."""
        return bool(self.channel_weights) or self.lighter is not None

    def weight(self, channel: str) -> int:
        """What a conversation of the channel takes, in hundredths of a unit."""
        return self.channel_weights.get(channel, UNIT)

    @property
    def lightest(self) -> int:
        """What the lightest conversation takes, in hundredths of a unit."""
        return min((UNIT, *self.channel_weights.values()))

    def terms(self, channel: str, rule: str = "") -> Terms:
        """The terms on which conversations of the channel and rule are given."""
        one, named = self.under(rule), self._named(rule)
        # By what was needed at first: in wider rings, too, whoever fits best goes first.
        wanted = sorted(named.needs) if named is not None and one.strategy == "most_skilled" else ()
        return Terms(
            one.strategy,
            one.default_capacity,
            one.busy_as_fallback,
            one.out_of_shift,
            self.weight(channel),
            self.pace,
            self.most_unanswered,
            tuple(wanted),
        )

    def same_for_open(self, other: "Policy") -> bool:
        """Whether nothing that is open comes due at another moment, weighs otherwise, goes by another rule or stands elsewhere."""
        mine, others = (
            (
                one.taken_back,
                one.overflow,
                one.out_of_shift,
                one.channel_weights,
                one.lighter,
                one.owner_wait_seconds,
                one.rules,
                one.priority_worth_seconds,
                one.waiting_notice,
            )
            for one in (self, other)
        )
        return mine == others


_RULED: Final = (
    "strategy",
    "busy_as_fallback",
    "out_of_shift",
    "owner_first",
    "owner_absent",
    "owner_wait_seconds",
    "last_agent_days",
    "hand_over",
    "offer_seconds",
)
"""What a rule may have otherwise."""


_ADAPTER: Final = TypeAdapter(Policy)


def written(policy: Policy) -> dict[str, Any]:
    """A policy as JSON has it."""
    found: dict[str, Any] = _ADAPTER.dump_python(policy, mode="json")
    return found


def read(stored: object) -> Policy:
    """A policy from what `written` gave, now or in an earlier version. Raises ValueError."""
    return _ADAPTER.validate_python(stored)
