"""Search: candidates by words, the newest first and bounded, then what the viewer may see of them.

Every lexeme begins with the account and a stretch of three days (`search_prefix`), so that one index is as many small ones,
and the newest stretches are looked through first, until there is enough (docs/adr/0017).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, DateTime, Integer, String, Uuid, and_, column, func, literal, select, text, true

from relevo.chassis.database import Tx
from relevo.conversation.domain.search import Word
from relevo.conversation.filters import Filters, conditions
from relevo.conversation.lists import FACTS
from relevo.conversation.store.contacts import CONTACT_COLUMNS
from relevo.conversation.store.rows import Row, plain
from relevo.conversation.tables import contacts, conversations, messages
from relevo.kernel.access import Viewer, visible

EXAMINED: Final = 1000
"""Candidates that are looked at for one answer, at most."""

NEWEST: Final = 5000
"""Contacts that are looked through before the index of fragments is asked."""

BLOCK: Final = 100
"""Hits that are ranked together."""

_TRIGRAM: Final = 3

_ID: Final = Uuid(as_uuid=False)
_c = conversations.c
_m = messages.c

_FORMS = text(
    """
    select t.n, w.word, search_stems_es(w.word) as spanish, search_stems_en(w.word) as english
    from unnest(cast(:words as text[])) with ordinality as t(word, n),
        unnest(string_to_array(search_plain(t.word), ' ')) with ordinality as w(word, place)
    where w.word <> ''
    order by t.n, w.place
    """
)

# What stands in `b` is fenced off, so that the condition on `words` is one operator, and the index may serve it behind
# row-level security.
_CANDIDATES: Final = """
    select w.id, w.conversation_id, w.kind, w.at, b.bucket
    from (
        select bucket, cast(replace(cast(:pattern as text), '~', search_prefix(account_id, bucket)) as tsquery) as query
        from search_buckets
        where account_id = cast(:account as uuid) and bucket <= search_bucket(cast(:before_at as timestamptz))
        order by bucket desc
        offset 0
    ) b
    cross join lateral (
        select s.id, s.conversation_id, s.kind, s.at
        from search_words s
        where s.words @@ b.query and s.account_id = cast(:account as uuid) and (s.at, s.id) < (cast(:before_at as timestamptz), cast(:before_id as uuid))
        order by s.at desc, s.id desc
        limit cast(:examined as integer)
    ) w
    order by b.bucket desc, w.at desc, w.id desc
    limit cast(:examined as integer)
"""
_CONVERSATIONS = text(f"select distinct cast(conversation_id as text) from ({_CANDIDATES}) c")


@dataclass(frozen=True, slots=True)
class Looked:
    """What is looked for: the tsquery pattern, phrases that must be there word by word, and how far back from."""

    pattern: str
    phrases: tuple[str, ...]
    before: tuple[datetime, str]

    @property
    def examined(self) -> int:
        """How many candidates one answer looks at. A phrase is compared word by word."""
        return EXAMINED // 4 if self.phrases else EXAMINED

    def parameters(self, account_id: str) -> dict[str, Any]:
        """Of the candidates."""
        at, id_ = self.before
        return {
            "pattern": self.pattern,
            "account": account_id,
            "before_at": at,
            "before_id": id_,
            "examined": self.examined,
        }


async def forms(tx: Tx, words: Sequence[str], *, verbatim: int = 0, open_end: bool) -> list[Word]:
    """The words as they are indexed: several where one is written with a separator. The first ``verbatim`` have no forms."""
    rows = list(await tx.execute(_FORMS, {"words": list(words)}))
    return [
        Word(
            # What has the word has its stems, too.
            forms=(row.n > verbatim and tuple(dict.fromkeys([*row.spanish, *row.english]))) or (row.word,),
            begun=row.word if open_end and row is rows[-1] else None,
            common=not row.spanish or not row.english,
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Hits:
    """What was found, the newest first, and the place of the last candidate if as many were looked at as one answer may."""

    rows: Sequence[Row]
    last: tuple[datetime, str] | None


async def messages_found(tx: Tx, viewer: Viewer, looked: Looked, filters: Filters, by: Any = None) -> Hits:
    """At most BLOCK + 1 hits that the viewer may see; with so many, no last candidate. ``by``: a condition on the author."""
    candidate = (
        text(_CANDIDATES)
        .bindparams(**looked.parameters(viewer.account_id))
        .columns(
            column("id", _ID),
            column("conversation_id", _ID),
            column("kind", String),
            column("at", DateTime(timezone=True)),
            column("bucket", Integer),
        )
        .cte("candidate")
    )
    newest = candidate.c.bucket.desc(), candidate.c.at.desc(), candidate.c.id.desc()
    said: ColumnElement[str] = func.coalesce(_m.text, _c.subject)
    wanted: list[Any] = [visible(viewer, FACTS), *conditions(viewer.account_id, filters)]
    for phrase in looked.phrases:
        spaced = literal(" ").concat(func.search_plain(said)).concat(" ")
        wanted.append(spaced.contains(func.concat(" ", func.search_plain(phrase), " ")))
    if by is not None:
        wanted.append(by)
    hit = (
        select(
            candidate.c.id,
            candidate.c.kind,
            candidate.c.at,
            candidate.c.bucket,
            said.label("text"),
            _m.author,
            _m.author_name,
            _c.id.label("conversation_id"),
            _c.number,
            _c.inbox_id,
            _c.channel,
            _c.status,
            _c.subject,
            contacts.c.id.label("contact_id"),
            contacts.c.name.label("contact_name"),
        )
        .select_from(candidate)
        .join(conversations, _c.id == candidate.c.conversation_id)
        .join(contacts, contacts.c.id == _c.contact_id)
        .outerjoin(messages, and_(_m.id == candidate.c.id, _m.account_id == viewer.account_id))
        .where(*wanted)
        .order_by(*newest)
        .limit(BLOCK + 1)
        .cte("hit")
    )
    # Both read the candidates that were found once; this one only when the hits made somebody find them all.
    few = select(func.count()).select_from(hit).scalar_subquery() <= BLOCK
    last = (
        select(candidate.c.at.label("last_at"), candidate.c.id.label("last_id"))
        .where(few)
        .order_by(*newest)
        .offset(looked.examined - 1)
        .limit(1)
        .subquery("last")
    )
    one = select(literal(1)).subquery("one")
    statement = (
        select(hit, last)
        .select_from(one.outerjoin(hit, true()).outerjoin(last, true()))
        .order_by(hit.c.bucket.desc(), hit.c.at.desc(), hit.c.id.desc())
    )
    found = list(plain(await tx.execute(statement)))
    at, id_ = found[0]["last_at"], found[0]["last_id"]
    return Hits([row for row in found if row["id"] is not None], None if at is None else (at, id_))


async def conversations_found(tx: Tx, account_id: str, looked: Looked) -> list[str]:
    """The conversations of the candidates; whether they may be seen is asked where they are listed."""
    return list((await tx.execute(_CONVERSATIONS, looked.parameters(account_id))).scalars())


async def contacts_found(tx: Tx, account_id: str, fragments: Sequence[str], limit: int) -> Sequence[Row]:
    """Contacts that have each of these fragments in name, e-mail, phone, identifier or company; the newest first.

    What many have is found among the newest; what few have, by the index of fragments. Fragments of less than three
    characters, of which that index knows nothing, are looked for among the newest only.
    """
    names = [f"fragment_{n}" for n in range(len(fragments))]
    having = " and ".join(f"p.plain like :{name}" for name in names)
    given = {name: f"%{_escaped(fragment)}%" for name, fragment in zip(names, fragments, strict=True)}
    shown = "order by p.created_at desc, p.id desc limit :limit"
    newest = "select * from contacts where account_id = :account order by created_at desc, id desc limit :newest"
    among = text(f"select {CONTACT_COLUMNS}, p.created_at from ({newest}) p where {having} {shown}")
    about = {"account": account_id, "limit": limit, **given}
    found = list(plain(await tx.execute(among, about | {"newest": NEWEST})))
    if len(found) >= limit or any(len(fragment) < _TRIGRAM for fragment in fragments):
        return found
    # Fenced off, so that nobody thinks of reading in the order of time until enough are found.
    every = f"select * from contacts p where p.account_id = :account and {having} offset 0"
    return list(
        plain(await tx.execute(text(f"select {CONTACT_COLUMNS}, p.created_at from ({every}) p {shown}"), about))
    )


def _escaped(fragment: str) -> str:
    return fragment.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
