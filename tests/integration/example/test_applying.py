"""The migrations go up and down: on any server, by any owner, and leave nothing that they did not find."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.example.example_schema import (
    ADMIN,
    KEY,
    UPS,
    add_user,
    answers_of_verify,
    apply_all,
    apply_repeatables,
    down_of,
    dump,
    make_login,
    revert_all,
    run_file,
    value,
    verify_of,
)


def test_the_set_is_complete() -> None:
    assert [path.name for path in UPS] == [
        "001-initial-setup.sql",
        "002-token-encryption.sql",
        "003-api-usage-tracking.sql",
        "004-referral-system.sql",
    ]
    for up in UPS:
        assert down_of(up).is_file()
        assert verify_of(up).is_file()


@pytest.mark.parametrize("up", UPS, ids=lambda path: path.stem)
def test_down_restores_the_schema_and_up_builds_the_same_again(up: Path, database: str, pg_bin: Path) -> None:
    for earlier in UPS[: UPS.index(up)]:
        run_file(database, earlier)
    before = dump(pg_bin, database)
    run_file(database, up)
    after = dump(pg_bin, database)
    assert after != before
    run_file(database, down_of(up))
    assert dump(pg_bin, database) == before
    run_file(database, up)
    assert dump(pg_bin, database) == after


def test_all_downs_lead_to_the_empty_schema(database: str, pg_bin: Path) -> None:
    empty = dump(pg_bin, database)
    apply_all(database)
    use_everything(database)
    revert_all(database)
    assert dump(pg_bin, database) == empty
    apply_all(database)  # and nothing that stayed is in the way


def use_everything(url: str) -> None:
    """Put at least one row into each table."""
    with psycopg.connect(url) as connection:
        referrer, code = add_user(connection, "referrer@example.com")
        referred, _ = add_user(connection, "referred@example.com")
        connection.execute("SELECT public.complete_referral(%s, %s)", [referred, code])
        connection.execute("SELECT public.admin_add_bonus_credits(%s, 5, %s)", [referrer, ADMIN])
        connection.execute("SELECT public.set_user_token(%s, 'github', 'ghp_x', %s)", [referrer, KEY])
        connection.execute(
            "INSERT INTO public.api_usage (user_id, endpoint, method, status_code, response_time_ms)"
            " VALUES (%s, '/v1/chat', 'POST', 200, 12)",
            [referrer],
        )
        connection.execute("SELECT public.admin_reset_user_usage(%s, %s)", [referrer, ADMIN])
        connection.execute(
            "INSERT INTO public.user_sessions (user_id, token_hash, expires_at)"
            " VALUES (%s, sha256('x'), now() + interval '1 hour')",
            [referrer],
        )
        tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        assert len(tables) == 9
        for table in tables:
            assert value(connection, f"SELECT count(*) > 0 FROM public.{table}"), table


@pytest.mark.parametrize("up", UPS, ids=lambda path: path.stem)
def test_every_verify_query_says_true(up: Path, database: str) -> None:
    for path in UPS[: UPS.index(up) + 1]:
        run_file(database, path)
    right_after = answers_of_verify(database, up)
    assert right_after
    assert set(right_after) == {True}
    for path in UPS[UPS.index(up) + 1 :]:
        run_file(database, path)
    assert set(answers_of_verify(database, up)) == {True}


def test_verify_notices_a_door_that_was_opened(migrated: str) -> None:
    with psycopg.connect(migrated) as connection:
        connection.execute("GRANT INSERT ON public.admin_emails TO app_user")
        connection.execute("GRANT EXECUTE ON FUNCTION public.token_decrypt(bytea, bytea, bytea) TO app_user")
        connection.execute("ALTER TABLE public.api_usage_monthly DISABLE ROW LEVEL SECURITY")
        connection.execute("GRANT UPDATE (bonus_credits) ON public.users TO app_user")
    assert [False in answers_of_verify(migrated, up) for up in UPS] == [True] * 4


# -- pgcrypto -----------------------------------------------------------------------------------------------------


def tokens_work(url: str) -> bool:
    with psycopg.connect(url) as connection:
        user, _ = add_user(connection, "tokens@example.com")
        connection.execute("SELECT public.set_user_token(%s, 'github', 'ghp_x', %s)", [user, KEY])
        token = value(connection, "SELECT public.get_user_token(%s, 'github', %s)", user, KEY)
        connection.rollback()
    return token == "ghp_x"


def pgcrypto_schema(url: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'pgcrypto'"
        ).fetchone()
    return row and row[0]


@pytest.mark.parametrize("schema", ["extensions", "public", "Odd Name"])
def test_pgcrypto_is_used_where_it_is_and_stays_there(schema: str, database: str, pg_bin: Path) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'.encode())
        connection.execute(f'CREATE EXTENSION pgcrypto WITH SCHEMA "{schema}"'.encode())
    before = dump(pg_bin, database)
    apply_all(database)
    assert all(set(answers_of_verify(database, up)) == {True} for up in UPS)
    assert tokens_work(database)
    revert_all(database)
    assert dump(pg_bin, database) == before


def test_pgcrypto_goes_into_the_schema_extensions_where_there_is_one(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE SCHEMA extensions")
    apply_all(database)
    assert pgcrypto_schema(database) == "extensions"
    assert tokens_work(database)
    revert_all(database)
    assert pgcrypto_schema(database) is None


def test_tokens_keep_working_when_pgcrypto_moves_to_another_schema(migrated: str) -> None:
    assert pgcrypto_schema(migrated) == "public"
    with psycopg.connect(migrated) as connection:
        connection.execute("CREATE SCHEMA elsewhere")
        connection.execute("ALTER EXTENSION pgcrypto SET SCHEMA elsewhere")
    assert tokens_work(migrated)


def test_pgcrypto_stays_when_something_else_has_come_to_need_it(migrated: str) -> None:
    with psycopg.connect(migrated) as connection:
        connection.execute("CREATE VIEW public.salt AS SELECT public.gen_random_bytes(8) AS salt")
    revert_all(migrated)
    assert pgcrypto_schema(migrated) == "public"
    with psycopg.connect(migrated) as connection:
        assert value(connection, "SELECT octet_length(salt) FROM public.salt") == 8
    apply_all(migrated)


# -- Roles, which belong to the cluster ---------------------------------------------------------------------------


def create_database(server: ThrowawayServer, name: str, owner: str | None = None) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        if owner is not None:
            connection.execute(f"ALTER DATABASE {name} OWNER TO {owner}".encode())


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_an_owner_who_is_no_superuser_can_migrate_and_revert(untouched_server: ThrowawayServer, pg_bin: Path) -> None:
    make_login(untouched_server.url(), "migrator", "secret")
    execute(untouched_server.url(), "ALTER ROLE migrator CREATEROLE")
    create_database(untouched_server, "shop", owner="migrator")
    url = untouched_server.url("shop", user="migrator", password="secret")
    empty = dump(pg_bin, url)
    apply_all(url)
    assert all(set(answers_of_verify(url, up)) == {True} for up in UPS)
    use_everything(url)
    revert_all(url)
    assert dump(pg_bin, url) == empty


def test_without_createrole_the_error_says_what_to_run(untouched_server: ThrowawayServer, pg_bin: Path) -> None:
    make_login(untouched_server.url(), "migrator", "secret")
    create_database(untouched_server, "shop", owner="migrator")
    url = untouched_server.url("shop", user="migrator", password="secret")
    empty = dump(pg_bin, url)
    with pytest.raises(errors.InsufficientPrivilege, match='the role "app_user" does not exist') as caught:
        run_file(url, UPS[0])
    advice = caught.value.diag.message_hint or ""
    assert "CREATEROLE" in advice
    assert dump(pg_bin, url) == empty
    commands = [part for part in advice.split(": ", 1)[1].split(";") if part.strip().startswith("CREATE")]
    execute(untouched_server.url(), *commands)
    apply_all(url)


def test_existing_roles_that_would_undo_the_separation_are_refused(untouched_server: ThrowawayServer) -> None:
    url = untouched_server.url()
    for beforehand, complaint in (
        ("CREATE ROLE app_user SUPERUSER", "too powerful"),
        ("CREATE ROLE app_user BYPASSRLS", "too powerful"),
        ("CREATE ROLE app_user CREATEROLE", "too powerful"),
        ("CREATE ROLE app_admin LOGIN", "can log in"),
        ("CREATE ROLE app_admin; CREATE ROLE app_user IN ROLE app_admin", "is a member"),
        (
            "CREATE ROLE app_admin; CREATE ROLE staff IN ROLE app_admin; CREATE ROLE app_user IN ROLE staff",
            "is a member",
        ),
    ):
        execute(url, *beforehand.split("; "))
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match=complaint) as caught:
            run_file(url, UPS[0])
        assert "Run: " in (caught.value.diag.message_hint or "")
        execute(url, "DROP ROLE IF EXISTS app_user, staff, app_admin")
    run_file(url, UPS[0])


def test_two_databases_of_one_cluster_can_be_migrated_at_once(untouched_server: ThrowawayServer) -> None:
    names = [f"tenant{number}" for number in range(4)]
    for name in names:
        create_database(untouched_server, name)
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: apply_all(untouched_server.url(name)), names))
    for name in names:
        assert set(answers_of_verify(untouched_server.url(name), UPS[-1])) == {True}


def test_a_down_leaves_roles_and_the_other_databases_of_the_cluster_alone(
    untouched_server: ThrowawayServer, pg_bin: Path
) -> None:
    for name in ("dev", "prod"):
        create_database(untouched_server, name)
        apply_all(untouched_server.url(name))
    prod = dump(pg_bin, untouched_server.url("prod"))
    revert_all(untouched_server.url("dev"))
    assert dump(pg_bin, untouched_server.url("prod")) == prod
    revert_all(untouched_server.url("prod"))
    # Nothing in either database refers to the roles any more: they can go, and the advice in the down is right.
    execute(untouched_server.url(), "DROP ROLE app_user, app_admin")


def test_a_down_passes_when_the_roles_are_gone_already(untouched_server: ThrowawayServer) -> None:
    url = untouched_server.url()
    apply_all(url)
    for up in reversed(UPS[1:]):
        run_file(url, down_of(up))
    execute(url, "DROP OWNED BY app_user, app_admin", "DROP ROLE app_user, app_admin")
    run_file(url, down_of(UPS[0]))


# -- Data that a down must care for -------------------------------------------------------------------------------


def test_credits_of_a_reverted_referral_cannot_be_earned_twice(migrated: str) -> None:
    with psycopg.connect(migrated) as connection:
        referrer, code = add_user(connection, "referrer@example.com")
        referred, _ = add_user(connection, "referred@example.com")
        connection.execute("SELECT public.complete_referral(%s, %s)", [referred, code])
        connection.execute("SELECT public.admin_add_bonus_credits(%s, 7, %s)", [referrer, ADMIN])
    run_file(migrated, down_of(UPS[3]))
    with psycopg.connect(migrated) as connection:
        assert connection.execute(
            "SELECT total_referrals, bonus_credits FROM public.users WHERE id = %s", [referrer]
        ).fetchone() == (0, 7)
    run_file(migrated, UPS[3])
    with psycopg.connect(migrated) as connection:
        assert value(connection, "SELECT public.complete_referral(%s, %s)", referred, code) is True
        assert value(connection, "SELECT bonus_credits FROM public.users WHERE id = %s", referrer) == 107


def test_what_administrators_did_outlives_the_reverted_migration(migrated: str) -> None:
    with psycopg.connect(migrated) as connection:
        user, _ = add_user(connection, "someone@example.com")
        connection.execute("SELECT public.admin_reset_user_usage(%s, %s)", [user, ADMIN])
    for up in reversed(UPS[2:]):
        run_file(migrated, down_of(up))
    apply_repeatables(migrated, ADMIN)
    with psycopg.connect(migrated) as connection:
        actions = [row[0] for row in connection.execute("SELECT action FROM public.admin_action_log ORDER BY id")]
        assert value(connection, "SELECT usage_reset_at IS NULL FROM public.users WHERE id = %s", user)
    assert actions == ["list_admin", "reset_user_usage"]
