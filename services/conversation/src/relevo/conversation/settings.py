"""The service's configuration."""

from relevo.chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """Nothing of its own beyond what every service has."""
