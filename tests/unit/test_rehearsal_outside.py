"""What leaves a database is told by the text; what only looks like it, or stays within the server, is not."""

from __future__ import annotations

import pytest

from lockstep.core.locking.nodes import nodes
from lockstep.core.rehearsal.outside import Routine, reaches, reaching_routines
from lockstep.core.statements import parse_script

REACHING = {
    "DROP SUBSCRIPTION feed": "touches-subscription",
    "CREATE SUBSCRIPTION feed CONNECTION 'host=x' PUBLICATION p WITH (connect = false)": "touches-subscription",
    "ALTER SUBSCRIPTION feed DISABLE": "touches-subscription",
    "ALTER SUBSCRIPTION feed RENAME TO other": "touches-subscription",
    "CREATE FOREIGN TABLE far (id int) SERVER s": "touches-foreign-table",
    "ALTER FOREIGN TABLE far ADD COLUMN n int": "touches-foreign-table",
    "DROP FOREIGN TABLE far": "touches-foreign-table",
    "IMPORT FOREIGN SCHEMA public FROM SERVER s INTO here": "touches-foreign-table",
    "CREATE USER MAPPING FOR PUBLIC SERVER s": "touches-foreign-table",
    "COPY t TO PROGRAM 'mail ops'": "reaches-outside",
    "COPY t FROM '/srv/data.csv'": "reaches-outside",
    "SELECT dblink('dbname=x', 'DELETE FROM t')": "reaches-outside",
    "INSERT INTO t SELECT * FROM public.dblink('x', 'SELECT 1') AS f (a int)": "reaches-outside",
    "SELECT net.http_post('https://example.com')": "reaches-outside",
    "SELECT http_get('https://example.com')": "reaches-outside",
    "SELECT cron.schedule('nightly', '0 3 * * *', 'VACUUM')": "reaches-outside",
    "UPDATE cron.job SET active = false": "reaches-outside",
    "SELECT lo_import('/etc/hosts')": "reaches-outside",
    "SELECT pg_catalog.pg_drop_replication_slot('s')": "reaches-outside",
    "ALTER TABLE t ADD COLUMN a text DEFAULT http_get('x')": "reaches-outside",
    "DO $$ BEGIN PERFORM net.http_post('x'); END $$": "reaches-outside",
    "DO $$ BEGIN COPY t TO PROGRAM 'x'; END $$": "reaches-outside",
    "ALTER SYSTEM SET work_mem = '1GB'": "reaches-outside",
}

STAYING = (
    "LISTEN channel",
    "NOTIFY channel, 'x'",
    "SELECT pg_notify('channel', 'x')",
    "CREATE VIEW v AS SELECT * FROM dblink('x', 'SELECT 1') AS f (a int)",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ SELECT net.http_post('x') $$",
    "COMMENT ON SUBSCRIPTION feed IS 'x'",
    "COMMENT ON FOREIGN TABLE far IS 'x'",
    "GRANT SELECT ON far TO reader",
    "CREATE TABLE http_log (id int)",
    "INSERT INTO t VALUES ('SELECT net.http_post()')",
    "SELECT my.http_posts()",
    "UPDATE net_worth SET cron = 1",
    "DROP TABLE t",
)  # fmt: skip


def rules(text: str) -> list[str]:
    script = parse_script(text, "001-x.sql", transactional=False)
    (statement,) = script.statements
    (node,) = nodes(script)
    return [one.rule for one in reaches(statement.kind, node)]


@pytest.mark.parametrize(("text", "rule"), REACHING.items(), ids=list(REACHING))
def test_a_statement_that_leaves_the_database_is_told(text: str, rule: str) -> None:
    assert set(rules(text)) == {rule}


@pytest.mark.parametrize("text", STAYING)
def test_a_statement_that_stays_is_not(text: str) -> None:
    assert rules(text) == []


def test_a_routine_reaches_through_others_and_by_its_extension() -> None:
    found = reaching_routines((
        Routine(schema="public", name="post", code="SELECT net.http_post('x')"),
        Routine(schema="public", name="outer_one", code="BEGIN PERFORM public.middle(1); END"),
        Routine(schema="public", name="middle", code="BEGIN PERFORM post(); END"),
        Routine(schema="public", name="harmless", code="SELECT postage()"),
        Routine(schema="ext", name="dblink_exec", code="", extension="dblink"),
        Routine(schema="ext", name="crypt", code="", extension="pgcrypto"),
    ))  # fmt: skip
    assert set(found) == {"public.post", "public.middle", "public.outer_one", "ext.dblink_exec"}
    assert found["public.post"] == "names net.http_post"
    assert found["ext.dblink_exec"] == "reaches another database"
