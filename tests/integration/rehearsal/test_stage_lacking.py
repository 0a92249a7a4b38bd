"""A machine that lacks an extension, or the source's major version: it is said, and what does not need it is tried."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg
import pytest

from lockstep.postgres import prerequisites
from tests.integration.backup.store import Store
from tests.integration.rehearsal.stages import staged
from tests.project import Project

PG15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="module")
def without_hstore(pg_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PostgreSQL's programs as on a machine that does not have the extension."""
    programs = tmp_path_factory.mktemp("programs") / "install"
    shutil.copytree(pg_bin.parent, programs, symlinks=True)
    for folder in (programs, *programs.parents):
        if folder.stat().st_mode & 0o777 == 0o700 and folder.is_relative_to(tmp_path_factory.getbasetemp()):
            folder.chmod(0o755)
    found = list(programs.rglob("hstore*.control"))
    assert found
    for file in found:
        file.unlink()
    return programs


@pytest.fixture
def shop(prod: Project, without_hstore: Path) -> Project:
    """A database with an extension that the machine of the rehearsal does not have."""
    prod.query(
        """
        CREATE EXTENSION hstore;
        CREATE TABLE docs (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tags hstore);
        INSERT INTO docs (tags) SELECT 'a=>1' FROM generate_series(1, 10);
        CREATE INDEX docs_tags ON docs USING gin (tags);
        CREATE VIEW doc_ids AS SELECT id FROM docs;
        CREATE TABLE orders (id int PRIMARY KEY, doc int REFERENCES docs (id));
        INSERT INTO orders SELECT g, g FROM generate_series(1, 10) g;
        CREATE FUNCTION count_tags(hstore) RETURNS int LANGUAGE sql AS 'SELECT 1'
        """,
        "prod",
    )
    prod.toml += f'programs = "{without_hstore}"\n'
    prod.configure(prod="protected = true")
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    return prod


def test_what_needs_a_missing_extension_is_left_out_and_said(shop: Project) -> None:
    with staged(shop) as stage:
        assert stage.copy.lacking == ("hstore",)
        assert "TABLE public.docs" in stage.copy.left_out
        assert "VIEW public.doc_ids" in stage.copy.left_out
        assert any(one.startswith("FUNCTION public.count_tags") for one in stage.copy.left_out)
        assert stage.proof.differences == ()
        with psycopg.connect(stage.clone().admin) as there:
            assert there.execute("SELECT count(*) FROM orders").fetchone() == (10,)
            assert there.execute("SELECT to_regclass('docs')").fetchone() == (None,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("ALTER TABLE orders ADD COLUMN n int;", "passed"),
        ("ALTER TABLE docs ADD COLUMN n int;", "could not verify"),
        ("DROP TABLE IF EXISTS docs CASCADE;", "could not verify"),
        ("CREATE TABLE more (tags hstore);", "could not verify"),
        ("SELECT count_tags('a=>1');", "could not verify"),
        ("ALTER TABLE orders ADD CHECK (id > 5);", "failed"),
    ],
)
def test_a_plan_that_needs_it_cannot_be_verified_and_another_one_passes(shop: Project, text: str, outcome: str) -> None:
    shop.write("001-change.sql", text)
    done = shop.run("rehearse", "prod", "--fresh", "--json")
    found = done.document["rehearsal"]
    assert found["verdict"]["outcome"] == outcome, found["verdict"]
    if outcome == "could not verify":
        assert "not-on-copy" in {one["rule"] for one in found["verdict"]["problems"]}


@pytest.mark.slow
def test_a_copy_that_is_not_whole_verifies_no_backup(shop: Project) -> None:
    shop.write("001-change.sql", "SELECT 1;")
    assert shop.run("rehearse", "prod", "--fresh").code == 0
    assert "never" in shop.run("backups", "list").out


@pytest.mark.slow
def test_an_extension_that_cannot_be_made_here_counts_as_missing(prod: Project) -> None:
    with psycopg.connect(prod.urls["prod"], autocommit=True) as here:
        assert prerequisites.uncreatable_extensions(here, ["hstore", "no_such_extension"]) == ("no_such_extension",)
        assert here.execute("SELECT count(*) FROM pg_extension WHERE extname = 'hstore'").fetchone() == (0,)


@pytest.mark.slow
@pytest.mark.postgresql15
def test_a_source_of_a_major_that_is_not_here_is_tried_on_a_higher_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pg_bin: Path
) -> None:
    from lockstep.errors import ProgramMissing
    from lockstep.postgres import programs
    from lockstep.postgres.throwaway import ThrowawayServer

    with ThrowawayServer(PG15) as source:
        (tmp_path / "migrations").mkdir()
        project = Project(folder=tmp_path, urls={"prod": source.url()})
        project.variables["AWS_EC2_METADATA_DISABLED"] = "true"
        project.toml = f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
        project.configure(prod="protected = true")
        project.query("CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t VALUES (1)", "prod")
        assert project.run("init").code == 0
        assert project.run("baseline", "prod", "--version", "none").code == 0
        project.write("001-a.sql", "ALTER TABLE t ADD COLUMN n int;")
        assert project.run("backup", "prod").code == 0
        known = programs._known
        monkeypatch.setattr(
            programs,
            "_known",
            lambda major: iter(()) if major == 15 else (p for p in known(major) if "15" not in p.parts),
        )
        found = project.run("rehearse", "prod", "--json").document["rehearsal"]
        assert found["verdict"]["outcome"] == "passed", found["verdict"]
        assert found["copy"]["server_version"].startswith("17")
        assert any("PostgreSQL 15 is not at hand" in note for note in found["copy"]["notes"])
        with pytest.raises(ProgramMissing):  # never a lower one
            programs.nearest_major(("postgres",), 20)
