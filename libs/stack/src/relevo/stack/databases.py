"""A role and a database per service, each role with power over its own database only."""

from collections.abc import Callable, Mapping, Sequence

import psycopg
from psycopg import sql

EXTENSIONS: Mapping[str, tuple[str, ...]] = {"conversation": ("unaccent", "pg_trgm")}
"""Made by the superuser, so that no service needs to."""

LEAKPROOF: Sequence[str] = (
    "arraycontains(anyarray, anyarray)",
    "arrayoverlap(anyarray, anyarray)",
    "ts_match_vq(tsvector, tsquery)",
    "ts_match_qv(tsquery, tsvector)",
    "textlike(text, text)",
    "lower(text)",
)
"""Functions that indexes are searched by, and that PostgreSQL would run only on rows which the wall let through.

The wall between accounts is against a WHERE that somebody forgot, not against a function that tells what it saw: these
tell nothing but their answer.
"""


def prepare(dsn: str, extensions: Sequence[str]) -> None:
    """Do as superuser in a service's database what the service may not. May be done again."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for extension in extensions:
            connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(extension)))
        for function in LEAKPROOF:
            connection.execute(f"ALTER FUNCTION pg_catalog.{function} LEAKPROOF")


def name_of(service: str) -> str:
    return f"relevo_{service}"


def provision(dsn: Callable[[str], str], passwords: Mapping[str, str]) -> None:
    """Make what is missing of the services' roles and databases. `dsn`: the superuser's, by database."""
    with psycopg.connect(dsn("postgres"), autocommit=True) as connection:
        for database in ("postgres", "template1"):
            connection.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
        roles = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        databases = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for service, password in passwords.items():
            name = name_of(service)
            identifier = sql.Identifier(name)
            if name not in roles:
                connection.execute(
                    sql.SQL(
                        "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT PASSWORD {}"
                    ).format(identifier, sql.Literal(password))
                )
            if name not in databases:
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(identifier, identifier))
                connection.execute(sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(identifier))
    for service in passwords:
        prepare(dsn(name_of(service)), EXTENSIONS.get(service, ()))
