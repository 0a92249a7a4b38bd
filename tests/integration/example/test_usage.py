"""API usage: rows add up to monthly summaries, and the stats say what a user may still do."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import dict_row

from tests.integration.example.example_schema import ADMIN, add_user, value

INSERT = """
    INSERT INTO public.api_usage (user_id, endpoint, method, status_code, response_time_ms, request_bytes, response_bytes)
    VALUES (%s, '/v1/chat', 'POST', %s, %s, %s, %s)
"""


@pytest.fixture
def user(owner: psycopg.Connection) -> str:
    return add_user(owner, "user@example.com")[0]


def stats(connection: psycopg.Connection, user: str) -> dict[str, object]:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute("SELECT * FROM public.get_user_usage_stats(%s)", [user]).fetchone()
    assert row is not None
    return row


def record(connection: psycopg.Connection, user: str, times: int = 1) -> None:
    for _ in range(times):
        connection.execute(INSERT, [user, 200, 10, 0, 0])


def test_a_new_user_has_the_whole_allowance_of_the_plan(user: str, app: psycopg.Connection) -> None:
    found = stats(app, user)
    assert found["month"] == value(app, "SELECT date_trunc('month', now() AT TIME ZONE 'UTC')::date")
    del found["month"]
    assert found == {
        "plan": "free",
        "requests_made": 0,
        "requests_used": 0,
        "plan_requests": 1000,
        "bonus_credits": 0,
        "requests_allowed": 1000,
        "requests_remaining": 1000,
        "total_referrals": 0,
        "error_count": 0,
        "average_response_time_ms": None,
        "request_bytes": 0,
        "response_bytes": 0,
        "usage_reset_at": None,
        "features": {"providers": 1, "export": False, "support": False},
    }


def test_requests_add_up(user: str, app: psycopg.Connection, owner: psycopg.Connection) -> None:
    other, _ = add_user(owner, "other@example.com")
    app.execute(INSERT, [user, 200, 10, 100, 1000])
    app.execute(INSERT, [user, 404, 25, 1, 2])
    app.execute(INSERT, [other, 500, 99, 7, 7])
    found = stats(app, user)
    assert (found["requests_made"], found["requests_used"], found["requests_remaining"]) == (2, 2, 998)
    assert (found["error_count"], found["request_bytes"], found["response_bytes"]) == (1, 101, 1002)
    assert float(str(found["average_response_time_ms"])) == 17.5


def test_stats_include_what_referrals_earned(user: str, app: psycopg.Connection, owner: psycopg.Connection) -> None:
    friend, _ = add_user(owner, "friend@example.com")
    code = value(owner, "SELECT referral_code FROM public.users WHERE id = %s", user)
    app.execute("SELECT public.complete_referral(%s, %s)", [friend, code])
    record(app, user, 3)
    found = stats(app, user)
    assert (found["total_referrals"], found["bonus_credits"]) == (1, 100)
    assert (found["plan_requests"], found["requests_allowed"], found["requests_remaining"]) == (1000, 1100, 1097)


def test_an_unlimited_plan_has_no_numbers_to_run_out_of(app: psycopg.Connection, owner: psycopg.Connection) -> None:
    user, _ = add_user(owner, "big@example.com", plan="enterprise")
    record(app, user)
    found = stats(app, user)
    assert (found["requests_used"], found["plan_requests"]) == (1, None)
    assert (found["requests_allowed"], found["requests_remaining"]) == (None, None)


def test_remaining_never_falls_below_zero(user: str, owner: psycopg.Connection) -> None:
    with owner.transaction(force_rollback=True):
        owner.execute("UPDATE public.subscription_limits SET monthly_requests = 2 WHERE plan = 'free'")
        record(owner, user, 3)
        found = stats(owner, user)
    assert (found["requests_used"], found["requests_allowed"], found["requests_remaining"]) == (3, 2, 0)


def test_an_unknown_user_is_an_error(app: psycopg.Connection) -> None:
    for nobody in ("00000000-0000-0000-0000-000000000000", None):
        with pytest.raises(errors.NoDataFound):
            app.execute("SELECT * FROM public.get_user_usage_stats(%s)", [nobody])


def test_months_are_calendar_months_in_utc_whatever_the_session_says(user: str, owner: psycopg.Connection) -> None:
    owner.execute("SET timezone = 'Pacific/Auckland'")
    owner.execute(
        "INSERT INTO public.api_usage (user_id, endpoint, method, status_code, response_time_ms, created_at) VALUES"
        " (%(user)s, '/a', 'GET', 200, 1, '2026-01-31 23:59:59.999+00'),"
        " (%(user)s, '/a', 'GET', 200, 1, '2026-02-01 00:00:00+00'),"
        " (%(user)s, '/a', 'GET', 503, 1, '2026-02-28 13:00:00+00')",
        {"user": user},
    )
    assert owner.execute(
        "SELECT month, request_count, error_count FROM public.api_usage_monthly ORDER BY month"
    ).fetchall() == [(date(2026, 1, 1), 1, 0), (date(2026, 2, 1), 2, 1)]
    assert stats(owner, user)["requests_made"] == 0


def test_the_summary_outlives_the_rows(user: str, app: psycopg.Connection, owner: psycopg.Connection) -> None:
    record(app, user, 4)
    owner.execute("DELETE FROM public.api_usage")
    record(app, user)
    assert stats(app, user)["requests_made"] == 5


def test_a_rolled_back_request_is_not_counted(user: str, app: psycopg.Connection) -> None:
    with app.transaction(force_rollback=True):
        record(app, user)
    assert stats(app, user)["requests_made"] == 0


def test_no_request_is_lost_when_many_arrive_at_once(
    user: str, login: Callable[[str], str], owner: psycopg.Connection
) -> None:
    url = login("app_user")
    users = [user, *(add_user(owner, f"user{number}@example.com")[0] for number in range(5))]

    def send(worker: int) -> None:
        # Each worker's batches name the users in an order of its own.
        mine = users[worker % len(users) :] + users[: worker % len(users)]
        with psycopg.connect(url, autocommit=True) as connection:
            for _ in range(25):
                connection.execute(
                    "INSERT INTO public.api_usage (user_id, endpoint, method, status_code, response_time_ms)"
                    " SELECT who, '/v1/chat', 'POST', 200, 1 FROM unnest(%s::uuid[]) AS who",
                    [mine],
                )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    assert [stats(owner, who)["requests_made"] for who in users] == [200] * 6


def test_rows_that_cannot_be_are_refused(user: str, app: psycopg.Connection) -> None:
    insert = (
        "INSERT INTO public.api_usage"
        " (user_id, endpoint, method, status_code, response_time_ms, request_bytes, response_bytes) VALUES"
        " (%(user_id)s, %(endpoint)s, %(method)s, %(status_code)s, %(response_time_ms)s, %(request_bytes)s,"
        " %(response_bytes)s)"
    )
    good = {
        "user_id": user,
        "endpoint": "/a",
        "method": "GET",
        "status_code": 200,
        "response_time_ms": 1,
        "request_bytes": 0,
        "response_bytes": 0,
    }
    app.execute(insert, good)
    for column, bad in (
        ("endpoint", "v1/chat"),
        ("endpoint", "/" + "x" * 2048),
        ("method", "get"),
        ("status_code", 99),
        ("status_code", 600),
        ("response_time_ms", -1),
        ("request_bytes", -1),
        ("response_bytes", -1),
    ):
        with pytest.raises(errors.CheckViolation, match=f"api_usage_{column}_check"):
            app.execute(insert, {**good, column: bad})


def test_the_application_cannot_date_requests_back(user: str, app: psycopg.Connection) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        app.execute(
            "INSERT INTO public.api_usage (user_id, endpoint, method, status_code, response_time_ms, created_at)"
            " VALUES (%s, '/a', 'GET', 200, 1, '2020-01-01')",
            [user],
        )


# -- admin_reset_user_usage -------------------------------------------------------------------------------------------


def test_a_reset_makes_this_months_requests_count_no_longer(
    user: str, app: psycopg.Connection, admin: psycopg.Connection, owner: psycopg.Connection
) -> None:
    other, _ = add_user(owner, "other@example.com")
    record(app, user, 3)
    record(app, other, 2)
    assert value(admin, "SELECT public.admin_reset_user_usage(%s, %s)", user, ADMIN) == 3
    record(app, user)
    found = stats(app, user)
    assert (found["requests_made"], found["requests_used"], found["requests_remaining"]) == (4, 1, 999)
    assert found["usage_reset_at"] is not None
    assert stats(app, other)["requests_used"] == 2
    details = value(
        owner, "SELECT details ->> 'requests_forgiven' FROM public.admin_action_log ORDER BY id DESC LIMIT 1"
    )
    assert details == "3"


def test_a_reset_leaves_earlier_months_alone(user: str, owner: psycopg.Connection, admin: psycopg.Connection) -> None:
    owner.execute(
        "INSERT INTO public.api_usage (user_id, endpoint, method, status_code, response_time_ms, created_at)"
        " VALUES (%s, '/a', 'GET', 200, 1, '2026-01-15')",
        [user],
    )
    assert value(admin, "SELECT public.admin_reset_user_usage(%s, %s)", user, ADMIN) == 0
    assert value(owner, "SELECT counted_requests FROM public.api_usage_monthly") == 1


# -- the tables of 001 that usage rests on ----------------------------------------------------------------------------


def test_the_seeded_plans(owner: psycopg.Connection) -> None:
    assert owner.execute("SELECT plan, monthly_requests FROM public.subscription_limits ORDER BY plan").fetchall() == [
        ("enterprise", None),
        ("free", 1000),
        ("pro", 50000),
    ]


def test_the_application_registers_and_signs_in_users(app: psycopg.Connection) -> None:
    user = value(
        app,
        "INSERT INTO public.users (email, password_hash) VALUES ('new@example.com', %s) RETURNING id::text",
        "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b7dWRWJTmaaJObG",
    )
    app.execute(
        "INSERT INTO public.user_sessions (user_id, token_hash, expires_at)"
        " VALUES (%s, sha256('jwt'), now() + interval '1 hour')",
        [user],
    )
    before = value(app, "SELECT updated_at FROM public.users")
    app.execute("UPDATE public.users SET last_login_at = now(), plan = 'pro'")
    assert value(app, "SELECT updated_at FROM public.users") > before  # type: ignore[operator]
    assert value(app, "SELECT user_id::text FROM public.user_sessions WHERE token_hash = sha256('jwt')") == user
    app.execute("UPDATE public.user_sessions SET revoked_at = now() WHERE user_id = %s", [user])
    app.execute("DELETE FROM public.users WHERE id = %s", [user])
    assert value(app, "SELECT count(*) FROM public.user_sessions") == 0


def test_what_must_not_be_stored_is_refused(user: str, app: psycopg.Connection) -> None:
    for address in ("Upper@example.com", " space@example.com", "nobody", "@example.com"):
        with pytest.raises(errors.CheckViolation, match="users_email_check"):
            app.execute("INSERT INTO public.users (email) VALUES (%s)", [address])
    with pytest.raises(errors.CheckViolation, match="users_password_hash_check"):
        app.execute("INSERT INTO public.users (email, password_hash) VALUES ('a@example.com', 'hunter2')")
    session = "INSERT INTO public.user_sessions (user_id, token_hash, expires_at) VALUES (%s, %s, now() + %s::interval)"
    with pytest.raises(errors.CheckViolation, match="user_sessions_token_hash_check"):
        app.execute(session, [user, b"eyJhbGciOi.the.token.itself", "1 hour"])
    with pytest.raises(errors.CheckViolation, match="user_sessions_expires_at_check"):
        app.execute(session, [user, bytes(32), "-1 hour"])


def test_a_plan_that_does_not_exist_is_refused(user: str, app: psycopg.Connection) -> None:
    with pytest.raises(errors.ForeignKeyViolation):
        app.execute("UPDATE public.users SET plan = 'gold'")
