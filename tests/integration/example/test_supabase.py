"""On Supabase `public` is served to the internet: the API's roles see nothing, whatever default privileges give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.example.example_schema import UPS, answers_of_verify, apply_all, value

API_ROLES = ("anon", "authenticated", "service_role")

#: What a Supabase project comes with, as far as it matters here.
LIKE_SUPABASE = """
    CREATE ROLE anon NOLOGIN NOINHERIT;
    CREATE ROLE authenticated NOLOGIN NOINHERIT;
    CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
    CREATE SCHEMA extensions;
    CREATE EXTENSION pgcrypto WITH SCHEMA extensions;
    GRANT USAGE ON SCHEMA public, extensions TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
"""


@pytest.fixture(scope="module")
def supabase(pg_bin: Path) -> Iterator[str]:
    """URL, as the owner, of a migrated database on a cluster of its own that has Supabase's roles."""
    with ThrowawayServer(pg_bin) as running:
        with psycopg.connect(running.url()) as connection:
            connection.execute(LIKE_SUPABASE.encode())
        apply_all(running.url())
        yield running.url()


def relations(connection: psycopg.Connection, kind: str) -> list[str]:
    query = "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = %s ORDER BY 1"
    return [row[0] for row in connection.execute(query, [kind])]


def test_the_stage_is_set_right(supabase: str) -> None:
    with psycopg.connect(supabase) as connection:
        connection.execute("CREATE TABLE public.careless (n int)")
        for role in API_ROLES:
            connection.execute(f"SET ROLE {role}".encode())
            connection.execute("SELECT * FROM public.careless")
            connection.execute("RESET ROLE")
        connection.rollback()


@pytest.mark.parametrize("role", API_ROLES)
def test_an_api_role_can_do_nothing_with_any_table(role: str, supabase: str) -> None:
    with psycopg.connect(supabase, autocommit=True) as connection:
        tables = relations(connection, "r")
        sequences = relations(connection, "S")
        assert (len(tables), len(sequences)) == (9, 2)
        connection.execute(f"SET ROLE {role}".encode())
        for table in tables:
            for attempt in (
                f"SELECT * FROM {table}",
                f"SELECT count(*) FROM {table}",
                f"INSERT INTO {table} DEFAULT VALUES",
                f"DELETE FROM {table}",
                f"TRUNCATE {table} CASCADE",
            ):
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(attempt.encode())
            assert not value(
                connection, "SELECT has_any_column_privilege(%s, 'SELECT, INSERT, UPDATE, REFERENCES')", table
            )
        for sequence in sequences:
            assert not value(connection, "SELECT has_sequence_privilege(%s, 'USAGE, SELECT, UPDATE')", sequence)


@pytest.mark.parametrize("role", API_ROLES)
def test_an_api_role_can_call_no_function(role: str, supabase: str) -> None:
    with psycopg.connect(supabase) as connection:
        callable_ones = connection.execute(
            "SELECT oid::regprocedure::text FROM pg_proc"
            " WHERE pronamespace = 'public'::regnamespace AND has_function_privilege(%s, oid, 'EXECUTE')",
            [role],
        ).fetchall()
        total = value(connection, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    assert callable_ones == []
    assert total == 15


def test_verify_says_true_and_notices_when_a_door_opens(supabase: str) -> None:
    for up in UPS:
        assert set(answers_of_verify(supabase, up)) == {True}
    for up, grant in zip(
        UPS,
        (
            "SELECT (email) ON public.users TO anon",
            "EXECUTE ON FUNCTION public.get_user_token(uuid, text, bytea) TO authenticated",
            "DELETE ON public.api_usage TO anon",
            "EXECUTE ON FUNCTION public.complete_referral(uuid, text) TO service_role",
        ),
        strict=True,
    ):
        with psycopg.connect(supabase, autocommit=True) as connection:
            connection.execute(f"GRANT {grant}".encode())
            try:
                assert False in answers_of_verify(supabase, up), up.name
            finally:
                connection.execute(f"REVOKE {grant.replace(' TO ', ' FROM ')}".encode())
