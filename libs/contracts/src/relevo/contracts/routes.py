"""Which service answers which path: the edge's route table."""

from dataclasses import dataclass

from relevo.contracts.catalogue import SERVICES

API = "/api/v1"


@dataclass(frozen=True, slots=True)
class Route:
    """Paths under ``/api/v1``: ``*`` stands for one segment; everything below the pattern belongs to it too."""

    pattern: str
    service: str


ROUTES: tuple[Route, ...] = (
    # The more particular first: the first match answers.
    Route("/conversations/*/assignment", "assignment"),
    Route("/conversations/*/decisions", "assignment"),
    Route("/conversations/*/offer", "assignment"),
    Route("/conversations/*/sla", "automation"),
    Route("/queue", "assignment"),
    Route("/offers", "assignment"),
    Route("/routing", "assignment"),
    Route("/conversations", "conversation"),
    Route("/contacts", "conversation"),
    Route("/labels", "conversation"),
    Route("/attributes", "conversation"),
    Route("/segments", "conversation"),
    Route("/macros", "conversation"),
    Route("/views", "conversation"),
    Route("/search", "conversation"),
    Route("/mentions", "conversation"),
    Route("/mentionable", "conversation"),
    Route("/drafts", "conversation"),
    Route("/reminders", "conversation"),
    Route("/signature", "conversation"),
    Route("/files", "conversation"),
    Route("/canned-replies", "conversation"),
    Route("/csat", "conversation"),
    Route("/bot", "conversation"),
    Route("/setup", "identity"),
    Route("/sign-up", "identity"),
    Route("/sessions", "identity"),
    Route("/me", "identity"),
    *(Route(f"/account/export/{service}", service) for service in SERVICES),
    Route("/account", "identity"),
    Route("/agents", "identity"),
    Route("/invitations", "identity"),
    Route("/oidc", "identity"),
    Route("/password-resets", "identity"),
    Route("/email-confirmations", "identity"),
    Route("/teams", "identity"),
    Route("/roles", "identity"),
    Route("/calendars", "identity"),
    Route("/api-keys", "identity"),
    Route("/adapter-credentials", "identity"),
    Route("/metrics-credentials", "identity"),
    Route("/bots", "identity"),
    Route("/audit", "identity"),
    Route("/inboxes", "ingest"),
    Route("/inbound", "ingest"),
    Route("/quarantine", "ingest"),
    Route("/dead-letters", "ingest"),
    Route("/presence", "presence"),
    Route("/rules", "automation"),
    Route("/rule-executions", "automation"),
    Route("/out-of-hours", "automation"),
    Route("/offline-answers", "automation"),
    Route("/webhooks", "automation"),
    Route("/sla", "automation"),
    Route("/alerts", "automation"),
    Route("/reports", "reporting"),
    Route("/webchat", "channels"),
    Route("/channels", "channels"),
    Route("/socket", "realtime"),
    Route("/notifications", "notification"),
)


def owner(path: str) -> str | None:
    """The service that answers a path below ``/api/v1``, or None."""
    segments = path.removeprefix(API).strip("/").split("/")
    for route in ROUTES:
        wanted = route.pattern.strip("/").split("/")
        if len(segments) >= len(wanted) and all(w in ("*", s) for w, s in zip(wanted, segments, strict=False)):
            return route.service
    return None
