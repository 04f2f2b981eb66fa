"""HTTP, by what it is about."""

from fastapi import APIRouter

from relevo.notification.api import lists, preferences, push

router = APIRouter(tags=["notifications"])
router.include_router(preferences.router)
router.include_router(push.router)
router.include_router(lists.router)
