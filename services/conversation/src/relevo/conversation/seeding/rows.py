"""What a synthetic account holds: a pure function of the plan and the number of a block.

Blocks cover the account's history one after another, so that what is near in time is near on disk, as it is in an
account that has grown. The same plan gives the same rows, ids included, whichever process makes them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Final

from relevo.conversation.domain.state import stage_of
from relevo.conversation.seeding.texts import Texts
from relevo.kernel.identity import sender_key

BLOCK: Final = 1000
"""Conversations in a block: what one transaction writes."""

MESSAGES: Final = 10
"""Messages of a conversation, on average."""

HISTORY: Final = timedelta(days=730)
_LIVE: Final = 0.02
"""The share of the newest conversations of which most are not resolved yet; of the others few are open."""

_LABELS: Final = (
    "envío", "devolución", "factura", "pago", "garantía", "cambio de talla", "pedido retrasado", "producto dañado",
    "soporte técnico", "vip", "queja", "consulta", "presupuesto", "cancelación", "reserva", "stock", "promoción",
    "cuenta bloqueada", "tarjeta", "suscripción", "shipping", "refund", "invoice", "bug", "feature request", "fraude",
    "mayorista", "prensa", "empleo", "legal",
)  # fmt: skip
_FIRST: Final = (
    "Lucía", "Martín", "Sofía", "Mateo", "María", "José", "Ana", "Íñigo", "Begoña", "Raúl", "Nuria", "Óscar", "Elena",
    "Andrés", "Paula", "Jesús", "Carmen", "Iván", "Laura", "Héctor", "James", "Emma", "Olivia", "Noah", "Grace",
    "Henry", "Chloe", "Samuel", "Ruth", "Oliver",
)  # fmt: skip
_LAST: Final = (
    "García", "Muñoz", "Peña", "López", "Núñez", "Ibáñez", "Ruiz", "Vega", "Gil", "Ortega", "Castaño", "Domínguez",
    "Sáez", "Pérez", "Rodríguez", "Fernández", "Martínez", "Sánchez", "Jiménez", "Álvarez", "Moreno", "Romero",
    "Smith", "Johnson", "Brown", "Taylor", "Wilson", "Clark", "Walker", "Hughes", "Bennett", "Foster",
)  # fmt: skip
_SUBJECTS: Final = (
    "Pedido", "Factura", "Devolución", "Consulta", "Garantía", "Reserva", "Order", "Invoice", "Refund", "Question",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make, and among whom. ``now`` is where the history ends; ids are those of the directory."""

    account_id: str
    conversations: int
    now: datetime
    inboxes: Sequence[tuple[str, str]]
    """Id and channel; the first are the busiest."""
    agents: Sequence[str]
    teams: Sequence[str]

    @property
    def blocks(self) -> int:
        """How many blocks that is."""
        return -(-self.conversations // BLOCK)


@dataclass(slots=True)
class Rows:
    """The rows of one block, as COPY's text format takes them, by table."""

    contacts: list[str] = field(default_factory=list)
    contact_channels: list[str] = field(default_factory=list)
    conversations: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def by_table(self) -> Iterator[tuple[str, list[str]]]:
        """In an order in which they may be written."""
        yield "contacts", self.contacts
        yield "contact_channels", self.contact_channels
        yield "conversations", self.conversations
        yield "messages", self.messages


COLUMNS: Final[Mapping[str, str]] = {
    "contacts": "id, account_id, name, email, phone, language, labels, sequence, created_at",
    "contact_channels": "account_id, inbox_id, source_id, recipient_key, contact_id, created_at",
    "conversations": (
        "id, account_id, number, inbox_id, channel, contact_id, source_id, recipient_key, exclusive, status, stage,"
        " archived, priority, subject, language, labels, assignee_id, team_id, participant_ids, mentioned, owner_id,"
        " assignment_version, cycle, created_at, opened_at, resolved_at, first_reply_at, waiting_since,"
        " last_activity_at, message_count, sequence"
    ),
    "messages": (
        "id, account_id, conversation_id, sequence, kind, text, author, author_name, attachments, mentions, status,"
        " occurred_at, created_at"
    ),
}
"""The columns of each table that a seeding writes, in the order of its rows; the others have their defaults."""


class Maker:
    """Makes the blocks of one plan."""

    def __init__(self, plan: Plan, texts: Texts) -> None:
        self._plan = plan
        self._texts = texts
        self._inboxes = list(accumulate(1 / (n + 2) for n in range(len(plan.inboxes))))
        self._labels = list(accumulate(1 / (n + 1.5) for n in range(len(_LABELS))))
        self._start = plan.now - HISTORY

    def block(self, number: int) -> Rows:
        """The rows of the block of that number, from 0."""
        plan, rows = self._plan, Rows()
        random = Random(f"{plan.account_id}:{number}")
        contacts: list[tuple[str, str, str, str]] = []
        for n in range(number * BLOCK, min((number + 1) * BLOCK, plan.conversations)):
            begun = self._start + HISTORY * n / plan.conversations
            if not contacts or random.random() < 0.7:
                contacts.append(self._contact(rows, random, n, begun))
            # Who wrote lately writes again.
            self._conversation(rows, random, n, begun, random.choice(contacts[-200:]))
        return rows

    def _contact(self, rows: Rows, random: Random, n: int, begun: datetime) -> tuple[str, str, str, str]:
        plan = self._plan
        id_ = _uuid7(random, begun)
        name = f"{random.choice(_FIRST)} {random.choice(_LAST)} {random.choice(_LAST)}"
        phone = f"+346{n:08d}"
        email = f"cliente.{n}@correo.example" if random.random() < 0.6 else r"\N"
        language = "es" if random.random() < 0.7 else "en"
        rows.contacts.append(f"{id_}\t{plan.account_id}\t{name}\t{email}\t{phone}\t{language}\t{{}}\t1\t{_at(begun)}")
        return id_, name, phone, language

    def _conversation(
        self, rows: Rows, random: Random, n: int, begun: datetime, contact: tuple[str, str, str, str]
    ) -> None:
        plan = self._plan
        share = n / plan.conversations
        contact_id, name, phone, language = contact
        inbox_id, channel = random.choices(plan.inboxes, cum_weights=self._inboxes)[0]
        source = f"{phone}.{n}"
        key = sender_key(source)
        id_ = _uuid7(random, begun)
        live = random.random() < (0.85 if share > 1 - _LIVE else 0.004)
        status = random.choices(("open", "pending", "snoozed"), (7, 1, 2))[0] if live else "resolved"
        archived = not live and random.random() < 0.1
        assigned = random.random() < (0.6 if live else 0.9)
        assignee = random.choice(plan.agents) if assigned and plan.agents else None
        team = random.choice(plan.teams) if plan.teams and random.random() < 0.3 else None
        count = 1 + min(int(random.expovariate(1 / (MESSAGES - 0.5))), 80)
        participants = {random.choice(plan.agents)} if plan.agents and random.random() < 0.03 else set()
        labels = set(random.choices(_LABELS, cum_weights=self._labels, k=random.choices((0, 1, 2, 3), (4, 4, 2, 1))[0]))
        everybody: set[str] = set()
        at, first_reply, waiting = begun, None, None
        for sequence in range(1, count + 1):
            at = min(at + timedelta(seconds=random.expovariate(1 / 400)), plan.now)
            draw = random.random()
            kind, author, who, mentions, state = "incoming", f"contact:{contact_id}", name, "{}", "received"
            if sequence > 1 and assignee and draw < 0.5:
                author, who = f"agent:{assignee}", ""
                kind, state = ("note", "sent") if draw < 0.05 else ("outgoing", "delivered")
                if kind == "note" and random.random() < 0.2:
                    mentioned = random.choice(plan.agents)
                    participants.add(mentioned)
                    everybody.add(f"agent:{mentioned}")
                    mentions = f"{{agent:{mentioned}}}"
                elif kind == "outgoing":
                    first_reply, waiting = first_reply or at, None
            if kind == "incoming":
                waiting = waiting or at
            shown = _at(at)
            text = self._texts.draw(random, language, opening=sequence == 1)
            rows.messages.append(
                f"{_uuid7(random, at)}\t{plan.account_id}\t{id_}\t{sequence}\t{kind}\t{text}\t{author}\t{who}\t[]"
                f"\t{mentions}\t{state}\t{shown}\t{shown}"
            )
        if not live:
            waiting = None
        rows.contact_channels.append(f"{plan.account_id}\t{inbox_id}\t{source}\t{key}\t{contact_id}\t{_at(begun)}")
        fields = (
            id_, plan.account_id, n + 1, inbox_id, channel, contact_id, source, key, "f", status,
            stage_of(status, archived=archived, first_reply_at=first_reply),  # type: ignore[arg-type]
            "t" if archived else "f",
            random.choice(("low", "medium", "high", "urgent")) if random.random() < 0.05 else None,
            f"{random.choice(_SUBJECTS)} {random.randrange(10**6):06d}" if channel == "email" else "",
            language, _array(sorted(labels)), assignee, team, _array(sorted(participants)),
            _array(sorted(everybody)),
            random.choice(plan.agents) if plan.agents and random.random() < 0.02 else None,
            1 if assignee or team else 0, 1, _at(begun), _at(begun), None if live else _at(at),
            _at(first_reply) if first_reply else None, _at(waiting) if waiting else None, _at(at), count, count,
        )  # fmt: skip
        rows.conversations.append("\t".join(r"\N" if value is None else str(value) for value in fields))


def _uuid7(random: Random, at: datetime) -> str:
    digits = f"{int(at.timestamp() * 1000):012x}7{random.getrandbits(12):03x}{0x8000 | random.getrandbits(14):04x}"
    digits += f"{random.getrandbits(48):012x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _at(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _array(items: Sequence[str]) -> str:
    # Quoted as JSON quotes, for COPY's text format: nothing here holds a backslash or a quote.
    return "{" + ",".join(json.dumps(item, ensure_ascii=False) for item in items) + "}"
