"""Which statements are hazards, in which company, and what silences them. Whether they are real: the integration test."""

from __future__ import annotations

import pytest

from lockstep.core.directives import parse_directives
from lockstep.core.findings import Finding
from lockstep.core.locking.hazards import RULES, find_hazards
from lockstep.core.locking.known import Known
from lockstep.core.locking.locks import script_locks
from lockstep.core.migration import SqlFile
from lockstep.core.statements import parse_script
from tests.integration.lock_catalogue import ALONE, BASE, CASES


def find(text: str, before: str = "") -> list[Finding]:
    known = Known()
    script_locks(parse_script(before, "000-before.sql"), known)
    file = SqlFile(name="001-a.sql", text=text, checksum="", directives=parse_directives(text, "001-a.sql"))
    return find_hazards(file, known)


def rules(text: str, before: str = "") -> list[str]:
    return [one.rule for one in find(text, before)]


#: Every rule with a file that breaks it.
EXAMPLES = {
    "adding-field-with-default": "ALTER TABLE t ADD COLUMN a uuid DEFAULT gen_random_uuid();",
    "changing-column-type": "ALTER TABLE t ALTER COLUMN a TYPE bigint;",
    "adding-not-nullable-field": "ALTER TABLE t ALTER COLUMN a SET NOT NULL;",
    "constraint-missing-not-valid": "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0);",
    "adding-foreign-key-constraint": "ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES p (id);",
    "validating-in-same-transaction":
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT c;",
    "disallowed-unique-constraint": "ALTER TABLE t ADD CONSTRAINT c UNIQUE (a);",
    "adding-serial-primary-key-field": "ALTER TABLE t ADD PRIMARY KEY (a);",
    "adding-exclusion-constraint": "ALTER TABLE t ADD EXCLUDE USING gist (a WITH &&);",
    "require-concurrent-partition-detach": "ALTER TABLE t DETACH PARTITION t1;",
    "require-concurrent-index-creation": "CREATE INDEX i ON t (a);",
    "require-concurrent-index-deletion": "DROP INDEX i;",
    "require-concurrent-reindex": "REINDEX TABLE t;",
    "dropping-foreign-key": "SELECT 1; ALTER TABLE child DROP CONSTRAINT child_p_fkey;",
    "table-rewrite": "ALTER TABLE t SET LOGGED;",
    "blocking-refresh": "REFRESH MATERIALIZED VIEW m;",
    "lock-table": "LOCK TABLE t;",
    "several-strong-locks": "ALTER TABLE t ADD COLUMN a bigint; ALTER TABLE u ADD COLUMN a bigint;",
    "slow-work-under-lock": "ALTER TABLE t ADD COLUMN a bigint; UPDATE t SET a = 1;",
    "enum-value-in-same-transaction": "ALTER TYPE e ADD VALUE 'x'; INSERT INTO t VALUES ('x');",
}  # fmt: skip
CHILD = "CREATE TABLE p (id bigint PRIMARY KEY); CREATE TABLE child (id bigint, p bigint REFERENCES p (id));"


def test_every_rule_has_an_example_that_breaks_it_alone() -> None:
    assert {rule: rules(text, CHILD) for rule, text in EXAMPLES.items()} == {rule: [rule] for rule in RULES}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_allowed_with_a_reason(rule: str) -> None:
    allowed = f'-- lockstep: allow={rule} reason="ten rows"\n{EXAMPLES[rule]}'
    assert rules(allowed, CHILD) == []
    assert rules(f'-- lockstep: allow=other reason="ten rows"\n{EXAMPLES[rule]}', CHILD) == [rule]


@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"enum-value-in-same-transaction"}))
def test_nothing_is_a_hazard_on_a_table_that_the_file_makes(rule: str) -> None:
    new = (
        "CREATE TABLE p (id bigint PRIMARY KEY); CREATE TABLE t (a bigint); CREATE TABLE u (a bigint);"
        "CREATE INDEX i ON t (a); CREATE TABLE child (p bigint REFERENCES p (id));"
        "CREATE MATERIALIZED VIEW m AS SELECT 1;"
    )
    assert rules(f"{new} {EXAMPLES[rule]}") == []


def test_a_finding_has_its_place_and_the_rewrite_for_its_very_names() -> None:
    (one,) = find('-- é\nSELECT 1;  ALTER TABLE public."Big" ADD CONSTRAINT ok CHECK ("A" > 0);')
    assert (one.line, one.column, one.file) == (2, 12, "001-a.sql")
    assert one.excerpt and one.excerpt.endswith("^")
    assert one.hint == (
        "check only new rows first, then validate beside traffic:\n"
        "-- file 1\n"
        'ALTER TABLE public."Big" ADD CONSTRAINT ok CHECK ("A" > 0) NOT VALID;\n'
        "-- file 2\n"
        'ALTER TABLE public."Big" VALIDATE CONSTRAINT ok;'
    )


@pytest.mark.parametrize(
    "text",
    [
        "CREATE INDEX CONCURRENTLY i ON t (a);",
        "DROP INDEX CONCURRENTLY i;",
        "REINDEX TABLE CONCURRENTLY t;",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY m;",
        "ALTER TABLE t DETACH PARTITION t1 CONCURRENTLY;",
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT c;",
        "ALTER TABLE t ADD COLUMN a bigint; ALTER TABLE u ADD COLUMN a bigint; UPDATE t SET a = 1;",
        "ALTER TYPE e ADD VALUE 'x'; INSERT INTO t VALUES ('x');",
        "VACUUM (ANALYZE) t;",
    ],
)
def test_outside_of_a_transaction_each_statement_stands_alone(text: str) -> None:
    assert rules(f"-- lockstep: transaction=none\n{text}") == []


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE t ADD COLUMN a bigint; UPDATE t SET a = 1 WHERE id IN (SELECT id FROM t LIMIT 100);",
        "ALTER TABLE t ADD COLUMN a bigint; INSERT INTO t VALUES (1), (2);",
        "UPDATE t SET a = 1; ALTER TABLE t ADD COLUMN b bigint;",
        "CREATE TABLE n (a bigint REFERENCES t (id)); INSERT INTO n VALUES (1);",
        "CREATE TABLE n (a bigint REFERENCES t (id)); CREATE TABLE m (a bigint REFERENCES t (id));",
        "ALTER TABLE t ADD COLUMN a bigint; ALTER TABLE t ADD COLUMN b bigint; CREATE TABLE n (a bigint);",
        "ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES p (id) NOT VALID;",
        "CREATE OR REPLACE VIEW v AS SELECT 1; CREATE OR REPLACE VIEW w AS SELECT 1;",
        "ALTER TABLE t ADD CONSTRAINT c UNIQUE USING INDEX i;",
        "ALTER TABLE t ADD COLUMN a bigint GENERATED ALWAYS AS (b + 1) VIRTUAL;",
        "ALTER TABLE child DROP CONSTRAINT child_p_fkey;",
    ],
)
def test_what_is_short_or_alone_is_no_hazard(text: str) -> None:
    assert rules(text, CHILD) == []


def test_a_reference_to_a_table_that_others_write_matters_when_slow_work_follows() -> None:
    (one,) = find("CREATE TABLE n (a bigint REFERENCES t (id)); INSERT INTO n SELECT id FROM old;")
    assert one.rule == "slow-work-under-lock"
    assert one.message == "INSERT … SELECT of n while the lock on t blocks writes"


def test_dropping_a_table_names_the_table_that_its_foreign_key_locks() -> None:
    (one,) = find("DROP TABLE child; SELECT 1;", CHILD)
    assert one.rule == "dropping-foreign-key"
    assert one.message == "DROP TABLE child locks p for reads and writes, too, until the file is done"
    assert one.hint and one.hint.endswith("ALTER TABLE child DROP CONSTRAINT child_p_fkey;")
    assert rules("DROP TABLE child, p; SELECT 1;", CHILD) == []


def test_several_locks_are_told_once_a_file() -> None:
    text = "ALTER TABLE a ADD COLUMN x bigint;\nALTER TABLE b ADD COLUMN x bigint;\nALTER TABLE c ADD COLUMN x bigint;"
    (one,) = find(text)
    assert (one.line, one.message) == (
        2, "while it waits for b, others wait for a, which this transaction has locked already"
    )  # fmt: skip
    assert one.hint == "begin another file here, with line 2"


def test_a_default_of_an_unknown_function_is_told_with_its_condition() -> None:
    (one,) = find("ALTER TABLE t ADD COLUMN a text DEFAULT app.new_code();")
    assert one.message.endswith(", unless app.new_code() is declared stable or immutable")


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        ("UPDATE t SET a = b * 2", "a IS DISTINCT FROM (b * 2)"),
        ("UPDATE t SET a = b, c = 1 WHERE d > 0", "(d > 0) AND (a IS DISTINCT FROM (b) OR c IS DISTINCT FROM (1))"),
        ("UPDATE t SET a = gen_random_uuid() WHERE a IS NULL", "a IS NULL"),
        ("DELETE FROM t WHERE d < 0", "d < 0"),
        # In batches these would never end, or change rows twice, or need another form.
        ("UPDATE t SET a = gen_random_uuid()", None),
        ("UPDATE t SET a = a + 1", None),
        ("UPDATE t SET a = b, b = a", None),
        ("UPDATE t SET a = p.id FROM p WHERE p.id = t.b", None),
        ("UPDATE t AS x SET a = 1 WHERE x.b = 2", None),
        ("UPDATE t SET (a, b) = (SELECT 1, 2)", None),
        ("DELETE FROM t USING p WHERE p.id = t.a", None),
        ("INSERT INTO t SELECT id FROM p", None),
        ("MERGE INTO t USING p ON p.id = t.a WHEN MATCHED THEN DELETE", None),
    ],
)
def test_a_change_is_advised_in_batches_only_where_they_end_with_the_same_rows(
    change: str, condition: str | None
) -> None:
    (one,) = find(f"ALTER TABLE t ADD COLUMN z bigint; {change};")
    assert one.rule == "slow-work-under-lock"
    if condition is None:
        assert one.hint == "put it into a later file"
    else:
        assert one.hint and f"SELECT ctid FROM t WHERE {condition} LIMIT 5000" in one.hint


def test_no_statement_of_the_catalogue_upsets_the_rules() -> None:
    for statement in [*(case.statement for case in CASES), *(one for one, _, _ in ALONE)]:
        for head in ("-- lockstep: transaction=none\n", ""):
            if head or not parse_script(statement, "x.sql", transactional=False).statements[0].alone:
                assert all(one.rule in RULES for one in find(f"{head}{statement};", BASE))
