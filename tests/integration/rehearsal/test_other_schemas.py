"""What lies in a schema that is not among [project] schemas is part of the proof all the same."""

from __future__ import annotations

import pytest

from tests.integration.rehearsal.proving import proofs
from tests.project import Project


def test_what_a_down_drops_in_another_schema_is_lost(prod: Project) -> None:
    prod.query("CREATE SCHEMA app; CREATE TABLE app.old (id int); INSERT INTO app.old VALUES (1), (2)", "prod")
    prod.write("001-table.sql", "CREATE TABLE app.t (id int); INSERT INTO app.t SELECT generate_series(1, 50);")
    prod.write("001-table.down.sql", "DROP TABLE app.t;")
    prod.write("002-column.sql", "ALTER TABLE app.old ADD w int; UPDATE app.old SET w = id;")
    prod.write("002-column.down.sql", "ALTER TABLE app.old DROP COLUMN w;")
    prod.write("003-index.sql", "CREATE INDEX old_id ON app.old (id); ALTER TABLE app.old ADD v int;")
    prod.write("003-index.down.sql", "ALTER TABLE app.old DROP COLUMN v;")
    prod.write("004-schema.sql", "CREATE SCHEMA more; CREATE TABLE more.t (id int); INSERT INTO more.t VALUES (1);")
    prod.write("004-schema.down.sql", "DROP SCHEMA more CASCADE;")
    found = proofs(prod)
    assert "50 rows of app.t" in found[1].text
    assert "2 rows of app.old.w" in found[2].text
    assert found[3].text == "not proven: differs at index app.old_id is left over"
    assert "1 row of more.t" in found[4].text


@pytest.mark.slow
def test_rows_that_came_later_into_another_schema_stop_a_revert(prod: Project) -> None:
    prod.query("CREATE SCHEMA app", "prod")
    prod.write("001-table.sql", "CREATE TABLE app.t (id int);")
    prod.write("001-table.down.sql", "DROP TABLE app.t;")
    done = prod.run("sync", "prod")
    assert done.code == 0, done.err
    prod.query("INSERT INTO app.t SELECT generate_series(1, 1000)", "prod")
    refused = prod.run("revert", "prod", "--to", "none")
    assert refused.code == 7, refused.err + refused.out
    assert "1,000 rows of app.t" in refused.err
    assert prod.query("SELECT count(*) FROM app.t", "prod") == [(1000,)]


@pytest.mark.slow
def test_a_deploy_to_another_schema_is_as_rehearsed_and_says_that_it_is_not_compared(prod: Project) -> None:
    prod.query("CREATE SCHEMA app", "prod")
    prod.write("001-table.sql", "CREATE TABLE app.t (id int); CREATE TABLE here (id int);")
    shown = prod.run("rehearse", "prod", "--fresh")
    assert "it changes the schema app, which is not among schemas under [project]" in " ".join(shown.out.split())
    done = prod.run("sync", "prod")
    assert done.code == 0, done.err
    assert "as rehearsed" in done.err
