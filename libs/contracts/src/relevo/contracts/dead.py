"""What a consumer gave up on."""

from relevo.contracts.base import Id, Model, Time


class DeadLettered(Model):
    """A message that a service could not handle, whole, so that it can be looked at and retried."""

    dead_letter_id: Id
    service: str
    stream: str
    stream_seq: int
    subject: str
    headers: dict[str, str]
    body: str
    body_encoding: str = "utf-8"
    reason: str
    error: str
    attempts: int
    at: Time
