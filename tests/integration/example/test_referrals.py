"""complete_referral: once for each user who came, whoever calls it, how often and how many at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from tests.integration.example.example_schema import add_user, value

COMPLETE = "SELECT public.complete_referral(%s, %s)"


@pytest.fixture
def referrer(owner: psycopg.Connection) -> tuple[str, str]:
    """Id and code."""
    return add_user(owner, "referrer@example.com")


@pytest.fixture
def newcomer(owner: psycopg.Connection) -> str:
    return add_user(owner, "newcomer@example.com")[0]


def earned(owner: psycopg.Connection, user: str) -> object:
    return owner.execute("SELECT total_referrals, bonus_credits FROM public.users WHERE id = %s", [user]).fetchone()


def test_a_referral_credits_the_referrer(
    referrer: tuple[str, str], newcomer: str, app: psycopg.Connection, owner: psycopg.Connection
) -> None:
    assert value(app, COMPLETE, newcomer, referrer[1]) is True
    assert earned(owner, referrer[0]) == (1, 100)
    assert earned(owner, newcomer) == (0, 0)
    assert app.execute(
        "SELECT referred_id::text, referrer_id::text, bonus_credits FROM public.user_referrals"
    ).fetchall() == [(newcomer, referrer[0], 100)]


def test_the_referrers_plan_decides_the_credits(
    newcomer: str, app: psycopg.Connection, owner: psycopg.Connection
) -> None:
    referrer, code = add_user(owner, "pro@example.com", plan="pro")
    app.execute(COMPLETE, [newcomer, code])
    assert earned(owner, referrer) == (1, 500)


def test_repeating_it_changes_nothing(
    referrer: tuple[str, str], newcomer: str, app: psycopg.Connection, owner: psycopg.Connection
) -> None:
    answers = [value(app, COMPLETE, newcomer, code) for code in (referrer[1], referrer[1], f" {referrer[1].lower()} ")]
    assert answers == [True, False, False]
    assert earned(owner, referrer[0]) == (1, 100)


def test_users_cannot_refer_themselves(
    referrer: tuple[str, str], app: psycopg.Connection, owner: psycopg.Connection
) -> None:
    with pytest.raises(errors.CheckViolation, match="cannot refer themselves"):
        app.execute(COMPLETE, list(referrer))
    assert earned(owner, referrer[0]) == (0, 0)
    with pytest.raises(errors.CheckViolation, match="no_self_referral"):  # not even past the function
        owner.execute("INSERT INTO public.user_referrals VALUES (%(id)s, %(id)s, 1)", {"id": referrer[0]})


def test_an_unknown_code_is_an_error(newcomer: str, app: psycopg.Connection) -> None:
    for code in ("NOSUCHCODE", "", None, "%"):
        with pytest.raises(errors.NoDataFound, match="unknown referral code"):
            app.execute(COMPLETE, [newcomer, code])


def test_the_code_of_a_disabled_account_is_unknown(
    referrer: tuple[str, str], newcomer: str, app: psycopg.Connection
) -> None:
    app.execute("UPDATE public.users SET disabled_at = now() WHERE id = %s", [referrer[0]])
    with pytest.raises(errors.NoDataFound, match="unknown referral code"):
        app.execute(COMPLETE, [newcomer, referrer[1]])


def test_an_unknown_user_is_an_error(referrer: tuple[str, str], app: psycopg.Connection) -> None:
    for nobody in ("00000000-0000-0000-0000-000000000000", None):
        with pytest.raises(errors.NoDataFound, match="no such user"):
            app.execute(COMPLETE, [nobody, referrer[1]])


def test_a_second_referrer_comes_too_late(
    referrer: tuple[str, str], newcomer: str, app: psycopg.Connection, owner: psycopg.Connection
) -> None:
    late, late_code = add_user(owner, "late@example.com")
    app.execute(COMPLETE, [newcomer, referrer[1]])
    with pytest.raises(errors.UniqueViolation, match="by someone else"):
        app.execute(COMPLETE, [newcomer, late_code])
    assert earned(owner, late) == (0, 0)


def test_a_referrer_who_left_still_counts_as_the_referrer(
    referrer: tuple[str, str], newcomer: str, app: psycopg.Connection, owner: psycopg.Connection
) -> None:
    app.execute(COMPLETE, [newcomer, referrer[1]])
    app.execute("DELETE FROM public.users WHERE id = %s", [referrer[0]])
    _, code = add_user(owner, "second@example.com")
    with pytest.raises(errors.UniqueViolation, match="by someone else"):
        app.execute(COMPLETE, [newcomer, code])


# -- at the same time -------------------------------------------------------------------------------------------------


def at_once(url: str, calls: list[tuple[str, str]]) -> list[object]:
    """Make each call on a connection of its own, all released together; return answers or SQLSTATEs, in order."""
    ready = threading.Barrier(len(calls))

    def make(call: tuple[str, str]) -> object:
        with psycopg.connect(url) as connection:
            ready.wait(timeout=30)
            try:
                return value(connection, COMPLETE, *call)
            except psycopg.Error as error:
                return error.sqlstate

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(make, calls))


def test_one_of_many_simultaneous_calls_does_it(
    referrer: tuple[str, str], login: Callable[[str], str], owner: psycopg.Connection
) -> None:
    url = login("app_user")
    for number in range(1, 6):
        newcomer, _ = add_user(owner, f"newcomer{number}@example.com")
        answers = at_once(url, [(newcomer, referrer[1])] * 12)
        assert sorted(map(str, answers)) == ["False"] * 11 + ["True"]
        assert earned(owner, referrer[0]) == (number, number * 100)


def test_no_credit_is_lost_when_many_newcomers_name_one_referrer(
    referrer: tuple[str, str], login: Callable[[str], str], owner: psycopg.Connection
) -> None:
    newcomers = [add_user(owner, f"newcomer{number}@example.com")[0] for number in range(16)]
    assert at_once(login("app_user"), [(newcomer, referrer[1]) for newcomer in newcomers]) == [True] * 16
    assert earned(owner, referrer[0]) == (16, 1600)


def test_one_of_many_simultaneous_referrers_wins(
    newcomer: str, login: Callable[[str], str], owner: psycopg.Connection
) -> None:
    codes = [add_user(owner, f"referrer{number}@example.com")[1] for number in range(12)]
    answers = at_once(login("app_user"), [(newcomer, code) for code in codes])
    assert sorted(map(str, answers)) == ["23505"] * 11 + ["True"]
    assert owner.execute("SELECT sum(total_referrals), sum(bonus_credits) FROM public.users").fetchone() == (1, 100)


def test_two_users_who_refer_each_other_do_not_deadlock(login: Callable[[str], str], owner: psycopg.Connection) -> None:
    url = login("app_user")
    for number in range(10):
        left, left_code = add_user(owner, f"left{number}@example.com")
        right, right_code = add_user(owner, f"right{number}@example.com")
        assert at_once(url, [(left, right_code), (right, left_code)]) == [True, True]


@pytest.mark.parametrize("first_commits", [True, False])
def test_a_call_waits_for_one_that_is_not_yet_decided(
    first_commits: bool,
    referrer: tuple[str, str],
    newcomer: str,
    login: Callable[[str], str],
    owner: psycopg.Connection,
) -> None:
    url = login("app_user")
    with psycopg.connect(url) as first, ThreadPoolExecutor(1) as pool:
        assert value(first, COMPLETE, newcomer, referrer[1]) is True
        with psycopg.connect(url, autocommit=True) as second:
            answer = pool.submit(value, second, COMPLETE, newcomer, referrer[1])
            deadline = time.monotonic() + 30
            while not value(owner, "SELECT cardinality(pg_blocking_pids(%s)) > 0", second.info.backend_pid):
                assert time.monotonic() < deadline, "the second call never waited"
                time.sleep(0.01)
            first.commit() if first_commits else first.rollback()
            assert answer.result(timeout=30) is not first_commits
    assert earned(owner, referrer[0]) == (1, 100)
