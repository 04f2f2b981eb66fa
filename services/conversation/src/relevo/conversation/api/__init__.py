"""HTTP: parse, authorise, call, answer."""

from fastapi import APIRouter

from relevo.conversation.api import (
    acts,
    attributes,
    contact_notes,
    contacts,
    conversations,
    desk,
    messages,
    participants,
    views,
)

router = APIRouter()
# The first match answers: `views` and `desk` have paths that would be taken for a conversation's id.
for part in (
    views,
    desk,
    conversations,
    acts,
    participants,
    messages,
    contacts,
    contact_notes,
    attributes,
):
    router.include_router(part.router)
