"""Wiring of the assignment service."""

import asyncio

from fastapi import APIRouter

from relevo.assignment import api, candidates, due, matcher, offers, past, policies, skills, waits, why
from relevo.assignment.exported import EXPORTED
from relevo.assignment.handlers import Handlers, project_facts
from relevo.assignment.personal import PERSONAL
from relevo.assignment.settings import Settings
from relevo.chassis import Consumer, Projection, Service
from relevo.chassis.service import Runtime
from relevo.contracts import streams


def build() -> Service:
    """The service, from the environment."""
    router = APIRouter()
    for part in (api, policies, skills, candidates, past, waits, offers, why):
        router.include_router(part.router)
    wanted = asyncio.Event()
    on = Handlers(wanted.set)

    async def match(runtime: Runtime) -> None:
        await matcher.run(runtime, wanted)

    return Service(
        name="assignment",
        settings=Settings(),
        migrations="relevo.assignment.migrations",
        consumers=(
            Consumer(streams.EVT_CONVERSATION, on.on_conversation),
            Consumer(streams.EVT_PRESENCE, on.on_presence),
            Consumer(streams.EVT_IDENTITY, on.on_directory),
            Consumer(streams.CMD_ASSIGNMENT, on.on_commands),
        ),
        exported=EXPORTED,
        router=router,
        workers=(match,),
        timers=due.handlers(wanted.set),
        projections=(
            Projection("conversation_facts", ("conversation_facts",), {streams.EVT_CONVERSATION: project_facts}),
        ),
        personal=PERSONAL,
        urgent=True,
    )
