"""Wiring: what runs in this service."""

from dataclasses import replace
from functools import partial

from relevo.chassis import Consumer, Service
from relevo.contracts import streams
from relevo.conversation import api, due, erasing, handlers, importing, retention, surveys
from relevo.conversation.exported import EXPORTED
from relevo.conversation.personal import PERSONAL
from relevo.conversation.resolutions import SURVEY
from relevo.conversation.settings import Settings


def build() -> Service:
    """The conversation service, configured by its environment."""
    settings = Settings()
    files = partial(retention.forget_files, objects=settings.attachments())
    return Service(
        name="conversation",
        settings=settings,
        migrations="relevo.conversation.migrations",
        consumers=(
            Consumer(streams.EVT_INGEST, handlers.on_ingest),
            Consumer(streams.EVT_ASSIGNMENT, handlers.on_assignment),
            Consumer(streams.CMD_CONVERSATION, handlers.on_commands),
            Consumer(streams.CMD_ERASURE, erasing.on_erasure),
        ),
        exported=replace(EXPORTED, files=partial(retention.files_of, objects=settings.attachments())),
        router=api.router,
        placed=streams.EVT_CONVERSATION,
        timers={**due.TIMERS, SURVEY: surveys.asker(settings.public_url)},
        workers=(retention.run, importing.run),
        drop_outside=partial(retention.drop_files, objects=settings.attachments()),
        personal=replace(PERSONAL, also=erasing.also, outside=files, finish=erasing.finish),
    )
