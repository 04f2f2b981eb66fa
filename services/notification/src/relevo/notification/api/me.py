"""Whose notifications: a person's, never a key's."""

from typing import Annotated

from fastapi import Depends

from relevo.chassis.auth import Principal, require
from relevo.chassis.problems import Problem


async def _agent(who: Annotated[Principal, Depends(require())]) -> Principal:
    if who.kind != "agent":
        raise Problem(
            403,
            "not_an_agent",
            es="Solo una persona tiene notificaciones: una clave de API no.",
            en="Only a person has notifications: an API key has none.",
        )
    return who


Me = Annotated[Principal, Depends(_agent)]
