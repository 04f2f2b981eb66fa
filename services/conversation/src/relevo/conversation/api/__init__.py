"""HTTP: parse, authorise, call, answer."""

from fastapi import APIRouter

from relevo.conversation.api import acts, contacts, conversations, messages

router = APIRouter()
for part in (conversations, acts, messages, contacts):
    router.include_router(part.router)
