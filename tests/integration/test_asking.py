"""What the server is asked while the plan is made: whatever goes wrong there is told as if it had been asked alone."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.project import Project


@pytest.fixture
def two(project: Project) -> Iterator[Project]:
    """One applied, one pending."""
    project.write("001-a.sql", "CREATE TABLE public.a (id int);")
    assert project.run("init").code == 0 and project.run("sync").code == 0
    project.write("002-b.sql", "CREATE TABLE public.b (id int);")
    yield project


def test_states_that_are_locked_are_said_and_nothing_is_applied(two: Project) -> None:
    with psycopg.connect(two.urls["dev"]) as other:
        other.execute("LOCK TABLE public.schema_migrations_states")
        done = two.run("sync")
        other.rollback()
    assert done.code == 4 and "locked" in done.err
    assert two.query("SELECT to_regclass('b')") == [(None,)]
    assert two.run("sync").code == 0


def test_states_that_are_gone_are_said_with_the_remedy(two: Project) -> None:
    two.query("DROP TABLE public.schema_migrations_states")
    done = two.run("sync")
    assert done.code == 4 and "it keeps no fingerprints" in done.err and "lockstep init dev" in done.err
    assert two.query("SELECT to_regclass('b')") == [(None,)]
    assert two.run("init").code == 0 and two.run("sync").code == 0


def test_a_plan_that_is_refused_is_told_and_logged(two: Project) -> None:
    two.write("001-a.sql", "CREATE TABLE public.a (id bigint);")
    done = two.run("sync")
    assert done.code == 4 and "001-a.sql" in done.err
    assert two.query("SELECT count(*) FROM schema_migrations_log WHERE event = 'refuse'") == [(1,)]


def test_a_connection_that_ends_meanwhile_is_told_with_what_was_done(two: Project) -> None:
    # A state that ends the session of whoever reads it.
    two.query(
        "CREATE FUNCTION public.ends() RETURNS boolean LANGUAGE sql AS $$ SELECT CASE WHEN current_setting("
        "'application_name') LIKE 'lockstep/%%' THEN pg_terminate_backend(pg_backend_pid()) ELSE true END $$"
    )
    two.query("ALTER TABLE public.schema_migrations_states RENAME TO kept")
    two.query("CREATE VIEW public.schema_migrations_states AS SELECT * FROM public.kept WHERE public.ends()")
    done = two.run("sync")
    assert done.code == 8 and "Nothing was applied." in done.err, done.err
    assert two.query("SELECT to_regclass('b')") == [(None,)]
