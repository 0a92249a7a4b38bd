"""What the text of statements tells about locks: new tables, names that other statements give, words for the rest."""

from __future__ import annotations

import pytest

from lockstep.core.locking.known import Known
from lockstep.core.locking.lock_modes import Mode
from lockstep.core.locking.lock_report import FileLocks, lock_table, step_line
from lockstep.core.locking.locks import StatementLocks, script_locks
from lockstep.core.statements import parse_script
from tests.integration.lock_catalogue import ALONE, BASE, CASES


def read(text: str, known: Known | None = None) -> tuple[StatementLocks, ...]:
    return script_locks(parse_script(text, "001-a.sql", transactional=False), known)


def report(text: str) -> FileLocks:
    return FileLocks(file="001-a.sql", statements=read(text))


def last(text: str, known: Known | None = None) -> list[tuple[str, str, bool]]:
    return [(one.relation, one.mode.value, one.new) for one in read(text, known)[-1].locks]


def test_the_modes_are_those_of_the_manual_in_its_order_of_strength() -> None:
    assert [mode.rank for mode in Mode] == list(range(8))
    assert [mode.blocks for mode in Mode] == ["nothing"] * 4 + ["writes"] * 3 + ["reads and writes"]


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE t (id bigint); ALTER TABLE t ADD COLUMN a bigint;",
        "CREATE TABLE public.t (id bigint); ALTER TABLE t ADD COLUMN a bigint;",
        "CREATE TABLE t (id bigint); ALTER TABLE public.t ADD COLUMN a bigint;",
        "SET search_path = app; CREATE TABLE t (id bigint); ALTER TABLE app.t ADD COLUMN a bigint;",
        "CREATE TABLE s (id bigint); ALTER TABLE s RENAME TO t; ALTER TABLE t ADD COLUMN a bigint;",
        "CREATE TABLE t (id bigint); ALTER TABLE t SET SCHEMA app; ALTER TABLE app.t ADD COLUMN a bigint;",
        "DROP TABLE t; CREATE TABLE t (id bigint); ALTER TABLE t ADD COLUMN a bigint;",
        "CREATE TABLE t AS SELECT 1 AS id; ALTER TABLE t ADD COLUMN a bigint;",
    ],
)
def test_a_table_that_the_file_made_is_new(text: str) -> None:
    assert [new for _, _, new in last(text)] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE app.t (id bigint); ALTER TABLE t ADD COLUMN a bigint;",
        "CREATE TABLE t (id bigint); ALTER TABLE t RENAME TO s; ALTER TABLE t ADD COLUMN a bigint;",
        "CREATE TABLE t (id bigint); DROP TABLE t; ALTER TABLE t ADD COLUMN a bigint;",
        "ALTER TABLE s RENAME TO t; ALTER TABLE t ADD COLUMN a bigint;",
        'CREATE TABLE "T" (id bigint); ALTER TABLE t ADD COLUMN a bigint;',
    ],
)
def test_a_table_that_the_file_did_not_make_is_not_new(text: str) -> None:
    assert [new for _, _, new in last(text)] == [False]


def test_a_table_is_new_in_its_own_file_only() -> None:
    known = Known()
    read("CREATE TABLE t (id bigint);", known)
    assert last("ALTER TABLE t ADD COLUMN a bigint;", known) == [("t", "ACCESS EXCLUSIVE", False)]


def test_what_the_text_does_not_name_is_said_in_words() -> None:
    assert last("DROP INDEX public.i;")[1] == ("the table of index public.i", "ACCESS EXCLUSIVE", False)
    assert last("DROP TABLE t;")[1] == ("tables that its foreign keys reference", "ACCESS EXCLUSIVE", False)
    words = "the table that k references, if it is a foreign key"
    assert last("ALTER TABLE t DROP CONSTRAINT k;")[1] == (words, "ACCESS EXCLUSIVE", False)
    assert [one.named for one in read("DROP TABLE t;")[0].locks] == [True, False]


@pytest.mark.parametrize(
    "kind", ["CHECK (a > 0) NOT VALID", "UNIQUE (a)", "PRIMARY KEY (a)", "EXCLUDE USING gist (a WITH =)"]
)
def test_a_constraint_that_was_seen_to_be_no_foreign_key_references_nothing(kind: str) -> None:
    known = Known()
    added = f"ALTER TABLE t ADD CONSTRAINT k {kind};"
    dropped = "ALTER TABLE t DROP CONSTRAINT k;"
    alone = [("t", "ACCESS EXCLUSIVE", False)]
    assert last(added + dropped) == alone  # the same file
    read(added, known)
    assert last("ALTER TABLE t VALIDATE CONSTRAINT k;", known.copy()) == [("t", "SHARE UPDATE EXCLUSIVE", False)]
    assert last(dropped, known.copy()) == alone  # an earlier one
    assert len(last(dropped + dropped, known.copy())) == 2  # the second is another's
    assert len(last("DROP TABLE t;" + dropped, known.copy())) == 2
    read("ALTER TABLE t RENAME CONSTRAINT k TO l; ALTER TABLE t RENAME TO u;", known)
    assert last("ALTER TABLE u DROP CONSTRAINT l;", known) == [("u", "ACCESS EXCLUSIVE", False)]


def test_earlier_files_give_the_names() -> None:
    known = Known()
    read(
        "CREATE TABLE app.p (id bigint PRIMARY KEY);"
        "CREATE TABLE t (id bigint, p bigint CONSTRAINT k REFERENCES app.p); CREATE INDEX i ON t (id);",
        known,
    )
    assert last("DROP INDEX i;", known.copy())[1] == ("t", "ACCESS EXCLUSIVE", False)
    assert last("ALTER TABLE t DROP CONSTRAINT k;", known.copy())[1] == ("app.p", "ACCESS EXCLUSIVE", False)
    read("ALTER TABLE t RENAME TO u; ALTER TABLE app.p RENAME TO q;", known)
    assert last("ALTER TABLE u DROP CONSTRAINT k;", known) == [
        ("u", "ACCESS EXCLUSIVE", False),
        ("app.q", "ACCESS EXCLUSIVE", False),
    ]
    assert last("DROP TABLE u;", known) == [("u", "ACCESS EXCLUSIVE", False)]  # the key went before


def test_names_are_written_as_sql() -> None:
    assert last('LOCK TABLE "Weird ""name", "select", "Schema".plain;') == [
        ('"Weird ""name"', "ACCESS EXCLUSIVE", False),
        ('"select"', "ACCESS EXCLUSIVE", False),
        ('"Schema".plain', "ACCESS EXCLUSIVE", False),
    ]


@pytest.mark.parametrize("text", ["DO $$ BEGIN DROP TABLE t; END $$;", "CALL rebuild();", "EXECUTE prepared;"])
def test_nothing_is_claimed_of_code(text: str) -> None:
    (one,) = read(text)
    assert (one.locks, one.unknown) == ((), "what its code locks is not known")


def test_a_function_that_is_called_may_lock_anything() -> None:
    (one,) = read("SELECT create_hypertable('orders', 'created_at');")
    assert one.unknown == "what create_hypertable() locks is not known"
    assert read("SELECT set_config('search_path', '', true);")[0].unknown is None


def test_a_common_table_expression_hides_the_table_of_its_name_only_behind_it() -> None:
    assert last("WITH t AS (SELECT 1) SELECT * FROM t;") == []
    assert last("WITH t AS (SELECT * FROM t) SELECT * FROM t;") == [("t", "ACCESS SHARE", False)]
    assert last("WITH RECURSIVE t AS (SELECT 1 UNION SELECT * FROM t) SELECT * FROM t;") == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CREATE UNIQUE INDEX CONCURRENTLY ON t (a);", "CREATE INDEX CONCURRENTLY"),
        ("DROP INDEX CONCURRENTLY i;", "DROP INDEX CONCURRENTLY"),
        ("REINDEX (CONCURRENTLY) TABLE t;", "REINDEX TABLE CONCURRENTLY"),
        ("ALTER TABLE t RENAME COLUMN a TO b;", "ALTER TABLE"),
        ("ALTER INDEX i RENAME TO j;", "ALTER INDEX"),
        ("DROP MATERIALIZED VIEW m;", "DROP MATERIALIZED VIEW"),
        ("CREATE MATERIALIZED VIEW m AS SELECT 1;", "CREATE MATERIALIZED VIEW"),
        ("CREATE TABLE t AS SELECT 1;", "CREATE TABLE AS"),
        ("COMMENT ON CONSTRAINT c ON t IS 'x';", "COMMENT ON CONSTRAINT"),
        ("VACUUM (FULL) t;", "VACUUM FULL"),
        ("ANALYZE t;", "ANALYZE"),
        ("ALTER TYPE e ADD VALUE 'x';", "ALTER TYPE"),
        ("REVOKE ALL ON t FROM PUBLIC;", "REVOKE"),
        ("ALTER SEQUENCE s OWNED BY NONE;", "ALTER SEQUENCE"),
        ("EXPLAIN ANALYZE DELETE FROM t;", "EXPLAIN DELETE"),
        ("ROLLBACK TO s;", "ROLLBACK TO"),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;", "ALTER DEFAULT PRIVILEGES"),
    ],
)
def test_a_statement_is_called_as_people_call_it(text: str, kind: str) -> None:
    assert read(text)[0].kind == kind


def test_every_statement_of_the_catalogue_has_its_locks_or_none_at_all() -> None:
    statements = [case.statement for case in CASES] + [statement for statement, _, _ in ALONE]
    assert len(statements) > 150
    assert [one for one in statements if read(one)[0].unknown] == []


def test_a_script_too_large_for_one_tree_is_read_statement_by_statement() -> None:
    rows = ", ".join(f"({n}, 'Grüße')" for n in range(30_000))
    text = f"INSERT INTO t VALUES {rows};\nALTER TABLE t ADD COLUMN a bigint;"
    script = parse_script(text, "001-a.sql")
    assert len(script.text) > 256 * 1024
    assert [one.locks[0].mode for one in script_locks(script)] == [Mode.ROW_EXCLUSIVE, Mode.ACCESS_EXCLUSIVE]


def test_a_steps_line_is_short_and_says_what_is_blocked() -> None:
    assert step_line(report("CREATE TABLE t (id bigint); ALTER TABLE t ADD COLUMN a bigint;")) is None
    assert step_line(report("UPDATE t SET a = 1; ALTER TABLE t VALIDATE CONSTRAINT c;")) is None
    text = "CREATE INDEX ON a (x); ALTER TABLE b ADD COLUMN y int; LOCK TABLE c, d, e;"
    assert step_line(report(text)) == "ACCESS EXCLUSIVE on b, c, d: blocks reads and writes; and 2 more"
    text = "CREATE TABLE n (a bigint REFERENCES p);\nDO $$ BEGIN END $$;\nCALL x();"
    assert step_line(report(text)) == "SHARE ROW EXCLUSIVE on p: blocks writes; not known of line 2, 3"


def test_a_files_table_leaves_out_what_the_file_made() -> None:
    text = "CREATE TABLE n (a bigint REFERENCES p);\nCREATE INDEX ON n (a);\nDROP INDEX i;\nDO $$ BEGIN END $$;"
    assert lock_table(report(text)).splitlines() == [
        "001-a.sql",
        "  line  statement     lock                 on                                blocks",
        "  1     CREATE TABLE  SHARE ROW EXCLUSIVE  p                                 writes",
        "  3     DROP INDEX    ACCESS EXCLUSIVE     i                                 reads and writes",
        "                      ACCESS EXCLUSIVE     the table of index i              reads and writes",
        "  4     DO            not known            what its code locks is not known  not known",
        "  1 statement locks nothing that others use",
    ]


def test_the_schema_of_the_catalogue_teaches_what_its_statements_need() -> None:
    known = Known()
    read(BASE, known)
    assert {name for _, name in known.indexes} >= {"lonely_idx", "orders_pkey", "customers_pkey"}
    assert [one.referenced.name for one in known.foreign_keys.values()] == ["customers"]
