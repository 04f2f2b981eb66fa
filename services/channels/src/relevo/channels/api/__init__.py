"""HTTP of the channels: their configuration, and the webchat's public side."""

from fastapi import APIRouter

from relevo.channels.api import channels, webchat

router = APIRouter()
router.include_router(channels.router)
router.include_router(webchat.router)
