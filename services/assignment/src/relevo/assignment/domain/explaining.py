"""Why a conversation went where it went, and why not to somebody else, in Spanish and English.

What keeps somebody from getting a conversation is what assignment itself asks (`Agent.gaps`, `Agent.hindrances`), of
what the agent was at the decision, or is now. Nothing here decides anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from relevo.assignment.domain import skills
from relevo.assignment.domain.inputs import Mode
from relevo.assignment.domain.policy import Policy, Terms
from relevo.assignment.domain.reasons import duration
from relevo.assignment.domain.roster import Agent, Gap, GroupKey, Hindrance
from relevo.assignment.domain.units import said
from relevo.contracts.assignment import Reason

When = Literal["now", "then"]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, and a stable code for what it says."""

    code: str
    es: str
    en: str


@dataclass(frozen=True, slots=True)
class Record:
    """A decision as it was kept."""

    kind: Literal["assigned", "queued", "offered", "unassigned"]
    mode: Mode
    reason: Reason
    assignee_id: str | None = None
    assignee_name: str = ""
    from_assignee_id: str | None = None
    from_assignee_name: str = ""
    runners_up: Mapping[str, str] | None = None
    """The names of those who were next, by their ids, in order."""
    waited_seconds: float | None = None
    policy_version: int = 1
    rule: str = ""
    """The rule of the policy that it went by; empty: none."""
    offered_to: str | None = None
    offered_to_name: str = ""
    declined: frozenset[str] = frozenset()
    """Who had declined it."""

    @property
    def compared(self) -> bool:
        """Whether candidates were looked for; else it was settled before that, and `reason` says by what."""
        return self.kind == "queued" or self.reason.code in (
            "round_robin",
            "least_loaded",
            "longest_idle",
            "most_skilled",
            "last_agent",
        )


def why(record: Record) -> list[Sentence]:
    """Why the conversation went where it went."""
    return [_reason(record), *_around(record)]


def why_not(agent: Agent, key: GroupKey, policy: Policy, record: Record, *, when: When) -> list[Sentence]:
    """Why a conversation of this inbox and team did not go (``now``: does not go) to the agent, who was so then (is so).

    Each gap and each hindrance that the agent has is one sentence, in their order, and there are no others of their
    codes. Who has none and was looked at says ``in_turn`` or ``next``.
    """
    if record.kind == "assigned" and record.assignee_id == agent.id:
        return [
            Sentence("has_it", f"Se la llevó {agent.name}.", f"It went to {agent.name}."),
            *why(record),
        ]
    if record.kind == "offered" and record.offered_to == agent.id:
        return [
            Sentence("is_offered_it", f"Se le ofreció a {agent.name}.", f"It was offered to {agent.name}."),
            *why(record),
        ]
    hindered = [
        *_gaps(agent, key, when, record),
        *_hindrances(agent, policy.terms(key.channel, key.rule), when, weighs=policy.weighs),
    ]
    if not record.compared:
        return [_reason(record), *hindered]
    return hindered or [_could(agent, record, policy)]


def unknown(name: str) -> Sentence:
    """The decision was made before what agents were was kept, or before anybody knew of this one."""
    return Sentence(
        "not_kept",
        f"No consta cómo estaba {name} en ese momento.",
        f"What held for {name} at that moment was not kept.",
    )


def _reason(record: Record) -> Sentence:
    return Sentence(record.reason.code, record.reason.es, record.reason.en)


def _around(record: Record) -> Iterator[Sentence]:
    if record.from_assignee_id is not None and record.from_assignee_id != record.assignee_id:
        before = record.from_assignee_name
        yield Sentence("before", f"Antes la tenía {before}.", f"Before, {before} had it.")
    if record.waited_seconds is not None and record.waited_seconds >= 1:
        waited = duration(record.waited_seconds)
        yield Sentence("waited", f"Había esperado {waited}.", f"It had waited {waited}.")
    if record.runners_up:
        names = list(record.runners_up.values())
        yield Sentence(
            "runners_up", f"Después seguían {_list(names, 'y')}.", f"Next would have been {_list(names, 'and')}."
        )
    if record.mode != "automatic":
        yield Sentence(
            "stands", "La asignación automática no cambia lo que se decidió.", "Automatic assignment does not undo it."
        )
    else:
        number = record.policy_version
        es, en = (f", regla «{record.rule}»", f", rule “{record.rule}”,") if record.rule else ("", "")
        yield Sentence(
            "policy",
            f"Se aplicó la versión {number} de la política de reparto{es}.",
            f"Version {number} of the routing policy{en} was followed.",
        )


_GAPS: Final[Mapping[Gap, tuple[str, str, str, str]]] = {
    "removed": (
        "ya no forma parte de la cuenta",
        "no formaba parte de la cuenta",
        "is no longer with the account",
        "was not with the account",
    ),
    "other_inboxes": (
        "no atiende este canal",
        "no atendía este canal",
        "does not work on this inbox",
        "did not work on this inbox",
    ),
    "other_team": (
        "no es del equipo de la conversación",
        "no era del equipo de la conversación",
        "is not in the conversation's team",
        "was not in the conversation's team",
    ),
    "passed": (
        "la tuvo y no respondió a tiempo",
        "la había tenido y no había respondido a tiempo",
        "had it and did not answer in time",
        "had had it and had not answered in time",
    ),
}
_LET_PASS: Final = (
    "la tuvo, o se le ofreció, y no respondió a tiempo",
    "la había tenido, o se le había ofrecido, y no había respondido a tiempo",
    "had it, or was offered it, and did not answer in time",
    "had had it, or had been offered it, and had not answered in time",
)
_DECLINED: Final = (
    "la rechazó cuando se le ofreció",
    "la había rechazado cuando se le ofreció",
    "declined it when it was offered",
    "had declined it when it was offered",
)
_HINDRANCES: Final[Mapping[Hindrance, tuple[str, str, str, str]]] = {
    "offline": ("no está en línea", "no estaba en línea", "is not online", "was not online"),
    "away": ("está ausente", "estaba ausente", "is away", "was away"),
    "off_shift": (
        "está fuera de su turno",
        "estaba fuera de su turno",
        "is outside of their shift",
        "was outside of their shift",
    ),
    "not_responding": (
        "dejó pasar varias ofertas seguidas, y no recibe más hasta que cambie de estado",
        "había dejado pasar varias ofertas seguidas, y no recibía más hasta que cambiara de estado",
        "let several offers in a row pass, and gets nothing more until they change their status",
        "had let several offers in a row pass, and got nothing more until they changed their status",
    ),
    "busy": (
        "está en estado ocupado, y la política no reparte a quien lo está",
        "estaba en estado ocupado, y la política no reparte a quien lo está",
        "is busy, and the policy gives nothing to who is",
        "was busy, and the policy gives nothing to who is",
    ),
}


def _gaps(agent: Agent, key: GroupKey, when: When, record: Record) -> Iterator[Sentence]:
    for gap in agent.gaps(key):
        if gap == "passed" and agent.id in record.declined:
            yield _said(agent, "declined", _DECLINED, when)
        elif gap == "passed" and record.kind == "offered":
            yield _said(agent, gap, _LET_PASS, when)
        else:
            yield _said(agent, gap, _lacks(agent, key) if gap == "unskilled" else _GAPS[gap], when)


def _lacks(agent: Agent, key: GroupKey) -> tuple[str, str, str, str]:
    """Of what is needed, what they cannot, or not as well."""
    faults = list(skills.lacking(agent.skills, key.needs))

    def told(of_level: str, theirs: str, none: str) -> str:
        return ", ".join(
            f"{name} {of_level} {need} ({f'{theirs} {has}' if has else none})" for name, need, has in faults
        )

    return (
        f"no llega a {told('de nivel', 'el suyo es', 'no la tiene')}",
        f"no llegaba a {told('de nivel', 'el suyo era', 'no la tenía')}",
        f"lacks {told('of level', 'theirs is', 'they have none')}",
        f"lacked {told('of level', 'theirs was', 'they had none')}",
    )


def _hindrances(agent: Agent, terms: Terms, when: When, *, weighs: bool) -> Iterator[Sentence]:
    for one in agent.hindrances(terms):
        match one:
            case "at_capacity":
                words = _full(agent, terms, weighs=weighs)
            case "paced":
                words = _paced(terms)
            case _:
                words = _HINDRANCES[one]
        yield _said(agent, one, words, when)


def _full(agent: Agent, terms: Terms, *, weighs: bool) -> tuple[str, str, str, str]:
    """Why one more of these does not fit: in conversations where each takes one unit, else in units."""
    limit, (used_es, used_en), (takes_es, takes_en) = agent.limit(terms), said(agent.used), said(terms.weight)
    if not weighs:
        es, en = f"hueco: {used_es} de {limit} conversaciones", f"free slot: {used_en} of {limit} conversations"
    else:
        es = f"hueco para ella: {used_es} de {limit} unidades, y ocupa {takes_es}"
        en = f"room for it: {used_en} of {limit} units, and it takes {takes_en}"
    return f"no tiene {es}", f"no tenía {es}", f"has no {en}", f"had no {en}"


def _paced(terms: Terms) -> tuple[str, str, str, str]:
    """Why nothing is given for a while: so many in so long are as many as the policy gives."""
    assert terms.pace is not None
    most, within = terms.pace.most, duration(terms.pace.within_seconds)
    es = f"recibido {most} en {within}, que es lo más que reparte la política"
    en = f"been given {most} within the last {within}, as many as the policy gives"
    return f"ha {es}", f"había {es}", f"has {en}", f"had {en}"


def _order(worth: int | None) -> tuple[str, str]:
    """Which of those that wait goes first; `worth`: as the policy says."""
    es, en = "va antes la que lleva más tiempo esperando", "what has waited longest goes first"
    if worth is None:
        return (
            "va antes la de mayor prioridad y, entre iguales, la que lleva más tiempo esperando",
            "the highest priority goes first and, among equals, what has waited longest",
        )
    if worth == 0:
        return es, en
    step = duration(worth)
    return (
        f"{es}, y cada grado de prioridad cuenta como {step} más",
        f"{en}, each step of priority counted as {step} more",
    )


def _said(agent: Agent, code: str, words: tuple[str, str, str, str], when: When) -> Sentence:
    es, en = (words[0], words[2]) if when == "now" else (words[1], words[3])
    return Sentence(code, f"{agent.name} {es}.", f"{agent.name} {en}.")


def _could(agent: Agent, record: Record, policy: Policy) -> Sentence:
    """Nothing kept the agent from it."""
    name = agent.name
    if record.kind == "queued":
        es, en = _order(policy.priority_worth_seconds)
        return Sentence(
            "next",
            f"Nada se lo impide a {name}: le llegará cuando le toque, pues {es}.",
            f"Nothing keeps it from {name}: it comes when its turn is there, for {en}.",
        )
    first = record.assignee_name if record.kind == "assigned" else record.offered_to_name
    order = list(record.runners_up or ())
    if agent.id in order:
        place = order.index(agent.id) + 2
        return Sentence(
            "in_turn",
            f"{name} podía llevársela, pero {first} iba antes: a {name} le tocaba en el puesto {place}.",
            f"{name} could have had it, but {first} went first: {name} was number {place}.",
        )
    return Sentence(
        "in_turn",
        f"{name} podía llevársela, pero {first} iba antes.",
        f"{name} could have had it, but {first} went first.",
    )


def _list(names: Sequence[str], word: str) -> str:
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} {word} {names[-1]}"
