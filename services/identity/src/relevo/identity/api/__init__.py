"""The HTTP interface of identity, one module for each part."""

from fastapi import APIRouter

from relevo.identity.api import (
    accounts,
    agents,
    audit,
    bots,
    bus_credentials,
    calendars,
    deletions,
    invitations,
    keys,
    me,
    oidc,
    passwords,
    roles,
    second_factor,
    sessions,
    setup,
    sign_up,
    switching,
    teams,
)

router = APIRouter()
for part in (
    setup,
    sign_up,
    sessions,
    switching,
    oidc,
    me,
    second_factor,
    passwords,
    accounts,
    deletions,
    agents,
    invitations,
    teams,
    roles,
    calendars,
    keys,
    bus_credentials,
    bots,
    audit,
):
    router.include_router(part.router)
