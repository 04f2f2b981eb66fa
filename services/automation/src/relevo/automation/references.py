"""What actions name: agents, teams and webhooks, which the account must have."""

from collections.abc import Iterable, Sequence

from relevo.automation.domain.actions import Action, AddNote, AssignAgent, AssignTeam, MailTeam, Post
from relevo.chassis import directory
from relevo.chassis.database import Tx
from relevo.chassis.problems import FieldError
from relevo.chassis.webhooks import endpoints

_AGENT, _TEAM, _ENDPOINT = "agent", "team", "webhook"


async def action_faults(tx: Tx, account_id: str, actions: Sequence[Action]) -> list[FieldError]:
    """What actions name that the account does not have, each with its place."""
    named = [(at, *one) for at, action in enumerate(actions) for one in _named(action)]
    kinds = {kind for _, _, kind, _ in named}
    known: dict[str, set[str]] = {}
    if _AGENT in kinds:
        known[_AGENT] = {agent.id for agent in await directory.agents(tx, account_id)}
    if _TEAM in kinds:
        known[_TEAM] = {team.id for team in await directory.teams(tx, account_id)}
    if _ENDPOINT in kinds:
        known[_ENDPOINT] = {one.id for one in await endpoints.subscriptions(tx, [account_id])}
    return [
        FieldError(f"/actions/{at}/{pointer}", es=es, en=en)
        for at, pointer, kind, id_ in named
        if id_ not in known[kind]
        for es, en in (_UNKNOWN[kind],)
    ]


_UNKNOWN = {
    _AGENT: ("No existe ese agente.", "There is no such agent."),
    _TEAM: ("No existe ese equipo.", "There is no such team."),
    _ENDPOINT: ("No existe ese webhook, o está apagado.", "There is no such webhook, or it is switched off."),
}


def _named(action: Action) -> Iterable[tuple[str, str, str]]:
    """(pointer, kind, id) of everything that an action names."""
    match action:
        case AssignAgent():
            yield "agent_id", _AGENT, action.agent_id
        case AssignTeam() | MailTeam():
            yield "team_id", _TEAM, action.team_id
        case Post():
            yield "endpoint_id", _ENDPOINT, action.endpoint_id
        case AddNote():
            for at, mention in enumerate(action.mentions):
                kind, _, id_ = mention.partition(":")
                yield f"mentions/{at}", kind, id_
        case _:
            return
