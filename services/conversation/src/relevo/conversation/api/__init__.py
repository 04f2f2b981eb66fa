"""HTTP: parse, authorise, call, answer."""

from fastapi import APIRouter

from relevo.conversation.api import contacts, conversations, messages

router = APIRouter()
for part in (conversations, messages, contacts):
    router.include_router(part.router)
