"""Roles belong to a whole server: a trial that makes one must not be in the way of the next trial."""

from __future__ import annotations

import pytest

from tests.project import Project


@pytest.mark.slow
def test_a_plan_that_makes_a_role_is_tried_as_often_as_it_takes(prod: Project) -> None:
    prod.query("CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'a')", "prod")
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    prod.write("001-role.sql", "CREATE ROLE made_here; GRANT SELECT ON t TO made_here; UPDATE t SET v = 'b';")
    prod.write("001-role.down.sql", "REVOKE SELECT ON t FROM made_here; UPDATE t SET v = 'a'; DROP ROLE made_here;")
    prod.write("002-index.sql", "-- lockstep: transaction=none\nCREATE INDEX CONCURRENTLY t_id ON t (id);")
    prod.write("002-index.down.sql", "DROP INDEX t_id;")
    prod.write("003-more.sql", "UPDATE t SET v = 'c'; GRANT UPDATE ON t TO made_here;")
    prod.write("003-more.down.sql", "REVOKE UPDATE ON t FROM made_here; UPDATE t SET v = 'b';")
    done = prod.run("rehearse", "prod", "--fresh", "--json")
    assert done.code == 0, done.err + done.out
    found = done.document["rehearsal"]
    assert found["verdict"]["problems"] == []
    standings = {proof["name"]: (proof["standing"], proof["reason"]) for proof in found["proofs"]}
    assert standings["002-index.sql"] == ("proven", None)
    assert standings["003-more.sql"] == ("proven", None), standings
    assert prod.query("SELECT count(*) FROM pg_roles WHERE rolname = 'made_here'", "prod") == [(0,)]
