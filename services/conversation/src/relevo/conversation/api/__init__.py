"""HTTP: parse, authorise, call, answer."""

from fastapi import APIRouter

from relevo.conversation.api import acts, attributes, contact_notes, contacts, conversations, messages, views

router = APIRouter()
for part in (views, conversations, acts, messages, contacts, contact_notes, attributes):
    router.include_router(part.router)
