"""HTTP: parse, authorise, call, answer."""

from fastapi import APIRouter

from relevo.presence.api import past, policy, rules, shifts, status

router = APIRouter()
# The first match answers: `status` has a path that takes anything for an agent's id.
for part in (past, policy, rules, shifts, status):
    router.include_router(part.router)
