"""Configuration of reporting."""

from relevo.chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """What every service has; reporting has nothing of its own."""
