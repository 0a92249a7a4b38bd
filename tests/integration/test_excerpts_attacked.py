"""What could still quote with `[privacy] excerpts = false`; and places in files where the server counts otherwise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.pq import DiagnosticField, ExecStatus

from lockstep.cli import config as config_command
from lockstep.cli.context import Context
from lockstep.core import privacy
from lockstep.core.rehearsal import violation_words
from lockstep.postgres.executor import Reader
from lockstep.postgres.message import Part
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service import together
from tests.project import Project


def test_what_the_server_said_of_a_value_is_not_why_a_connection_was_lost() -> None:
    def result(severity: str, message: str) -> Any:
        fields = {
            DiagnosticField.SEVERITY_NONLOCALIZED: severity.encode(),
            DiagnosticField.MESSAGE_PRIMARY: message.encode(),
        }
        return SimpleNamespace(
            status=ExecStatus.FATAL_ERROR, error_message=f"{severity}:  {message}\n".encode(), error_field=fields.get
        )

    reader = Reader()
    reader.begin(Part(text="", segments=(), to_commit=None, statements=1))
    reader.take(result("ERROR", 'invalid input syntax for type integer: "s3cret"'))
    assert reader.lost == ""
    reader.take(result("FATAL", "terminating connection due to administrator command"))
    assert reader.lost == "FATAL:  terminating connection due to administrator command"


def test_an_error_that_nobody_foresaw_quotes_nothing_either(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_arguments: object, context: Context) -> None:
        assert context.settings
        raise psycopg.errors.UniqueViolation("Key (email)=(a@b.c) is there")

    monkeypatch.setattr(config_command, "execute", broken)
    assert "a@b.c" in project.run("config").err
    project.toml = "[privacy]\nexcerpts = false\n"
    project.configure()
    try:
        done = project.run("config")
    finally:
        privacy.quote(True)
    assert done.code == 1 and "a@b.c" not in done.err and "unexpected UniqueViolation (SQLSTATE 23505)" in done.err


def test_a_place_is_right_where_the_server_counts_bytes(
    server: ThrowawayServer, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "SPAN", 60.0)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        project.urls["dev"] = server.url("ascii")
        assert project.run("init").code == 0
        for number in range(1, 7):
            project.write(f"{number:03d}-t.sql", f"CREATE TABLE public.t{number} (); -- {'é' * 40}\n")
        project.write(
            "007-t.sql",
            "SELECT 1,\n  nope;\nSELECT 2;\nSELECT 3;\nSELECT 4;\nSELECT 5;\nSELECT 6;\nSELECT 7;\n"
            + "SELECT 8;\n" * 40,
        )
        failed = project.run("sync")
        assert failed.code == 6 and ("007-t.sql:1:" in failed.err or "007-t.sql:2:" in failed.err), failed.err
        assert "statement 1 of 47" in failed.err
    finally:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("DROP DATABASE ascii WITH (FORCE)")


STEERING = "\x1b[2J\x1b]0;gone\x07\u202eevil\x9b2J\r"


@pytest.mark.parametrize("in_message", [False, True])
def test_what_a_row_holds_steers_no_terminal_when_the_server_repeats_it(project: Project, in_message: bool) -> None:
    """Anybody who can write a row would else write on the screen of whoever migrates it."""
    project.run("init")
    with psycopg.connect(project.urls["dev"], autocommit=True) as connection:
        connection.execute("CREATE TABLE public.users (id int, name text)")
        connection.execute("INSERT INTO public.users VALUES (1, %s), (2, %s)", (STEERING, STEERING))
    assert project.run("baseline", "dev", "--version", "none").code == 0
    if in_message:
        project.write("001-t.sql", "ALTER TABLE public.users ALTER COLUMN name TYPE int USING name::int;")
    else:
        project.write("001-t.sql", "ALTER TABLE public.users ADD UNIQUE (name);")
    failed = project.run("sync")
    assert failed.code == 6 and "evil" in failed.err
    assert not set(STEERING) & set(failed.err) - set("evil[]02J;gone") and "\\x1b[2J" in failed.err


def test_the_keys_that_a_rehearsal_names_steer_nothing() -> None:
    found: Any = SimpleNamespace(keys=(f"name = '{STEERING}'", "name = 'b\n# a heading'"), exact=True, rows=2)
    said = violation_words._examples(found)
    assert said.isprintable() and "\\x1b[2J" in said
