"""What a desk asks of an account of conversations: every list, filter, count and search, opening and replying.

Each kind makes one random question; the questions go through the service's own code, against its own database.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.contracts.base import new_id, now
from relevo.contracts.permissions import ROLES, ConversationScope, Permission
from relevo.conversation import lists, searching
from relevo.conversation.changes import Changes
from relevo.conversation.domain import writing
from relevo.conversation.domain.state import Writing
from relevo.conversation.filters import UNRESOLVED_STATUSES, Filters, within_channels
from relevo.conversation.store import conversations, counts, messages
from relevo.kernel.access import Viewer

Ask = Callable[[Tx, Viewer], Awaitable[Any]]
"""One question, ready to be asked."""

STOP_WORDS = ("de", "la", "que", "el", "en", "y", "the", "to", "is", "a", "of", "and")
_SAMPLE = text("select text from messages tablesample system (:share) where account_id = :account limit 4000")
_SEEN = text(
    "select cast(id as text) as id, cast(contact_id as text) as contact from conversations"
    " tablesample system (:share) where account_id = :account limit 2000"
)
_LABELS = text("select labels from conversations where account_id = :account and labels <> '{}' limit 3000")


@dataclass(frozen=True)
class Account:
    """What questions can be about."""

    id: str
    inboxes: Sequence[str]
    channels: Mapping[str, str]
    """Of each inbox."""
    agents: Sequence[str]
    teams: Sequence[str]
    labels: Sequence[str]
    common: Sequence[str]
    rare: Sequence[str]
    names: Sequence[str]
    conversations: Sequence[str]
    contacts: Sequence[str]

    @property
    def administrator(self) -> Viewer:
        """Who sees everything."""
        return Viewer(self.id, self.agents[0], frozenset(Permission), ConversationScope.ALL)

    @property
    def agent(self) -> Viewer:
        """An agent of two of the inboxes and one team."""
        role = ROLES["agent"]
        mine = frozenset(self.inboxes[3:5]), frozenset(self.teams[:1])
        return Viewer(self.id, self.agents[1], role.permissions, role.scope, mine[1], mine[0])


async def account_of(tx: Tx, told: dict[str, Any]) -> Account:
    """The account as it is in the database. ``told``: ids of account, inboxes, agents and teams, as a seeding got them."""
    about = {"account": told["account_id"]}
    estimate = (
        await tx.execute(text("select greatest(reltuples, 1) from pg_class where relname = 'messages'"))
    ).scalar_one()
    share = min(100.0, 1_000_000 / float(estimate))
    words = Counter(
        word
        for (said,) in await tx.execute(_SAMPLE, about | {"share": share})
        for word in set(said.lower().split())
        if word.isalpha() and word not in STOP_WORDS and len(word) > 2
    )
    seen = list(await tx.execute(_SEEN, about | {"share": min(100.0, share * 5)}))
    used = Counter(label for (labels,) in await tx.execute(_LABELS, about) for label in labels)
    ranked = [word for word, _ in words.most_common()]
    return Account(
        id=told["account_id"],
        inboxes=[inbox for inbox, _ in told["inboxes"]],
        channels=dict(told["inboxes"]),
        agents=told["agents"],
        teams=told["teams"],
        labels=list(used),
        common=ranked[:40],
        rare=[word for word, n in words.items() if n == 1] or ranked[-40:],
        names=("muñoz", "garcia", "nunez", "Íñigo", "walker", "lucia ped", "cliente.77", "600 00", "34600", "peña"),
        conversations=[row.id for row in seen],
        contacts=[row.contact for row in seen],
    )


class Questions:
    """Kinds of questions by name, each answering a random one."""

    def __init__(self, account: Account, seed: int = 1) -> None:
        self._account = account
        self._random = random.Random(seed)
        self.kinds: dict[str, Callable[[], Ask]] = {
            **{f"list by {sort}": self._list_by(sort) for sort in lists.ORDERS},
            "list, tenth page": self._deep,
            **{f"filter {name}": self._filtered(name) for name in self._filters()},
            "two filters": self._two,
            "view mine": lambda: self._listed(Filters(status=UNRESOLVED_STATUSES, assignee_id=self._one("agents"))),
            "view unassigned": lambda: self._listed(Filters(status=UNRESOLVED_STATUSES, unassigned=True)),
            "view mentions": lambda: self._listed(
                Filters(status=UNRESOLVED_STATUSES, mentioned=(f"agent:{self._one('agents')}",))
            ),
            "view participating": lambda: self._listed(
                Filters(status=UNRESOLVED_STATUSES, participant_id=self._one("agents"))
            ),
            "view unattended": lambda: self._listed(Filters(unattended=True)),
            "counts of standing views": lambda: counts.standing,
            "count of a filter": self._count,
            "search rare word": lambda: self._search(self._one("rare") + " "),
            "search common word": lambda: self._search(self._one("common") + " "),
            "search stop word": lambda: self._search(self._random.choice(STOP_WORDS) + " "),
            "search two words": lambda: self._search(f"{self._one('common')} {self._one('rare')} "),
            "search while typing": lambda: self._search(self._one("common")[: self._random.randint(2, 5)]),
            "search phrase": lambda: self._search(f'"{self._one("common")} {self._one("common")}"'),
            "search code": lambda: self._search(f"PED-{self._random.randrange(10**7):07d}"),
            "search in label": lambda: self._search(f'{self._one("common")} label:"{self._one("labels")}"'),
            "search contacts": self._contacts,
            "open": self._open,
            "reply": self._reply,
        }

    def _one(self, of: str) -> str:
        return str(self._random.choice(getattr(self._account, of)))

    def _filters(self) -> dict[str, Callable[[], dict[str, Any]]]:
        ago = lambda days: now() - timedelta(days=days)  # noqa: E731
        return {
            "status": lambda: {"status": (self._random.choice(("open", "pending", "snoozed", "resolved")),)},
            "stage": lambda: {"stage": (self._random.choice(("new", "in_progress", "closed", "archived")),)},
            "channel": self._channel,
            "inbox": lambda: {"inbox_ids": (self._one("inboxes"),)},
            "assignee": lambda: {"assignee_id": self._one("agents")},
            "nobody": lambda: {"unassigned": True},
            "team": lambda: {"team_id": self._one("teams")},
            "label": lambda: {"labels": (self._one("labels"),)},
            "priority": lambda: {"priority": (self._random.choice(("low", "medium", "high", "urgent")),)},
            "dates": lambda: {"created": (ago(day := self._random.randint(2, 700)), ago(day - 2))},
            "contact": lambda: {"contact_id": self._one("contacts")},
        }

    def _channel(self) -> dict[str, Any]:
        return {"channel": (self._random.choice(sorted(set(self._account.channels.values()))),)}

    def _filtered(self, name: str) -> Callable[[], Ask]:
        return lambda: self._listed(Filters(**self._filters()[name]()))

    def _two(self) -> Ask:
        made = self._filters()
        one, other = self._random.sample(sorted(made), 2)
        return self._listed(replace(Filters(**made[one]()), **made[other]()))

    def _listed(self, filters: Filters) -> Ask:
        asked = within_channels(filters, self._account.channels)
        return lambda tx, viewer: lists.conversations_page(tx, viewer, asked, 50)

    def _list_by(self, sort: Any) -> Callable[[], Ask]:
        status = (UNRESOLVED_STATUSES, ())
        return lambda: self._ordered(Filters(status=self._random.choice(status)), sort)

    def _ordered(self, filters: Filters, sort: Any) -> Ask:
        return lambda tx, viewer: lists.conversations_page(tx, viewer, filters, 50, sort=sort)

    def _deep(self) -> Ask:
        moment = now() - timedelta(days=self._random.randint(1, 700))
        place = (0, [moment.replace(second=0, microsecond=0), moment, new_id()])
        return lambda tx, viewer: lists.conversations_page(tx, viewer, Filters(), 50, after=place)

    def _count(self) -> Ask:
        made = self._filters()
        filters = within_channels(Filters(**made[self._random.choice(sorted(made))]()), self._account.channels)
        return lambda tx, viewer: lists.count(tx, viewer, filters)

    def _search(self, typed: str) -> Ask:
        return lambda tx, viewer: searching.messages_of(tx, viewer, typed, 20, None)

    def _contacts(self) -> Ask:
        typed = self._one("names")
        return lambda tx, viewer: searching.contacts_of(tx, viewer, typed, 20)

    def _open(self) -> Ask:
        id_ = self._one("conversations")

        async def ask(tx: Tx, viewer: Viewer) -> Any:
            await lists.conversation(tx, viewer, id_)
            return await messages.page(tx, viewer.account_id, id_, 50, None, newest_first=True)

        return ask

    def _reply(self) -> Ask:
        key = (self._account.id, self._one("conversations"))

        async def ask(tx: Tx, viewer: Viewer) -> Any:
            locked = await conversations.lock(tx, [key])
            said = Writing(new_id(), "Gracias por su mensaje, lo reviso ahora", f"agent:{viewer.agent_id}", "Ana")
            if locked[key].state.archived:
                return None
            changes = Changes(locked)
            changes.apply(writing.reply(locked[key], said, now()), actor=f"agent:{viewer.agent_id}")
            await changes.save(tx)
            return await tx.flush()

        return ask
