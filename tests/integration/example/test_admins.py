"""Who is an administrator: decided by the migrating environment and a database role, never through the application."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import errors

from tests.integration.example.example_schema import (
    ADMIN,
    REPEATABLES,
    add_user,
    apply_all,
    apply_repeatables,
    revert_all,
    value,
)

ADMIN_CALLS = [
    "SELECT public.admin_reset_user_usage(%(user)s, %(email)s)",
    "SELECT public.admin_add_bonus_credits(%(user)s, 5, %(email)s)",
]


@pytest.fixture
def user(owner: psycopg.Connection) -> str:
    return add_user(owner, "user@example.com")[0]


def actions(owner: psycopg.Connection) -> list[str]:
    return [row[0] for row in owner.execute("SELECT action FROM public.admin_action_log ORDER BY id")]


def listed(owner: psycopg.Connection) -> list[str]:
    return [row[0] for row in owner.execute("SELECT email FROM public.admin_emails ORDER BY email")]


# -- the two keys that an administrator needs -----------------------------------------------------------------------


@pytest.mark.parametrize("call", ADMIN_CALLS)
def test_the_application_is_refused_even_with_an_admins_email(
    call: str, user: str, app: psycopg.Connection, owner: psycopg.Connection
) -> None:
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied for function"):
        app.execute(call.encode(), {"user": user, "email": ADMIN})
    assert value(owner, "SELECT bonus_credits FROM public.users WHERE id = %s", user) == 0
    assert actions(owner) == ["list_admin"]


@pytest.mark.parametrize("call", ADMIN_CALLS)
def test_a_member_of_app_admin_is_refused_without_a_listed_email(
    call: str, user: str, admin: psycopg.Connection, owner: psycopg.Connection
) -> None:
    for email in ("stranger@example.com", "", None, "%", ADMIN + ","):
        with pytest.raises(errors.InsufficientPrivilege, match="not an administrator"):
            admin.execute(call.encode(), {"user": user, "email": email})
    assert value(owner, "SELECT bonus_credits FROM public.users WHERE id = %s", user) == 0
    assert actions(owner) == ["list_admin"]


def test_an_administrators_act_is_recorded_with_the_role_that_logged_in(
    user: str, admin: psycopg.Connection, owner: psycopg.Connection
) -> None:
    assert (
        value(admin, ADMIN_CALLS[1].replace("%(user)s", "%s").replace("%(email)s", "%s"), user, " Root@Example.com ")
        == 5
    )
    row = owner.execute(
        "SELECT action, admin_email, database_role, user_id::text, details FROM public.admin_action_log"
        " ORDER BY id DESC LIMIT 1"
    ).fetchone()
    assert row == ("add_bonus_credits", ADMIN, admin.info.user, user, {"credits": 5, "balance": 5})


def test_an_amount_that_makes_no_sense_is_refused(user: str, admin: psycopg.Connection) -> None:
    for amount in (0, -1, 1_000_001, None):
        with pytest.raises(errors.InvalidParameterValue):
            admin.execute("SELECT public.admin_add_bonus_credits(%s, %s, %s)", [user, amount, ADMIN])


@pytest.mark.parametrize("call", ADMIN_CALLS)
def test_an_unknown_user_is_an_error_and_nothing_is_recorded(
    call: str, admin: psycopg.Connection, owner: psycopg.Connection
) -> None:
    with pytest.raises(errors.NoDataFound):
        admin.execute(call.encode(), {"user": "00000000-0000-0000-0000-000000000000", "email": ADMIN})
    assert actions(owner) == ["list_admin"]


# -- what a session can do for itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ADMIN_CALLS)
def test_a_setting_of_the_session_makes_no_administrator(
    call: str, user: str, app: psycopg.Connection, admin: psycopg.Connection
) -> None:
    for session, complaint in ((app, "permission denied"), (admin, "not an administrator")):
        for setting in ("lockstep.admin_emails", "app.admin_emails", "app.role", "request.jwt.claims"):
            session.execute("SELECT set_config(%s, 'stranger@example.com', false)", [setting])
        with pytest.raises(errors.InsufficientPrivilege, match=complaint):
            session.execute(call.encode(), {"user": user, "email": "stranger@example.com"})


@pytest.mark.parametrize("call", ADMIN_CALLS)
def test_a_temporary_table_in_place_of_the_list_is_not_believed(
    call: str, user: str, login: Callable[[str], str]
) -> None:
    with psycopg.connect(login("app_admin"), autocommit=True) as session:
        session.execute("CREATE TEMP TABLE admin_emails (email text)")
        session.execute("INSERT INTO pg_temp.admin_emails VALUES ('stranger@example.com')")
        session.execute("SET search_path = pg_temp, public")
        with pytest.raises(errors.InsufficientPrivilege, match="not an administrator"):
            session.execute(call.encode(), {"user": user, "email": "stranger@example.com"})


@pytest.mark.parametrize(
    "attempt",
    [
        "SET ROLE app_admin",
        "SET SESSION AUTHORIZATION postgres",
        "GRANT app_admin TO CURRENT_USER",
        "SET session_replication_role = replica",
        "SELECT email FROM public.admin_emails",
        "INSERT INTO public.admin_emails (email) VALUES ('stranger@example.com')",
        "UPDATE public.admin_emails SET email = 'stranger@example.com'",
        "DELETE FROM public.admin_emails",
        "TRUNCATE public.admin_emails",
        "ALTER TABLE public.admin_emails DISABLE ROW LEVEL SECURITY",
        "SELECT public.require_admin('root@example.com')",
        "SELECT * FROM public.admin_action_log",
        "INSERT INTO public.admin_action_log (action, admin_email) VALUES ('x', 'root@example.com')",
        "DELETE FROM public.admin_action_log",
        "TRUNCATE public.users CASCADE",
        "UPDATE public.users SET bonus_credits = 1000",
        "UPDATE public.users SET total_referrals = 1000",
        "UPDATE public.users SET usage_reset_at = now()",
        "UPDATE public.users SET referral_code = 'AAAAAAAA'",
        "INSERT INTO public.users (email, bonus_credits) VALUES ('rich@example.com', 1000)",
        "UPDATE public.subscription_limits SET monthly_requests = NULL",
        "UPDATE public.api_usage_monthly SET counted_requests = 0",
        "DELETE FROM public.api_usage",
        "INSERT INTO public.user_referrals VALUES (gen_random_uuid(), gen_random_uuid(), 1000)",
        "CREATE FUNCTION public.evil() RETURNS int LANGUAGE sql RETURN 1",
    ],
)
def test_the_application_has_no_way_around(attempt: str, app: psycopg.Connection, owner: psycopg.Connection) -> None:
    if app.info.server_version < 150000 and attempt.startswith("CREATE FUNCTION"):
        owner.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # the default since 15
    with pytest.raises(errors.InsufficientPrivilege):
        app.execute(attempt.encode())
    assert listed(owner) == [ADMIN]


def test_default_privileges_for_the_application_open_nothing(migrated: str) -> None:
    revert_all(migrated)
    with psycopg.connect(migrated, autocommit=True) as connection:
        for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
            connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO app_user, app_admin, PUBLIC".encode())
    apply_all(migrated)
    with psycopg.connect(migrated, autocommit=True) as app:
        app.execute("SET SESSION AUTHORIZATION app_user")
        for attempt in (
            "TRUNCATE public.admin_emails",
            "INSERT INTO public.admin_emails VALUES ('stranger@example.com')",
            "UPDATE public.users SET bonus_credits = 1",
            "SELECT public.admin_add_bonus_credits(gen_random_uuid(), 1, 'root@example.com')",
            "SELECT public.token_subkey('x', 'mac')",
            "SELECT nextval('public.admin_action_log_id_seq')",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                app.execute(attempt.encode())


@pytest.mark.parametrize(
    "attempt",
    [
        "INSERT INTO public.admin_emails (email) VALUES ('stranger@example.com')",
        "DELETE FROM public.admin_emails",
        "DELETE FROM public.admin_action_log",
        "UPDATE public.admin_action_log SET admin_email = 'someone.else@example.com'",
        "UPDATE public.users SET bonus_credits = 1000",
        "SELECT password_hash FROM public.users",
        "SELECT user_id FROM public.user_tokens",
    ],
)
def test_an_administrator_can_do_nothing_but_call_the_functions(attempt: str, admin: psycopg.Connection) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        admin.execute(attempt.encode())


def test_an_administrator_finds_users_and_reads_the_log(user: str, admin: psycopg.Connection) -> None:
    assert value(admin, "SELECT id::text FROM public.users WHERE email = 'user@example.com'") == user
    assert value(admin, "SELECT count(*) FROM public.admin_action_log") == 1
    assert value(admin, "SELECT email FROM public.admin_emails") == ADMIN


# -- the list, from the environment -----------------------------------------------------------------------------------


def test_the_list_is_trimmed_and_lower_cased_and_follows_the_setting(shop: str, owner: psycopg.Connection) -> None:
    apply_repeatables(shop, "  Alice@Example.com ,\n\tbob@example.com,, alice@example.com ,")
    assert listed(owner) == ["alice@example.com", "bob@example.com"]
    apply_repeatables(shop, "bob@example.com")
    assert listed(owner) == ["bob@example.com"]
    history = owner.execute("SELECT action, admin_email FROM public.admin_action_log ORDER BY id").fetchall()
    assert history[0] == ("list_admin", ADMIN)
    assert sorted(history[1:4]) == [
        ("list_admin", "alice@example.com"),
        ("list_admin", "bob@example.com"),
        ("unlist_admin", ADMIN),
    ]
    assert history[4:] == [("unlist_admin", "alice@example.com")]


def test_no_setting_means_no_administrator(shop: str, owner: psycopg.Connection) -> None:
    for nothing in (None, "", "  ", " , ,"):
        apply_repeatables(shop, ADMIN)
        assert listed(owner) == [ADMIN]
        apply_repeatables(shop, nothing)
        assert listed(owner) == []


def test_applying_the_same_list_again_changes_nothing(shop: str, owner: psycopg.Connection) -> None:
    before = owner.execute("SELECT xmin::text, email, added_at FROM public.admin_emails").fetchall()
    apply_repeatables(shop, ADMIN)
    assert owner.execute("SELECT xmin::text, email, added_at FROM public.admin_emails").fetchall() == before
    assert actions(owner) == ["list_admin"]


def test_something_that_is_no_address_stops_it_and_the_old_list_stays(shop: str, owner: psycopg.Connection) -> None:
    for mistake in ("nobody", "a@example.com; b@example.com", "two words@example.com", "a@b@c"):
        with pytest.raises(errors.CheckViolation):
            apply_repeatables(shop, f"good@example.com,{mistake}")
        assert listed(owner) == [ADMIN]


def test_who_is_taken_off_the_list_is_refused_at_once(shop: str, user: str, admin: psycopg.Connection) -> None:
    apply_repeatables(shop, "someone.else@example.com")
    with pytest.raises(errors.InsufficientPrivilege, match="not an administrator"):
        admin.execute("SELECT public.admin_add_bonus_credits(%s, 5, %s)", [user, ADMIN])


def test_the_repeatable_names_the_setting_that_it_reads() -> None:
    (path,) = REPEATABLES
    assert path.name == "admin-emails.sql"
    assert path.read_text().splitlines()[0] == "-- lockstep: uses=admin_emails"
