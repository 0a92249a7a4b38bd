"""What the files promise as a model, read from the catalog: it holds for whatever is added later, too."""

from __future__ import annotations

import psycopg
import pytest

from tests.integration.example.example_schema import value


@pytest.fixture
def catalog(owner: psycopg.Connection) -> psycopg.Connection:
    """The owner's connection with two views for this session: our tables, and our functions without the extension's."""
    owner.execute(
        "CREATE TEMP VIEW own_tables AS SELECT * FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
    )
    owner.execute(
        "CREATE TEMP VIEW own_functions AS SELECT p.* FROM pg_proc AS p"
        " WHERE p.pronamespace = 'public'::regnamespace"
        " AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')"
    )
    return owner


def names(connection: psycopg.Connection, query: str, *parameters: object) -> list[str]:
    return [str(row[0]) for row in connection.execute(query.encode(), parameters or None)]


def test_row_level_security_is_on_for_every_table(catalog: psycopg.Connection) -> None:
    assert value(catalog, "SELECT count(*) FROM own_tables") == 9
    assert names(catalog, "SELECT relname FROM own_tables WHERE NOT relrowsecurity") == []


def test_every_foreign_key_has_an_index_that_begins_with_its_columns(catalog: psycopg.Connection) -> None:
    assert value(catalog, "SELECT count(*) FROM pg_constraint WHERE contype = 'f'") == 7
    without = names(
        catalog,
        """
        SELECT c.conname FROM pg_constraint AS c
        WHERE c.contype = 'f' AND NOT EXISTS (
            SELECT FROM pg_index AS i
            WHERE i.indrelid = c.conrelid AND i.indisvalid AND i.indpred IS NULL
                AND (string_to_array(i.indkey::text, ' ')::int2[])[1:cardinality(c.conkey)] = c.conkey
        )
        """,
    )
    assert without == []


def test_tables_and_functions_have_comments(catalog: psycopg.Connection) -> None:
    assert names(catalog, "SELECT relname FROM own_tables WHERE obj_description(oid, 'pg_class') IS NULL") == []
    assert names(catalog, "SELECT proname FROM own_functions WHERE obj_description(oid, 'pg_proc') IS NULL") == []


def test_functions_that_run_as_the_owner_pin_their_search_path(catalog: psycopg.Connection) -> None:
    assert set(names(catalog, "SELECT proname FROM own_functions WHERE prosecdef")) == {
        "set_user_token",
        "get_user_token",
        "add_to_monthly_usage",
        "get_user_usage_stats",
        "complete_referral",
        "admin_reset_user_usage",
        "admin_add_bonus_credits",
    }
    pinned = "SELECT DISTINCT proconfig::text FROM own_functions WHERE prosecdef OR prosqlbody IS NULL"
    assert names(catalog, pinned) == ['{"search_path=pg_catalog, pg_temp"}']


def test_nothing_is_open_to_public(catalog: psycopg.Connection) -> None:
    functions = names(
        catalog,
        "SELECT proname FROM own_functions, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS a"
        " WHERE a.grantee = 0",
    )
    relations = names(
        catalog,
        "SELECT relname FROM pg_class, aclexplode(relacl) AS a"
        " WHERE relnamespace = 'public'::regnamespace AND a.grantee = 0",
    )
    assert functions + relations == []


def test_each_role_may_call_exactly_its_own_functions(catalog: psycopg.Connection) -> None:
    query = "SELECT proname FROM own_functions WHERE has_function_privilege(%s, oid, 'EXECUTE') ORDER BY 1"
    assert names(catalog, query, "app_user") == [
        "complete_referral",
        "get_user_token",
        "get_user_usage_stats",
        "set_user_token",
    ]
    assert names(catalog, query, "app_admin") == [
        "admin_add_bonus_credits",
        "admin_reset_user_usage",
        "get_user_usage_stats",
    ]


def test_constraints_are_named_for_their_table(catalog: psycopg.Connection) -> None:
    strangers = names(
        catalog,
        "SELECT c.conname FROM pg_constraint AS c INNER JOIN own_tables AS t ON t.oid = c.conrelid"
        " WHERE c.contype <> 'n' AND c.conname !~ ('^' || t.relname || '_.+(key|check)$')",
    )
    assert strangers == []
