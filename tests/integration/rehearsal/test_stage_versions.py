"""Extensions are on the copy what they are in the source, to the version; where they cannot be, it is said."""

from __future__ import annotations

import psycopg
import pytest

from tests.integration.rehearsal.stages import staged
from tests.project import Project


def _prepared(prod: Project, schema: str) -> None:
    prod.query(
        f"CREATE SCHEMA IF NOT EXISTS {schema}; CREATE EXTENSION pg_trgm WITH SCHEMA {schema} VERSION '1.3';"
        "CREATE TABLE t (id int, x text)",
        "prod",
    )
    assert prod.run("baseline", "prod", "--version", "none").code == 0


@pytest.mark.slow
def test_an_extension_is_restored_at_the_sources_version(prod: Project) -> None:
    _prepared(prod, "public")
    with staged(prod) as stage, psycopg.connect(stage.clone().admin) as copy:
        assert copy.execute("SELECT extversion FROM pg_extension WHERE extname = 'pg_trgm'").fetchone() == ("1.3",)
        assert stage.copy.other_versions == ()
        assert stage.proof.differences == ()


@pytest.mark.slow
def test_what_only_a_newer_version_has_fails_on_the_copy_as_it_would_in_production(prod: Project) -> None:
    _prepared(prod, "public")
    prod.write("001-view.sql", "CREATE VIEW v AS SELECT strict_word_similarity(x, 'a') AS s FROM t;")
    verdict = prod.run("rehearse", "prod", "--fresh", "--json").document["rehearsal"]["verdict"]
    assert verdict["outcome"] == "failed", verdict


@pytest.mark.slow
def test_an_update_is_tried_from_the_sources_version_and_comes_as_rehearsed(prod: Project) -> None:
    _prepared(prod, "public")
    prod.write("001-update.sql", "ALTER EXTENSION pg_trgm UPDATE;")
    done = prod.run("sync", "prod")
    assert done.code == 0, done.err
    assert "not all as rehearsed" not in done.out + done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "outcome"),
    [("ALTER EXTENSION pg_trgm UPDATE;", "could not verify"), ("ALTER TABLE t ADD n int;", "passed")],
)
def test_another_version_is_said_and_what_alters_it_cannot_be_verified(prod: Project, text: str, outcome: str) -> None:
    _prepared(prod, "elsewhere")
    prod.write("001-change.sql", text)
    found = prod.run("rehearse", "prod", "--fresh", "--json").document["rehearsal"]
    assert found["verdict"]["outcome"] == outcome, found["verdict"]
    assert found["copy"]["other_versions"] == ["pg_trgm"]
    assert any("pg_trgm" in note and "1.3" in note for note in found["copy"]["notes"])
    done = prod.run("sync", "prod", "--override", "it was looked at by hand")
    assert done.code == 0, done.err
    assert "not all as rehearsed" not in done.out + done.err
