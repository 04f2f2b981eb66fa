"""HTTP: parse, authorise, call, answer."""

from fastapi import APIRouter

from relevo.conversation.api import (
    acts,
    attributes,
    bulk,
    canned,
    contact_merges,
    contact_notes,
    contacts,
    contacts_import,
    conversations,
    desk,
    files,
    forwarding,
    labels,
    messages,
    owners,
    participants,
    personal_data,
    reminders,
    removal,
    search,
    segments,
    starting,
    surveys,
    transcript,
    views,
    waiting,
)

router = APIRouter()
# The first match answers: `views`, `desk` and `contacts_import` have paths that would be taken for an id.
for part in (
    views,
    search,
    desk,
    bulk,
    removal,
    reminders,
    starting,
    conversations,
    labels,
    acts,
    participants,
    messages,
    transcript,
    forwarding,
    surveys,
    files,
    contacts_import,
    waiting,
    segments,
    contacts,
    owners,
    contact_merges,
    contact_notes,
    personal_data,
    attributes,
    canned,
):
    router.include_router(part.router)
