"""HTTP: the account's rules of availability as a text, what decides a status, a short guide, and who has read it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Id, Time, now
from relevo.contracts.permissions import Permission
from relevo.contracts.presence import PresenceCause
from relevo.kernel.text import clean
from relevo.presence.domain.guide import GUIDE
from relevo.presence.domain.precedence import ROWS
from relevo.presence.store import policy as store
from relevo.presence.store import rules
from relevo.presence.store.policy import Acknowledged, Policy

router = APIRouter(tags=["presence"])

Reader = Annotated[Principal, Depends(require(Permission.PRESENCE_READ, Permission.PRESENCE_SELF))]
Myself = Annotated[Principal, Depends(require(Permission.PRESENCE_SELF))]
Manager = Annotated[Principal, Depends(require(Permission.PRESENCE_MANAGE))]
PolicyText = Annotated[str, StringConstraints(max_length=20_000, strip_whitespace=True), AfterValidator(clean)]


class PolicyIn(BaseModel):
    """The text in Markdown, in both languages; where one is empty the other is shown."""

    model_config = ConfigDict(extra="forbid")

    text_es: PolicyText = ""
    text_en: PolicyText = ""


class PrecedenceRow(BaseModel):
    """What is known of an agent, and their status then. The first that applies decides."""

    number: int
    known: str
    status: str
    causes: list[PresenceCause]


class GuideTopic(BaseModel):
    """One thing to know."""

    topic: str
    title: str
    text: str


class PolicyOut(PolicyIn):
    """``text``, ``precedence`` and ``guide`` are in the reader's language."""

    text: str
    version: int = Field(description="0: none was ever written.")
    updated_at: Time | None
    acknowledged_version: int = Field(description="Which one I have acknowledged; 0: none.")
    acknowledged_at: Time | None
    to_acknowledge: bool = Field(description="Show it, and ask: it is new to me, or another one than I know.")
    precedence: list[PrecedenceRow]
    guide: list[GuideTopic]

    @classmethod
    def of(cls, policy: Policy, mine: Acknowledged, who: Principal) -> "PolicyOut":
        es = who.language == "es"
        first, other = (policy.text_es, policy.text_en) if es else (policy.text_en, policy.text_es)
        return cls(
            text_es=policy.text_es,
            text_en=policy.text_en,
            text=first or other,
            version=policy.version,
            updated_at=policy.updated_at,
            acknowledged_version=mine.version,
            acknowledged_at=mine.at,
            to_acknowledge=who.kind == "agent" and bool(first or other) and mine.version < policy.version,
            precedence=[
                PrecedenceRow(
                    number=number,
                    known=row.es if es else row.en,
                    status=row.state_es if es else row.state_en,
                    causes=sorted(row.causes),
                )
                for number, row in enumerate(ROWS, start=1)
            ],
            guide=[
                GuideTopic(topic=one.topic, title=one.title_es if es else one.title_en, text=one.es if es else one.en)
                for one in GUIDE
            ],
        )


class Acknowledgement(BaseModel):
    """Which version one has read."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1)


class AcknowledgedBy(BaseModel):
    """Whether somebody has acknowledged the present version."""

    agent_id: Id
    name: str
    acknowledged_at: Time | None = Field(description="Null: not yet.")


@router.get("/presence/policy")
async def get_availability_policy(who: Reader, db: Db, response: Response) -> PolicyOut:
    """The account's rules of availability in its own words, what decides a status, and a short guide."""
    async with db.begin() as tx:
        policy, mine = await _read(tx, who)
    tag(response, policy.version)
    return PolicyOut.of(policy, mine, who)


@router.put("/presence/policy")
async def set_availability_policy(
    *, body: PolicyIn, who: Manager, db: Db, response: Response, if_match: IfMatch = None
) -> PolicyOut:
    """Write the account's rules of availability; everybody is asked to acknowledge them anew."""
    async with db.begin() as tx:
        await rules.lock(tx, who.account_id)
        before, mine = await _read(tx, who)
        check_match(if_match, before.version, PolicyOut.of(before, mine, who))
        policy = Policy(body.text_es, body.text_en, before.version + 1, now())
        await store.save(tx, who.account_id, policy, by=who.actor)
    tag(response, policy.version)
    return PolicyOut.of(policy, mine, who)


@router.post("/presence/policy/acknowledgement")
async def acknowledge_availability_policy(body: Acknowledgement, who: Myself, db: Db) -> PolicyOut:
    """Say that I have read this version, which must be the present one. Said again it changes nothing."""
    if who.kind != "agent":
        raise Problem(
            403,
            "not_an_agent",
            es="Solo una persona del equipo puede darse por enterada.",
            en="Only a person of the team can acknowledge it.",
        )
    async with db.begin() as tx:
        policy = await store.read(tx, who.account_id)
        if body.version != policy.version:
            raise Problem(
                409,
                "another_version",
                es="El texto ha cambiado: vuelve a leerlo.",
                en="The text has changed: read it again.",
                errors=[FieldError("/version", es="No es la versión vigente.", en="Not the present version.")],
            )
        await store.acknowledge(tx, who.account_id, who.id, body.version, now())
        mine = await store.acknowledged(tx, who.account_id, who.id)
    return PolicyOut.of(policy, mine, who)


@router.get("/presence/policy/acknowledgements")
async def list_policy_acknowledgements(
    who: Manager, db: Db, limit: Limit = 50, cursor: Cursor = None
) -> Page[AcknowledgedBy]:
    """Who has acknowledged the present version, and who has not yet."""
    after = paging.decode(cursor, str)[0] if cursor else ""
    async with db.begin() as tx:
        policy = await store.read(tx, who.account_id)
        rows = await store.who(tx, who.account_id, policy.version, after=after, limit=limit + 1)
    return paging.page(rows, limit, lambda row: (row["agent_id"],), lambda row: AcknowledgedBy(**row))


async def _read(tx: Tx, who: Principal) -> tuple[Policy, Acknowledged]:
    """The account's text, and what one has acknowledged of it oneself."""
    mine = await store.acknowledged(tx, who.account_id, who.id) if who.kind == "agent" else Acknowledged()
    return await store.read(tx, who.account_id), mine
