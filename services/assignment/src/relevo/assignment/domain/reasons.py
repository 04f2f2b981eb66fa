"""Why a decision fell, in words, in Spanish and English."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from relevo.assignment.domain import skills
from relevo.assignment.domain.policy import Cause, Policy, TakeBack
from relevo.assignment.domain.roster import Agent, Group, Standing
from relevo.assignment.domain.skills import Needs
from relevo.assignment.domain.units import UNIT, said
from relevo.contracts.assignment import DeclineReason, Reason, ReasonCode

_EXCLUDED: Final[Mapping[Standing, tuple[str, str, str]]] = {
    "at_capacity": ("al límite de su capacidad", "al límite de su capacidad", "at capacity"),
    "not_responding": ("no atiende ofertas", "no atienden ofertas", "not responding"),
    "paced": ("a su ritmo máximo", "a su ritmo máximo", "at their pace"),
    "busy": ("ocupado", "ocupados", "busy"),
    "off_shift": ("fuera de turno", "fuera de turno", "outside of their shift"),
    "away": ("ausente", "ausentes", "away"),
    "offline": ("desconectado", "desconectados", "offline"),
}


def excluded(group: Group) -> dict[str, int]:
    """How many candidates were passed over, by reason."""
    return {standing: group.counts[standing] for standing in _EXCLUDED if group.counts[standing]}


def _of(counts: Mapping[str, int]) -> tuple[str, str]:
    """Those passed over, in parentheses; empty when there are none."""
    if not counts:
        return "", ""
    total = sum(counts.values())
    parts = [(n, *_EXCLUDED[standing]) for standing, n in counts.items()]  # type: ignore[index]
    es = ", ".join(f"{n} {one if n == 1 else many}" for n, one, many, _ in parts)
    en = ", ".join(f"{n} {word}" for n, _, _, word in parts)
    return f" ({total} {'excluido' if total == 1 else 'excluidos'}: {es})", f" ({total} excluded: {en})"


def chosen(policy: Policy, agent: Agent, group: Group, at: datetime) -> Reason:
    """An agent, as they were before the conversation, was chosen by the strategy of its terms."""
    name = agent.name
    busy = group.counts["free"] == 0
    count = group.counts["free_busy"] if busy else group.counts["free"]
    es_who = _plural(
        count, "agente ocupado" if busy else "agente disponible", "agentes ocupados" if busy else "agentes disponibles"
    )
    en_who = _plural(count, "busy agent" if busy else "available agent", "busy agents" if busy else "available agents")
    es_rest, en_rest = _of(excluded(group))
    if group.terms.strategy == "longest_idle":
        since = agent.idle_since
        if agent.load:
            es, en = (
                f"nadie estaba libre y {name} era quien recibió la última",
                f"nobody was idle and {name} got theirs",
            )
            es_end, en_end = "hace más tiempo", "longest ago"
        elif since is None:
            es, en = f"{name} no ha tenido ninguna", f"{name} has had none yet"
            es_end, en_end = "", ""
        else:
            idle = duration(max((at - since).total_seconds(), 0.0))
            es, en = f"{name} llevaba {idle} libre", f"{name} had been idle for {idle}"
            es_end, en_end = "quien más", "the longest"
        return Reason(
            code="longest_idle",
            es=f"Más tiempo libre: {_phrase(es, es_end)}, entre {es_who}{es_rest}.",
            en=f"Longest idle: {_phrase(en, en_end)}, of {en_who}{en_rest}.",
        )
    if group.terms.strategy == "most_skilled" and group.terms.wanted:
        has = skills.said((skill, agent.skills[skill]) for skill in group.terms.wanted if skill in agent.skills)
        es, en = (f"{name} ({has})", f"{name} ({has})") if has else (name, name)
        return Reason(
            code="most_skilled",
            es=f"Mejor preparado: {es}, entre {es_who}{es_rest}.",
            en=f"Most skilled: {en}, of {en_who}{en_rest}.",
        )
    if group.terms.strategy == "least_loaded":
        limit, (used_es, used_en) = agent.limit(group.terms), said(agent.used)
        es_units, en_units = (" unidades", " units") if policy.weighs else ("", "")
        return Reason(
            code="least_loaded",
            es=f"Menor carga: {name} tenía {used_es} de {limit}{es_units}, la menor de {es_who}{es_rest}.",
            en=f"Least loaded: {name} had {used_en} of {limit}{en_units}, the least of {en_who}{en_rest}.",
        )
    return Reason(
        code="round_robin",
        es=f"Turno rotatorio: era el turno de {name} entre {es_who}{es_rest}.",
        en=f"Round robin: {name} was next of {en_who}{en_rest}.",
    )


def last_agent(agent: Agent, ago: timedelta | None) -> Reason:
    """Who had the last conversation of its contact, and let go of it so long `ago`; None: has it still."""
    since = duration(max(ago.total_seconds(), 0.0)) if ago is not None else ""
    es = f"tuvo la última de este contacto hasta hace {since}" if since else "tiene otra de este contacto"
    en = f"had the last one of this contact until {since} ago" if since else "has another one of this contact"
    return Reason(code="last_agent", es=f"Ya le conoce: {agent.name} {es}.", en=f"Knows them: {agent.name} {en}.")


def _phrase(said: str, end: str) -> str:
    return f"{said}, {end}" if end else said


def joined(first: Reason | None, then: Reason) -> Reason:
    """What somebody did, and what followed from it."""
    if first is None:
        return then
    return Reason(code=then.code, es=f"{first.es} {then.es}", en=f"{first.en} {then.en}")


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def same_agent(name: str) -> Reason:
    """A reopened conversation went back to who had it."""
    return Reason(
        code="same_agent", es=f"Vuelve a {name}, que ya la atendía.", en=f"Back to {name}, who had it before."
    )


def woken(name: str) -> Reason:
    """What was put off is back with who had it."""
    return Reason(
        code="woken",
        es=f"Se había pospuesto y vuelve a {name}, que la atendía.",
        en=f"It had been put off, and is back with {name}, who had it.",
    )


def owner(name: str) -> Reason:
    """Its contact is this agent's customer."""
    return Reason(
        code="owner", es=f"{name} es responsable de este contacto.", en=f"{name} is the owner of this contact."
    )


def owner_absent(name: str) -> Reason:
    """Its contact is the customer of an agent who is not there: it waits for them, or for whoever takes it by hand."""
    return Reason(
        code="owner_absent",
        es=f"Espera en la bandeja a {name}, responsable de este contacto, que no está.",
        en=f"Stays in the inbox for {name}, the owner of this contact, who is not there.",
    )


def nobody(group: Group, needs: Needs, *, declined: bool) -> Reason:
    """Nobody could take it: it waits. `needs`: what it needs of whoever gets it; `declined`: somebody did not want it."""
    counts = excluded(group)
    es_rest, en_rest = _of(counts)
    if not group.members and declined:
        return Reason(
            code="no_candidates",
            es="En espera: no queda nadie que no la haya rechazado.",
            en="Waiting: nobody is left who has not declined it.",
        )
    if not group.members and needs:
        asked = skills.said(needs)
        return Reason(
            code="no_candidates",
            es=f"En espera: nadie de este canal y equipo tiene lo que pide: {asked}.",
            en=f"Waiting: nobody who works on this inbox and team has what it needs: {asked}.",
        )
    if not group.members:
        return Reason(
            code="no_candidates",
            es="En espera: nadie tiene acceso a este canal y equipo.",
            en="Waiting: nobody works on this inbox and team.",
        )
    if counts.get("at_capacity"):
        es_takes, en_takes = said(group.terms.weight)
        es, en = "nadie tiene un hueco libre", "nobody has a free slot"
        if group.terms.weight != UNIT:
            es, en = f"ocupa {es_takes} unidades, y a nadie le caben", f"it takes {en_takes} units, and nobody has room"
        return Reason(code="all_at_capacity", es=f"En espera: {es}{es_rest}.", en=f"Waiting: {en}{en_rest}.")
    return Reason(
        code="no_agent_available",
        es=f"En espera: no hay nadie disponible{es_rest}.",
        en=f"Waiting: nobody is available{en_rest}.",
    )


def by_hand(actor: str, actor_name: str, assignee_id: str | None, assignee_name: str, team_name: str | None) -> Reason:
    """A person, or a key, decided."""
    who_es, who_en = actor_name or "Una integración", actor_name or "An integration"
    if assignee_id is not None and actor == f"agent:{assignee_id}":
        return Reason(code="self", es=f"{who_es} se la asignó.", en=f"{who_en} took it.")
    return Reason(
        code="manual" if assignee_id is not None or team_name is not None else "unassigned_by_hand",
        es=f"{who_es} {_hand_es(assignee_id, assignee_name, team_name)}.",
        en=f"{who_en} {_hand_en(assignee_id, assignee_name, team_name)}.",
    )


def by_rule(assignee_id: str | None, assignee_name: str, team_name: str | None) -> Reason:
    """Automation decided."""
    return Reason(
        code="automation",
        es=f"Una regla {_hand_es(assignee_id, assignee_name, team_name)}.",
        en=f"A rule {_hand_en(assignee_id, assignee_name, team_name)}.",
    )


def _hand_es(assignee_id: str | None, assignee_name: str, team_name: str | None) -> str:
    to_team = f"la pasó al equipo {team_name}" if team_name else ""
    to_agent = f"la asignó a {assignee_name}" if assignee_id is not None else ""
    return " y ".join(part for part in (to_team, to_agent) if part) or "la dejó sin asignar"


def _hand_en(assignee_id: str | None, assignee_name: str, team_name: str | None) -> str:
    to_team = f"gave it to the team {team_name}" if team_name else ""
    to_agent = f"assigned it to {assignee_name}" if assignee_id is not None else ""
    return " and ".join(part for part in (to_team, to_agent) if part) or "left it without an agent"


def agent_removed(name: str) -> Reason:
    """Its agent was removed."""
    return Reason(code="agent_removed", es=f"{name} ya no está en el equipo.", en=f"{name} is no longer with the team.")


_GONE: Final[Mapping[Cause, tuple[ReasonCode, str, str]]] = {
    "offline": ("holder_offline", "lleva {} sin conexión", "has been offline for {}"),
    "away": ("holder_away", "lleva {} ausente", "has been away for {}"),
    "off_shift": ("holder_off_shift", "lleva {} fuera de su turno", "has been outside of their shift for {}"),
    "unanswered": ("unanswered", "no respondió en {}", "did not answer within {}"),
}


def taken_back(back: TakeBack, holder: str, team: str | None) -> Reason:
    """Its holder has gone, or let its customer wait, for as long as the policy allows. `team`: which one has it now."""
    code, es, en = _GONE[back.cause]
    for_so_long = duration(back.after_seconds)
    es_to = f"pasa al equipo {team}" if team else "vuelve a la cola"
    en_to = f"it goes to the team {team}" if team else "back to the queue"
    return Reason(
        code=code, es=f"{holder} {es.format(for_so_long)}: {es_to}.", en=f"{holder} {en.format(for_so_long)}: {en_to}."
    )


def by_routing_rule(rule: str, team: str) -> Reason:
    """What the policy's rules look at became otherwise while it waited: another team has it now."""
    return Reason(
        code="routing_rule",
        es=f"Ahora le corresponde la regla «{rule}»: pasa al equipo {team}.",
        en=f"The rule “{rule}” fits it now: it goes to the team {team}.",
    )


def needs_of_rule(rule: str, needs: Needs) -> Reason:
    """While it waited, what it needs of whoever gets it became otherwise, by the rule that fits it, or by what that says."""
    es, en = skills.said(needs) or "nada", skills.said(needs) or "nothing"
    es_rule, en_rule = (f" por la regla «{rule}»", f" by the rule “{rule}”") if rule else ("", "")
    return Reason(
        code="routing_rule",
        es=f"En espera: ahora pide{es_rule}: {es}.",
        en=f"Waiting: it needs now{en_rule}: {en}.",
    )


def widened(after: timedelta, before: Needs, now: Needs) -> Reason:
    """It waited for so long that less is needed of whoever gets it."""
    waited, had = duration(after.total_seconds()), skills.said(before)
    es = f"ahora basta {skills.said(now)}" if now else "ahora puede llevársela cualquiera"
    en = f"{skills.said(now)} will do now" if now else "anybody will do now"
    return Reason(
        code="widened",
        es=f"Esperó {waited} con {had}: {es}.",
        en=f"It waited {waited} for {had}: {en}.",
    )


def owner_waited_for(name: str, seconds: float) -> Reason:
    """Its contact's owner did not come for as long as the policy waits for them."""
    waited = duration(seconds)
    return Reason(
        code="owner_absent",
        es=f"Esperó {waited} a {name}, responsable de este contacto, que no vino.",
        en=f"It waited {waited} for {name}, the owner of this contact, who did not come.",
    )


def overflowed(after: timedelta, team: str | None, to: str | None) -> Reason:
    """It waited for too long with its team, or with none: another one has it now, or anybody."""
    waited = duration(after.total_seconds())
    es = f"con el equipo {team}" if team else "sin equipo"
    en = f"with the team {team}" if team else "without a team"
    return Reason(
        code="overflow",
        es=f"Esperó {waited} {es}: {f'pasa al equipo {to}' if to else 'pasa a cualquiera'}.",
        en=f"It waited {waited} {en}: {f'it goes to the team {to}' if to else 'it goes to anybody'}.",
    )


def duration(seconds: float) -> str:
    """A time in words that are the same in both languages; `0 s` for less than a second."""
    whole = int(seconds)
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


_CLOSED: Final[Mapping[str, tuple[str, str]]] = {
    "resolved": ("Se cerró mientras esperaba.", "It was closed while it waited."),
    "snoozed": ("Se pospuso mientras esperaba.", "It was put off while it waited."),
    "bot": ("Se dejó a un bot mientras esperaba.", "It was left to a bot while it waited."),
}


def closed(why: str) -> Reason:
    """It was closed, put off or left to a bot while it waited."""
    es, en = _CLOSED[why]
    return Reason(code=why, es=es, en=en)


_DECLINED: Final[Mapping[DeclineReason, tuple[str, str]]] = {
    "no_time": ("no tiene tiempo", "has no time"),
    "not_my_field": ("no es de su área", "not their field"),
    "other": ("otro motivo", "another reason"),
}


def accepted(name: str, offered: Reason | None) -> Reason:
    """Whom it was offered to took it. `offered`: why it was offered to them."""
    es, en = (f"{offered.es} ", f"{offered.en} ") if offered is not None else ("", "")
    return Reason(code="accepted", es=f"{es}{name} la aceptó.", en=f"{en}{name} accepted it.")


def declined(name: str, why: DeclineReason | None) -> Reason:
    """Whom it was offered to did not want it, and may have said why."""
    es, en = (f" ({_DECLINED[why][0]})", f" ({_DECLINED[why][1]})") if why is not None else ("", "")
    return Reason(code="declined", es=f"{name} la rechazó{es}.", en=f"{name} declined it{en}.")


def let_pass(name: str, stood: timedelta) -> Reason:
    """Whom it was offered to did not answer."""
    within = duration(stood.total_seconds())
    return Reason(
        code="offer_timed_out",
        es=f"Se le ofreció a {name}, que no respondió en {within}.",
        en=f"It was offered to {name}, who did not answer within {within}.",
    )


def withdrawn(name: str) -> Reason:
    """Whom it was offered to went, or works on such ones no more, before they answered."""
    return Reason(
        code="offer_withdrawn",
        es=f"Se le ofreció a {name}, que ya no puede atenderla.",
        en=f"It was offered to {name}, who cannot take it any more.",
    )


def another_rule_than_offered(name: str) -> Reason:
    """While it was offered, another rule of the policy came to fit it."""
    return Reason(
        code="offer_withdrawn",
        es=f"Se le ofreció a {name} y se retiró: ahora le corresponde otra regla.",
        en=f"It was offered to {name} and withdrawn: another rule fits it now.",
    )


def team_changed(name: str, *, deleted: bool) -> Reason:
    """Its team was removed, or no longer hands out automatically (or does so again)."""
    if deleted:
        return Reason(code="team_changed", es=f"El equipo {name} ya no existe.", en=f"The team {name} is gone.")
    return Reason(
        code="team_changed",
        es=f"El equipo {name} cambió su asignación automática.",
        en=f"The team {name} changed its automatic assignment.",
    )


def team_by_hand(name: str) -> Reason:
    """Its team does not hand out automatically: somebody takes it by hand."""
    return Reason(
        code="no_candidates",
        es=f"El equipo {name} reparte a mano: alguien debe tomarla.",
        en=f"The team {name} hands out by hand: somebody must take it.",
    )
