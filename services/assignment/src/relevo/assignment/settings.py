"""Settings of the assignment service."""

from pydantic import Field

from relevo.chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """Durations are seconds."""

    matcher_poll: float = Field(1.0, gt=0)
    """How often the matcher looks without being woken: the safety net, not the way."""
    matcher_batch: int = Field(500, ge=1, le=5000)
    """How many inputs of a journal are decided in one transaction."""
