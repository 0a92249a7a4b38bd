"""Which downs do the same whatever rows there are."""

from __future__ import annotations

import pytest

from lockstep.core.rehearsal.structural import structure_of
from lockstep.core.statements import parse_script

STRUCTURAL = (
    "DROP TABLE a.b, c",
    "DROP INDEX CONCURRENTLY i",
    "DROP VIEW v; DROP MATERIALIZED VIEW m; DROP FUNCTION f(int); DROP TRIGGER x ON t; DROP POLICY p ON t; DROP SEQUENCE s",
    "DROP SCHEMA app; DROP TYPE mood; DROP DOMAIN d",
    "ALTER TABLE t DROP COLUMN c",
    "ALTER TABLE t ADD COLUMN c int DEFAULT 3 NOT NULL, ADD d text, ADD at timestamptz NOT NULL DEFAULT now()",
    "ALTER TABLE t RENAME a TO b; ALTER TABLE t RENAME TO u; ALTER TABLE u SET SCHEMA s; ALTER INDEX i RENAME TO j",
    "ALTER TABLE t DROP CONSTRAINT c, ALTER a DROP NOT NULL, ALTER a SET DEFAULT f(1), ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 1) NOT VALID",
    "CREATE INDEX CONCURRENTLY i ON t (lower(a)) WHERE b > 1",
    "COMMENT ON TABLE t IS 'x'; GRANT SELECT ON t TO x; REVOKE SELECT ON t FROM x",
    "CREATE POLICY p ON t USING (true); ALTER POLICY p ON t USING (false)",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'DELETE FROM t RETURNING 1'; CREATE OR REPLACE VIEW v AS SELECT f()",
    "SET LOCAL lock_timeout = '1s'; CREATE TABLE t (id int PRIMARY KEY); SELECT 1; SELECT 'nothing', NULL",
)

NOT = (
    "DELETE FROM t WHERE a = 1",
    "UPDATE t SET a = NULL",
    "INSERT INTO t VALUES (1)",
    "TRUNCATE t",
    "MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN DELETE",
    "COPY t TO PROGRAM 'cat'",
    "DO $$ BEGIN DELETE FROM t; END $$",
    "CALL p()",
    "SELECT f()",
    "SELECT count(*) FROM t",
    "SELECT 1 + 1",  # an operator may be anybody's
    "SELECT 1 INTO x",
    "SELECT 'x'::my_domain",
    "WITH gone AS (DELETE FROM t RETURNING 1) SELECT 1",
    "CREATE TABLE a AS SELECT 1",
    "CREATE TABLE x PARTITION OF t DEFAULT",
    "CREATE MATERIALIZED VIEW m AS SELECT 1",
    "REFRESH MATERIALIZED VIEW m",
    "DROP TABLE t CASCADE",
    "DROP TYPE mood CASCADE",
    "DROP SCHEMA app CASCADE",
    "DROP FUNCTION f() CASCADE",
    "DROP OWNED BY x",
    "DROP EXTENSION cron",  # with its tables
    "ALTER TABLE t DROP COLUMN a CASCADE",
    "ALTER TABLE t DROP CONSTRAINT a CASCADE",
    "ALTER TYPE pair DROP ATTRIBUTE b",
    "ALTER TYPE pair RENAME ATTRIBUTE b TO c CASCADE",
    "REVOKE SELECT ON t FROM x CASCADE",
    "ALTER TABLE t ALTER a TYPE varchar(10)",
    "ALTER TABLE t ALTER a SET NOT NULL",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 1)",
    "ALTER TABLE t VALIDATE CONSTRAINT c",
    "ALTER TABLE t ADD UNIQUE (a)",
    "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u",
    "ALTER TABLE t ADD c int NOT NULL",  # fails as soon as there is a row
    "ALTER TABLE t ADD c int DEFAULT f()",
    "ALTER TABLE t ADD c int GENERATED ALWAYS AS (a + 1) STORED",
    "ALTER TABLE t ADD c bigserial",
    "ALTER TABLE t SET UNLOGGED",
    "ALTER TABLE t DETACH PARTITION p",
    "ALTER TABLE t ATTACH PARTITION p DEFAULT",
    "CREATE UNIQUE INDEX i ON t (a)",
    "DROP INDEX i; DELETE FROM t",
)


@pytest.mark.parametrize("text", STRUCTURAL)
def test_structural(text: str) -> None:
    assert structure_of(parse_script(text, "001-m.down.sql", transactional="CONCURRENTLY" not in text)) is not None


@pytest.mark.parametrize("text", NOT)
def test_not_structural(text: str) -> None:
    assert structure_of(parse_script(text, "001-m.down.sql", transactional=True)) is None


def test_what_is_dropped_whether_it_is_there_or_not() -> None:
    text = 'DROP TABLE IF EXISTS a."B", c; DROP TABLE d; ALTER TABLE IF EXISTS t DROP x, DROP IF EXISTS y; ALTER TABLE t DROP z'
    found = structure_of(parse_script(text, "001-m.down.sql", transactional=True))
    assert found is not None and not found.renames
    assert found.drops == {("B", None), ("c", None), ("d", None), ("t", "x"), ("t", "y"), ("t", "z")}
