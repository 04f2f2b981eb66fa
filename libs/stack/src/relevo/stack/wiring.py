"""What the stack knows of the services: which there are, what each may do on the bus, what its process is told."""

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from relevo.contracts.grants import Grants, service_grants
from relevo.stack.errors import StackError
from relevo.stack.home import Home
from relevo.stack.keys import BusKeys, write_secret

SERVICES = (
    "identity",
    "ingest",
    "conversation",
    "presence",
    "assignment",
    "automation",
    "reporting",
    "channels",
    "realtime",
    "notification",
)
PrepareBus = Callable[[str, Path], object]
"""Makes the streams: given the broker's URL and the topology user's .creds."""


def installed() -> tuple[str, ...]:
    """The services to run: those that RELEVO_SERVICES names, else all that this installation has.

    Raises StackError for a name that stands for no service.
    """
    named = tuple(name.strip() for name in os.environ.get("RELEVO_SERVICES", "").split(",") if name.strip())
    for name in named:
        if not name.isidentifier() or _source(name) is None:
            raise StackError(
                f"RELEVO_SERVICES names {name}, which is no service", f"Choose among {', '.join(SERVICES)}"
            )
    return named or tuple(name for name in SERVICES if _source(name) is not None)


def migrations_fingerprint(service: str) -> str:
    """Changes when a service's migrations, or what they stand on, change."""
    digest = hashlib.sha256()
    for package in (service, "chassis"):
        source = _source(package) if package == service else _package(package)
        if source is None:
            continue
        for file in sorted(source.rglob("*.py")):
            if "migrations" in file.relative_to(source).as_posix():
                digest.update(file.relative_to(source).as_posix().encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()


def topology_grants() -> Grants:
    """The user that makes and changes streams and durables: the one that may."""
    return Grants(("$JS.API.>",), ("_INBOX_topology.>",))


@dataclass(frozen=True, slots=True)
class BusFiles:
    """Where the .creds files lie."""

    services: Mapping[str, Path]
    topology: Path
    revocation: Path
    """The system account's user with which identity publishes revocations."""


def bus_files(home: Home, services: Iterable[str]) -> BusFiles:
    """Where they lie, once they are written."""
    paths = {name: home.secrets / f"{name}.creds" for name in services}
    return BusFiles(paths, home.secrets / "topology.creds", home.secrets / "identity-system.creds")


def write_bus_files(home: Home, keys: BusKeys, services: Iterable[str]) -> BusFiles:
    """Mint everyone's credentials from the catalogue's grants: a new version's grants hold from its first start."""
    grants_of = {**{name: service_grants(name) for name in services}, "topology": topology_grants()}
    files = bus_files(home, grants_of)
    for name, grants in grants_of.items():
        write_secret(files.services[name], keys.service_credentials(name, grants.publish, grants.subscribe))
    write_secret(files.revocation, keys.revocation_credentials())
    home.save_bus_keys(keys)
    return files


def environment(
    service: str,
    home: Home,
    *,
    database_url: str,
    nats_url: str,
    nats_monitor_url: str,
    files: BusFiles,
    http_port: int,
    public_url: str,
) -> dict[str, str]:
    """What a service's process is told, beside what our own environment says (log level, crash points)."""
    folder = home.path / "files" / service
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = {
        "RELEVO_DATABASE_URL": database_url,
        "RELEVO_NATS_URL": nats_url,
        "RELEVO_NATS_MONITOR_URL": nats_monitor_url,
        "RELEVO_NATS_CREDENTIALS": str(files.services[service]),
        "RELEVO_HTTP_HOST": "127.0.0.1",
        "RELEVO_HTTP_PORT": str(http_port),
        "RELEVO_FILES": str(folder),
        "RELEVO_SHUTDOWN_SECONDS": "15",  # less than the supervisor's grace
        "RELEVO_PUBLIC_URL": public_url,
    }
    if crashes := os.environ.get("RELEVO_CRASH_FOLDER"):
        told["RELEVO_CRASH_FOLDER"] = f"{crashes}/{service}"
    return told | own_secrets(service, home, revocation=files.revocation)


def own_secrets(service: str, home: Home, *, revocation: Path) -> dict[str, str]:
    """What only this service is told. `revocation`: where its process finds the .creds of that user."""
    if service == "identity":
        keys = home.bus_keys()
        return {
            "RELEVO_MASTER_KEY": home.secret("identity-master-key"),
            "RELEVO_SETUP_TOKEN": home.secret("setup-token"),
            "RELEVO_BUS_ACCOUNT": keys.account.public,
            "RELEVO_BUS_SIGNING_SEED": keys.issuing_signing.seed,
            "RELEVO_BUS_OPERATOR_SEED": keys.operator_signing.seed,
            "RELEVO_BUS_SYSTEM_CREDENTIALS": str(revocation),
            "RELEVO_BUS_SIGNING_KEYS": json.dumps([keys.services_signing.public, keys.issuing_signing.public]),
        }
    if service in {"automation", "channels"}:
        return {"RELEVO_MASTER_KEY": home.secret(f"{service}-master-key")}
    if service == "notification":
        return {"RELEVO_VAPID_SEED": home.secret("vapid-seed")}
    return {}


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(f"relevo.{name}")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _source(service: str) -> Path | None:
    package = _package(service)
    return package if package is not None and (package / "__main__.py").exists() else None
