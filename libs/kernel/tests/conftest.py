"""One connection to a real PostgreSQL, for the property tests that compare a rule in memory with the same rule in SQL."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine


@pytest.fixture(scope="session")
def database(servers) -> Iterator[Connection]:
    dsn = servers.create_database()
    engine = create_engine(dsn.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        yield connection
    engine.dispose()
    servers.drop_database(dsn)
