"""The HTTP interface of ingest."""

from fastapi import APIRouter

from relevo.ingest.api import dead_letters, inbound, inboxes, quarantine, senders

router = APIRouter()
router.include_router(inboxes.router)
router.include_router(inbound.router)
router.include_router(quarantine.router)
router.include_router(dead_letters.router)
router.include_router(senders.router)
