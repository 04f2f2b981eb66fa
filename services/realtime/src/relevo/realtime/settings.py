"""Settings of the realtime service."""

from pydantic import Field

from relevo.chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """Durations are seconds."""

    socket_ticket_seconds: int = Field(60, ge=5, le=600)
    sockets_per_agent: int = Field(10, ge=1)
    """Open at once in one process."""
    socket_buffer: int = Field(1000, ge=1)
    """Messages that may wait for a slow reader; more are dropped, and the socket is told to take a new snapshot."""
    socket_catch_up: int = Field(5000, ge=1)
    """Messages that a resumed socket is given at most; one that missed more is told to take a new snapshot."""
    heartbeat_seconds: float = Field(15, gt=0)
    """How often presence is told that a socket is open; well below its grace."""
    look_seconds: float = Field(30, gt=0)
    """For how long an agent counts as looking at a conversation unless the client says so again."""
    typing_seconds: float = Field(6, gt=0)
    """For how long somebody counts as typing unless it is said again."""
    rejudge_seconds: float = Field(1, gt=0)
    """How often the access of open sockets is compared with the directory."""
