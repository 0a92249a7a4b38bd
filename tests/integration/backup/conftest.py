"""Fixtures of the backup tests: one real S3 server a session, a fresh folder of it a test, one large database a session."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from demo.s3server import S3Server
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.storage.bucket import BucketSettings
from tests.integration.backup.store import Store

BUCKET = "backups"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """The session's S3 server. Tests that kill one start one of their own."""
    with S3Server() as running:
        running.make_bucket(BUCKET)
        yield running


@pytest.fixture
def new_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[S3Server], Store]]:
    """Make a fresh folder in a server's bucket, and put the server's credentials where the AWS chain looks first."""
    clients = []

    def make(server: S3Server) -> Store:
        for name, value in {
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)
        clients.append(client := server.client())
        url = f"s3://{BUCKET}/test-{next(_numbers)}/team"
        settings = BucketSettings(url=url, endpoint_url=server.endpoint_url)
        return Store(settings=settings, client=client)

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def store(s3: S3Server, new_store: Callable[[S3Server], Store]) -> Store:
    return new_store(s3)


def fill(url: str, *, megabytes: int, table: str = "noise") -> None:
    """Add a table that no compression makes smaller."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pgcrypto")
        connection.execute(f'CREATE TABLE "{table}" (id bigint, noise bytea)')
        connection.execute(
            f'INSERT INTO "{table}" SELECT i, gen_random_bytes(1024) FROM generate_series(1, {megabytes * 1024}) i'
        )


@pytest.fixture(scope="session")
def large_database(server: ThrowawayServer) -> Iterator[str]:
    """URL of a database of 40 MB, several parts of a backup. Read it, don't change it."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE backup_large")
        fill(server.url("backup_large"), megabytes=40)
        yield server.url("backup_large")
        connection.execute("DROP DATABASE backup_large WITH (FORCE)")


@pytest.fixture
def new_role(server: ThrowawayServer) -> Any:
    """Make login roles with attributes; dropped, with what they own, after the test."""
    made: list[tuple[str, str]] = []

    def make(url: str, *, attributes: str = "") -> str:
        name = f"backup_role_{len(made)}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pw' {}").format(sql.Identifier(name), sql.SQL(attributes))
            )
        made.append((url, name))
        return make_conninfo(url, user=name, password="pw")

    yield make
    for url, name in made:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))
