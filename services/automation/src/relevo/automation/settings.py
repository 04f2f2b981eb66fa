"""Configuration of automation."""

from pydantic import Field

from relevo.chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """What every service has, and the loop guard."""

    rule_depth_limit: int = Field(8, ge=1, le=100)
    """Automatic steps (a rule's command, and the event that comes of it, are two) after which no rule fires any more."""
