"""What the endpoints share: who asks and from where, conditions, and the fields of bodies."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Database
from relevo.chassis.http import Rt
from relevo.chassis.problems import Problem
from relevo.identity import administration
from relevo.identity.administration import Act
from relevo.identity.bus_access import BusAccess
from relevo.identity.passwords import Passwords
from relevo.identity.settings import IdentitySettings
from relevo.identity.store.audit import By
from relevo.kernel.business_time import CalendarError, zone
from relevo.kernel.identity import InvalidIdentity, normal_email


class Body(BaseModel):
    """A request's body: a field that does not exist is an error, not silence."""

    model_config = ConfigDict(extra="forbid")


def _email(raw: str) -> str:
    try:
        return normal_email(raw)
    except InvalidIdentity:
        raise PydanticCustomError(
            "email",
            "not an e-mail address",
            {
                "es": "No es una dirección de correo: escríbela como nombre@ejemplo.com.",
                "en": "Not an e-mail address: write it as name@example.com.",
            },
        ) from None


def _zone(name: str) -> str:
    try:
        zone(name)
    except CalendarError:
        raise PydanticCustomError(
            "time_zone",
            "not a time zone",
            {
                "es": "No es una zona horaria IANA, como Europe/Madrid.",
                "en": "Not an IANA time zone, such as Europe/Madrid.",
            },
        ) from None
    return name


def plain(value: str) -> str:
    # PostgreSQL takes no NUL; other control characters have no business in a name.
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise PydanticCustomError(
            "control_characters",
            "control characters",
            {"es": "Contiene caracteres de control.", "en": "It contains control characters."},
        )
    return value


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120), AfterValidator(plain)]
Email = Annotated[str, StringConstraints(max_length=320), AfterValidator(_email)]
TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_zone)]
Language = Literal["es", "en"]
AnyText = Annotated[str, StringConstraints(max_length=4096)]
"""A secret as it was typed: judged later, so that too long a password gets its own error."""


def ids(values: list[UUID]) -> tuple[str, ...]:
    """Ids without repetition, in the order in which states hold them."""
    return tuple(sorted({str(value) for value in values}))


class Token(Body):
    """What stands behind the # in the link that was sent."""

    token: AnyText = Field(repr=False)


Anyone = Annotated[Principal, Depends(require())]


async def _person(who: Anyone) -> Principal:
    if who.kind != "agent":
        raise Problem(
            403,
            "not_an_agent",
            es="Esto es de una persona que ha iniciado sesión: una clave de API no puede.",
            en="This belongs to a person who is signed in: an API key cannot do it.",
        )
    return who


Person = Annotated[Principal, Depends(_person)]
"""An agent with a session, not a key."""


@dataclass(frozen=True, slots=True)
class Caller:
    """From where a request comes, and what the process has to serve it with."""

    request: Request
    settings: IdentitySettings
    passwords: Passwords
    bus: BusAccess

    @property
    def ip(self) -> str:
        return self.request.client.host if self.request.client else ""

    @property
    def user_agent(self) -> str:
        return self.request.headers.get("user-agent", "").replace("\x00", "")

    def by(self, who: Principal) -> By:
        return By(who.actor, who.name, self.ip, self.user_agent)

    @asynccontextmanager
    async def act(self, db: Database, who: Principal) -> AsyncIterator[Act]:
        """A transaction for one administrative act of this principal."""
        async with db.begin() as tx:
            yield await administration.begin(
                tx, who, self.by(who), access_token=timedelta(seconds=self.settings.access_token_seconds)
            )


async def _caller(request: Request, rt: Rt) -> Caller:
    settings = rt.settings
    assert isinstance(settings, IdentitySettings)
    return Caller(request, settings, rt.extra["passwords"], rt.extra["bus_access"])


Called = Annotated[Caller, Depends(_caller)]


def after(cursor: str | None) -> str | None:
    """The id after which a list ordered by id goes on."""
    if cursor is None:
        return None
    (last,) = paging.decode(cursor, str)
    return id_in_cursor(last)


def id_in_cursor(last: str) -> str:
    """The id that a cursor ends with. Raises Problem 422 when it is none."""
    try:
        return str(UUID(last))
    except ValueError:
        raise paging.invalid_cursor() from None
