"""What a service process is told by its environment."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from relevo.chassis.objects import Access, Folder, ObjectStore, open_store


class BadSettings(ValueError):
    """Settings that cannot be used; the message names each variable, what is wrong with it and never its value."""


def _postgres(url: str) -> str:
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("must look like postgresql://user:password@host:port/database")
    return url


def _nats(url: str) -> str:
    if not all(one.strip().startswith(("nats://", "tls://", "ws://", "wss://")) for one in url.split(",")):
        raise ValueError("must look like nats://host:4222 (several with commas between)")
    return url


def _store(url: str | None) -> str | None:
    if url is not None:
        open_store(url)
    return url


StoreUrl = Annotated[str | None, AfterValidator(_store)]
"""An object store: file:///folder or s3://bucket/prefix?endpoint=…&region=…"""


def _http(url: str | None) -> str | None:
    if url is not None and not all(one.strip().startswith(("http://", "https://")) for one in url.split(",")):
        raise ValueError("must look like http://host:8222 (several with commas between)")
    return url


class ServiceSettings(BaseSettings):
    """The settings that every service has, from variables RELEVO_<NAME>; a service adds its own by subclassing.

    What no variable says may stand in a file of the variable's name, in the folder that RELEVO_SECRETS names: there a
    container finds its secrets. Raises BadSettings. Durations are seconds.
    """

    model_config = SettingsConfigDict(env_prefix="RELEVO_", frozen=True, extra="ignore", env_ignore_empty=True)

    database_url: Annotated[str, AfterValidator(_postgres)] = Field(repr=False)
    pool_size: int = Field(4, ge=1, le=100)
    nats_url: Annotated[str, AfterValidator(_nats)] = Field("nats://127.0.0.1:4222", repr=False)
    nats_credentials: Path | None = None
    """The .creds file of the service's bus user."""
    nats_monitor_url: Annotated[str | None, AfterValidator(_http)] = None
    """The broker's monitoring address, as http://nats:8222 (of a cluster all, with commas): it alone tells how the server
    is configured."""
    allow_unsafe_broker: bool = False
    """Start although the broker may lose what it acknowledged (sync_interval is not `always`), or does not tell."""
    partition_lease_seconds: float = Field(4.0, ge=0.5, le=60)
    """How long a stopped process keeps its partitions."""

    http_host: str = "127.0.0.1"
    http_port: int = Field(8080, ge=0, le=65535)
    http_max_body_bytes: int = Field(1024 * 1024, ge=1024)
    http_max_connections: int = Field(1000, ge=1)
    """Requests and sockets served at once; more are answered 503."""
    http_keep_alive_seconds: int = Field(75, ge=1)
    http_docs: bool = False
    """Serve /docs and /openapi.json."""
    shutdown_seconds: float = Field(20.0, ge=1)
    """How long a stopping process waits for requests and batches under way."""
    loop_stall_seconds: float = Field(15.0, ge=1)
    """A process whose event loop stands still for so long ends itself (exit code 70)."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    crash: str | None = None
    """A crash point, `name` or `name:nth`: the process kills itself there. For tests."""
    files: Path | None = None
    """A folder for files."""
    s3_access_key_id: str | None = None
    s3_secret_access_key: SecretStr | None = None
    """Who we are to the object stores in buckets; without them, what the machine's environment grants."""
    archive_url: StoreUrl = None
    """The object store of the archive, file:///folder or s3://bucket/prefix; without one the folder `archive` below `files`, if that is set."""
    archive_after_seconds: float = Field(7 * 86400.0, ge=0)
    """How long ago an outbox day must have ended to be archived. Keep it at the streams' age or above."""
    archive_every_seconds: float = Field(3600.0, gt=0)

    erasure_settle_seconds: float = Field(60.0, ge=0)
    """How long after a person was erased what was under way then may still come to be written."""

    def archive(self) -> ObjectStore | None:
        """The object store of the archive; None: outbox days stay where they are."""
        if self.archive_url is not None:
            return self.store(self.archive_url)
        return Folder(self.files / "archive") if self.files is not None else None

    def store(self, url: str) -> ObjectStore:
        """The object store at a URL, with what these settings say of who we are."""
        if self.s3_access_key_id and self.s3_secret_access_key:
            return open_store(url, Access(self.s3_access_key_id, self.s3_secret_access_key.get_secret_value()))
        return open_store(url)

    def __init__(self, **values: Any) -> None:
        folder = os.environ.get("RELEVO_SECRETS") or None
        if folder is not None and not Path(folder).is_dir():
            raise BadSettings(f"RELEVO_SECRETS: {folder} is no folder")
        try:
            super().__init__(**values, _secrets_dir=folder)
        except ValidationError as error:
            raise BadSettings(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = "_".join(str(part) for part in problem["loc"]).upper()
        reason = "is not set" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
        lines.append(f"RELEVO_{name}: {reason}")
    return "these settings must be mended:\n  " + "\n  ".join(lines)
