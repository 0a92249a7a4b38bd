"""What docs/reference/example-schema.md says about the key in server logs, tried on a server that logs."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.example.example_schema import add_user, apply_all, make_login, value

_numbers = itertools.count(1)

STATEMENTS = "log_statement = 'all'"
SLOW_STATEMENTS = "log_min_duration_statement = 0"
NO_PARAMETERS = ("log_parameter_max_length = 0", "log_parameter_max_length_on_error = 0")
AUTO_EXPLAIN = ("session_preload_libraries = 'auto_explain'", "auto_explain.log_min_duration = 0")
VERBOSE = "auto_explain.log_verbose = on"


@pytest.fixture(scope="module")
def logging_server(pg_bin: Path) -> Iterator[ThrowawayServer]:
    with ThrowawayServer(pg_bin) as running:
        apply_all(running.url())
        yield running


def key_is_logged(server: ThrowawayServer, *settings: str, literal: bool = False, mistake: bool = False) -> bool:
    """Store and read a token with a fresh key, by an application whose role has `settings`; tell whether it is logged.

    The settings take effect for the role as they would for the whole server. `literal` writes the key into the text of
    the statement; `mistake` makes a call that fails.
    """
    number = next(_numbers)
    role = f"shop_server_{number}"
    make_login(server.url(), role, "secret", "app_user")
    with psycopg.connect(server.url(), autocommit=True) as owner:
        user, _ = add_user(owner, f"user{number}@example.com")
        owner.execute("LOAD 'auto_explain'")  # so that its settings have a type to be checked against
        for setting in settings:
            owner.execute(f"ALTER ROLE {role} SET {setting}".encode())
    key = secrets.token_bytes(32)
    with psycopg.connect(server.url(user=role, password="secret"), autocommit=True) as app:
        if literal:
            app.execute(f"SELECT public.set_user_token('{user}', 'github', 'ghp_x', '\\x{key.hex()}')".encode())
        else:
            app.execute("SELECT public.set_user_token(%s, 'github', 'ghp_x', %s)", [user, key])
            assert value(app, "SELECT public.get_user_token(%s, 'github', %s)", user, key) == "ghp_x"
        if mistake:
            with pytest.raises(psycopg.errors.CheckViolation):
                app.execute("SELECT public.set_user_token(%s, 'no such', 'ghp_x', %s)", [user, key])
    return key.hex() in (server.folder / "server.log").read_text()


def test_by_default_nothing_is_logged(logging_server: ThrowawayServer) -> None:
    assert not key_is_logged(logging_server, mistake=True)


@pytest.mark.parametrize("setting", [STATEMENTS, SLOW_STATEMENTS])
def test_statement_logging_writes_bound_parameters_out_unless_told_not_to(
    setting: str, logging_server: ThrowawayServer
) -> None:
    assert key_is_logged(logging_server, setting)
    assert not key_is_logged(logging_server, setting, *NO_PARAMETERS, mistake=True)


def test_parameters_can_be_logged_with_errors(logging_server: ThrowawayServer) -> None:
    assert key_is_logged(logging_server, "log_parameter_max_length_on_error = -1", mistake=True)


def test_a_key_in_the_statements_text_is_logged_all_the_same(logging_server: ThrowawayServer) -> None:
    assert key_is_logged(logging_server, STATEMENTS, *NO_PARAMETERS, literal=True)


def test_auto_explain_has_a_length_of_its_own(logging_server: ThrowawayServer) -> None:
    with psycopg.connect(logging_server.url()) as connection:
        logs_parameters = connection.info.server_version >= 160000
    assert key_is_logged(logging_server, *AUTO_EXPLAIN, *NO_PARAMETERS) is logs_parameters
    if logs_parameters:
        assert not key_is_logged(logging_server, *AUTO_EXPLAIN, "auto_explain.log_parameter_max_length = 0")


def test_verbose_auto_explain_logs_the_key_until_it_is_off_for_the_role(logging_server: ThrowawayServer) -> None:
    assert key_is_logged(logging_server, *AUTO_EXPLAIN, VERBOSE, *NO_PARAMETERS)
    assert not key_is_logged(
        logging_server, *AUTO_EXPLAIN, VERBOSE, *NO_PARAMETERS, "auto_explain.log_min_duration = -1"
    )
