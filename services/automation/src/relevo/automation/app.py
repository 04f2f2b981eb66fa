"""What runs in automation."""

from fastapi import APIRouter

from relevo.automation import (
    alerts,
    alerts_api,
    api,
    offline,
    offline_api,
    out_of_hours,
    out_of_hours_api,
    sla_api,
    trying_api,
    webhooks_api,
)
from relevo.automation.absences import ABSENCE, Absences
from relevo.automation.alerts import ALERT, Alerts
from relevo.automation.carrying_out import WAIT, CarryingOut
from relevo.automation.exported import EXPORTED
from relevo.automation.handlers import Automaton
from relevo.automation.personal import PERSONAL
from relevo.automation.schedules import SCHEDULE, on_schedule
from relevo.automation.settings import Settings
from relevo.automation.sla import CLOCK, RECKON, Sla
from relevo.automation.webhooks import Webhooks
from relevo.chassis import Consumer, Projection, Runtime, Service, labels
from relevo.contracts import streams


def build() -> Service:
    """The service, wired."""
    settings = Settings()
    webhooks = Webhooks(settings)
    carrying_out = CarryingOut(webhooks)
    automaton = Automaton(settings.rule_depth_limit, settings.rule_hourly_limit, carrying_out)
    sla = Sla(webhooks, automaton)
    watching = Alerts(webhooks)
    absences = Absences()

    async def setup(runtime: Runtime) -> None:
        await webhooks.setup(runtime)
        carrying_out.setup(runtime)
        sla.setup(runtime)
        watching.setup(runtime)
        absences.setup(runtime)

    router = APIRouter()
    router.include_router(trying_api.router)
    router.include_router(api.router)
    router.include_router(out_of_hours_api.router)
    router.include_router(offline_api.router)
    router.include_router(webhooks_api.router)
    router.include_router(sla_api.router)
    router.include_router(alerts_api.router)
    return Service(
        name="automation",
        settings=settings,
        migrations="relevo.automation.migrations",
        consumers=(
            Consumer(streams.EVT_CONVERSATION, automaton.on_conversation),
            Consumer(streams.EVT_CONVERSATION, out_of_hours.on_conversation),
            Consumer(streams.EVT_CONVERSATION, offline.on_conversation),
            Consumer(streams.EVT_CONVERSATION, webhooks.on_conversation),
            Consumer(streams.EVT_CONVERSATION, sla.on_conversation),
            Consumer(streams.EVT_PRESENCE, offline.on_presence),
            Consumer(streams.EVT_PRESENCE, watching.on_presence),
            Consumer(streams.EVT_PRESENCE, absences.on_presence),
            Consumer(streams.EVT_IDENTITY, sla.on_identity),
            Consumer(streams.EVT_IDENTITY, watching.on_identity),
            Consumer(streams.EVT_IDENTITY, absences.on_identity),
        ),
        exported=EXPORTED,
        router=router,
        workers=(webhooks.run, webhooks.forget),
        setup=setup,
        timers={
            CLOCK: sla.on_clock,
            RECKON: sla.on_reckon,
            ALERT: watching.on_alert,
            WAIT: carrying_out.on_wait,
            SCHEDULE: on_schedule,
            ABSENCE: absences.on_absence,
        },
        projections=(
            Projection("labels", labels.TABLES, {streams.EVT_CONVERSATION: labels.kept}),
            Projection("agents_there", ("agents_there",), {streams.EVT_PRESENCE: offline.on_presence}),
            Projection("alert_statuses", ("alert_statuses",), {streams.EVT_PRESENCE: alerts.keep}),
        ),
        personal=PERSONAL,
    )
