"""A database with the example schema, and roles that log in to it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.example.example_schema import ADMIN, apply_all, apply_repeatables, make_login

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def template(server: ThrowawayServer) -> Iterator[str]:
    """Name of a database with every migration and one administrator, to clone: nobody connects to it any more."""
    name = "example_template"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        apply_all(server.url(name))
        yield name
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def migrated(server: ThrowawayServer, template: str) -> Iterator[str]:
    """URL, as the owner, of a fresh database with every migration and one administrator."""
    name = f"example{next(_numbers)}"
    clone = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(clone)
    yield server.url(name)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def _shop(server: ThrowawayServer, template: str) -> Iterator[str]:
    name = "example_shop"
    identifiers = [sql.Identifier(name), sql.Identifier(template)]
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*identifiers))
        yield server.url(name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(*identifiers[:1]))


@pytest.fixture
def shop(_shop: str) -> str:
    """URL, as the owner, of a database that all tests share, as empty as after the migrations.

    For tests that change rows and not the schema: making a database costs half a second.
    """
    with psycopg.connect(_shop) as connection:
        connection.execute("DELETE FROM public.users")  # and by cascade whatever belongs to them
        connection.execute("DELETE FROM public.admin_emails")
        connection.execute("DELETE FROM public.admin_action_log")
    apply_repeatables(_shop, ADMIN)
    return _shop


@pytest.fixture
def owner(shop: str) -> Iterator[psycopg.Connection]:
    """A connection of the schema's owner, each statement its own transaction."""
    with psycopg.connect(shop, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def login(server: ThrowawayServer, _shop: str) -> Iterator[Callable[[str], str]]:
    """Give the URL, for the shop's database, of a role that logs in and is a member of the group named."""
    made: set[str] = set()

    def make(group: str) -> str:
        name = f"example_{group}_login"
        if name not in made:
            make_login(server.url(), name, "secret", group)
            made.add(name)
        return server.url(urlsplit(_shop).path.lstrip("/"), user=name, password="secret")

    yield make
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for name in made:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def app(shop: str, login: Callable[[str], str]) -> Iterator[psycopg.Connection]:
    """A connection of the application server: a member of app_user."""
    with psycopg.connect(login("app_user"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def admin(shop: str, login: Callable[[str], str]) -> Iterator[psycopg.Connection]:
    """A connection of a person who administers: a member of app_admin."""
    with psycopg.connect(login("app_admin"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def untouched_server(pg_bin: Path) -> Iterator[ThrowawayServer]:
    """A cluster of the test's own, where none of our roles exists yet."""
    with ThrowawayServer(pg_bin) as running:
        yield running
