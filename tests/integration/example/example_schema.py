"""The project's own migrations, applied the way Lockstep does it but without Lockstep: a file is one transaction.

These tests are about the SQL alone. That the tool applies it is tested where the tool is.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

FOLDER = Path(__file__).parents[3] / "migrations"
UPS = sorted(
    path for path in FOLDER.glob("*.sql") if not path.name.endswith((".down.sql", ".verify.sql"))
)  # names are padded: their order is that of the numbers
REPEATABLES = sorted((FOLDER / "repeatable").glob("*.sql"))

ADMIN = "root@example.com"
KEY = bytes(range(32))


def down_of(up: Path) -> Path:
    return up.with_name(up.name.removesuffix(".sql") + ".down.sql")


def verify_of(up: Path) -> Path:
    return up.with_name(up.name.removesuffix(".sql") + ".verify.sql")


def run_file(url: str, path: Path) -> None:
    """Run one file in one transaction."""
    with psycopg.connect(url) as connection:
        connection.execute(path.read_bytes())


def apply_all(url: str, admin_emails: str | None = ADMIN) -> None:
    for path in UPS:
        run_file(url, path)
    apply_repeatables(url, admin_emails)


def apply_repeatables(url: str, admin_emails: str | None) -> None:
    """Run the repeatables with the setting as given; None leaves it unset, as in an environment without it."""
    for path in REPEATABLES:
        with psycopg.connect(url) as connection:
            if admin_emails is not None:
                connection.execute("SELECT set_config('lockstep.admin_emails', %s, false)", [admin_emails])
            connection.execute(path.read_bytes())


def revert_all(url: str) -> None:
    for path in reversed(UPS):
        run_file(url, down_of(path))


def answers_of_verify(url: str, up: Path) -> list[object]:
    """Every value that the verify script's queries return."""
    values: list[object] = []
    with psycopg.connect(url) as connection:
        cursor = connection.execute(verify_of(up).read_bytes())
        while True:
            values += [value for row in cursor.fetchall() for value in row]
            if not cursor.nextset():
                return values


def dump(pg_bin: Path, url: str) -> str:
    """The schema as pg_dump writes it, privileges and comments included; equal text means an identical schema."""
    command = [str(pg_bin / "pg_dump"), "--schema-only", "--restrict-key=x", url]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def add_user(connection: psycopg.Connection, email: str, plan: str = "free") -> tuple[str, str]:
    """Make a user; return id and referral code."""
    row = connection.execute(
        "INSERT INTO public.users (email, plan) VALUES (%s, %s) RETURNING id::text, referral_code", [email, plan]
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def value(connection: psycopg.Connection, query: str, *parameters: object) -> object:
    """The one value that a query answers with."""
    row = connection.execute(query.encode(), parameters or None).fetchone()
    assert row is not None
    return row[0]


def make_login(server_url: str, name: str, password: str, *groups: str) -> None:
    """Make a role that can log in and is a member of `groups`, as one does for an application server or a person."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
        )
        for group in groups:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(name)))
