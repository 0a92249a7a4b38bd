"""Where a copy cannot be as production is: what of that matters is said, and nothing is blamed that is not to blame."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from lockstep.postgres import shape as shape_module
from lockstep.service import restored
from tests.integration.rehearsal.stages import staged
from tests.project import Project


def _outcome(prod: Project) -> dict[str, Any]:
    found: dict[str, Any] = prod.run("rehearse", "prod", "--fresh", "--json").document["rehearsal"]["verdict"]
    return found


@pytest.mark.slow
def test_a_locale_that_is_not_here_keeps_upper_and_lower_case(prod: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shape_module.create_like

    def lacking(connection: Any, name: str, shape: Any, **more: Any) -> None:
        if shape.ctype != "C.UTF-8" or shape.collate != "C":
            raise psycopg.errors.InvalidParameterValue("invalid LC_COLLATE locale name")
        real(connection, name, shape, **more)

    prod.query("CREATE TABLE t (x text); INSERT INTO t VALUES ('É'), ('é')", "prod")
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    monkeypatch.setattr(restored, "create_like", lacking)
    with staged(prod) as stage, psycopg.connect(stage.clone().admin) as copy:
        assert copy.execute("SELECT count(DISTINCT lower(x)) FROM t").fetchone() == (1,)
        assert any("order C" in note and "Unicode" in note for note in stage.copy.notes)
    prod.write("001-index.sql", "CREATE UNIQUE INDEX t_lower ON t (lower(x));")
    assert _outcome(prod)["outcome"] == "failed", "as it would in production"


@pytest.mark.slow
def test_rows_that_break_their_own_foreign_key_are_the_news(prod: Project) -> None:
    prod.query(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p);"
        "SET session_replication_role = replica; INSERT INTO c VALUES (1, 987654)",
        "prod",
    )
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    prod.write("001-a.sql", "CREATE TABLE fresh (id int);")
    done = prod.run("rehearse", "prod", "--fresh")
    assert done.code != 0
    told = done.out + done.err
    assert "does not restore cleanly" in told and "c_p_fkey" in told and "Every stored byte" in told
    assert "987654" not in told and "full disk" not in told and "says nothing about it" not in told


@pytest.mark.slow
def test_a_tablespace_of_productions_machine_cannot_be_verified(prod: Project) -> None:
    prod.query("CREATE TABLE t (id int)", "prod")
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    prod.write("001-index.sql", "CREATE INDEX t_id ON t (id) TABLESPACE fast;")
    verdict = _outcome(prod)
    assert verdict["outcome"] == "could not verify", verdict
    assert "tablespaces are folders" in verdict["problems"][0]["message"]


@pytest.mark.slow
def test_a_role_that_other_clones_depend_on_cannot_be_verified(prod: Project) -> None:
    name = f"old_{prod.query('SELECT current_database()', 'prod')[0][0]}"
    prod.query(f"CREATE ROLE {name}; CREATE TABLE legacy (a int); ALTER TABLE legacy OWNER TO {name}", "prod")
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    prod.write("001-role.sql", f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}; DROP ROLE {name};")
    verdict = _outcome(prod)
    assert verdict["outcome"] == "could not verify", verdict
    assert any("further clones" in one["message"] for one in verdict["problems"])
