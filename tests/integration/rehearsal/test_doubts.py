"""What leads out of a database through its catalog is found: views, partitions, triggers, functions of functions."""

from __future__ import annotations

import pytest

from lockstep.core.rehearsal.verdict import Outcome
from lockstep.postgres.entries import RunInfo
from lockstep.service.progress import Silent
from lockstep.service.rehearsal.doubts import doubts_of
from lockstep.service.rehearsal.stage import Clone
from lockstep.service.rehearsal.trials import try_plan
from lockstep.service.run import new_run_id
from tests.project import Project

SCHEMA = """
CREATE EXTENSION postgres_fdw; CREATE EXTENSION dblink;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/nowhere', dbname 'x');
CREATE FOREIGN TABLE public.remote (id int, kind text) SERVER far;
CREATE VIEW public.remote_view AS SELECT id FROM public.remote;
CREATE VIEW public.view_of_view AS SELECT id FROM public.remote_view;
CREATE TABLE public.parted (id int, kind text) PARTITION BY LIST (kind);
CREATE TABLE public.parted_a PARTITION OF public.parted FOR VALUES IN ('a');
CREATE FOREIGN TABLE public.parted_far PARTITION OF public.parted FOR VALUES IN ('far') SERVER far;
CREATE MATERIALIZED VIEW public.kept AS SELECT id FROM public.remote WITH NO DATA;
CREATE SCHEMA net; CREATE TABLE net.routers (id int);
CREATE FUNCTION net.http_post(url text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
CREATE TABLE public.orders (id int PRIMARY KEY);
CREATE TABLE public.quiet (id int PRIMARY KEY);
CREATE FUNCTION public.tell() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM net.http_post('https://example.com'); END $$;
CREATE FUNCTION public.on_order() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.tell(); RETURN new; END $$;
CREATE TRIGGER tell AFTER INSERT ON public.orders FOR EACH ROW EXECUTE FUNCTION public.on_order();
CREATE FUNCTION public.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
"""

#: statement -> the rule and a part of what is told; None: no doubt
CASES = {
    "SELECT count(*) FROM public.view_of_view": ("touches-foreign-table", "public.remote through public.view_of_view"),
    "SELECT count(*) FROM view_of_view": ("touches-foreign-table", "public.remote through public.view_of_view"),
    "INSERT INTO public.remote VALUES (1, 'x')": ("touches-foreign-table", "the foreign table public.remote,"),
    "DELETE FROM public.parted": ("touches-foreign-table", "public.parted_far through public.parted"),
    "INSERT INTO public.orders VALUES (1)": ("reaches-outside", "a trigger of public.orders runs public.on_order"),
    "SELECT public.tell()": ("reaches-outside", "it calls public.tell, which names net.http_post"),
    "DO $$ BEGIN PERFORM tell(); END $$": ("reaches-outside", "its code calls public.tell"),
    "SELECT dblink_connect_u('x', 'dbname=y')": ("reaches-outside", "dblink_connect_u"),
    "REFRESH MATERIALIZED VIEW public.kept": ("touches-foreign-table", "public.remote through public.kept"),
    "COMMENT ON MATERIALIZED VIEW public.kept IS 'x'": None,
    "CREATE INDEX ON public.kept (id)": None,
    "INSERT INTO net.routers VALUES (1)": None,
    "INSERT INTO public.quiet VALUES (1)": None,
    "UPDATE public.quiet SET id = public.twice(id)": None,
    "ALTER TABLE public.orders ADD COLUMN n int": None,
    "CREATE VIEW public.third AS SELECT id FROM public.remote": None,
    "GRANT SELECT ON public.remote TO PUBLIC": None,
}


def clone_of(project: Project) -> Clone:
    """The project's own database in the place of a copy."""
    environment = project.environment("dev")
    return Clone(name="x", settings=project.settings(), environment=environment, admin=project.urls["dev"])


@pytest.mark.parametrize(("sql", "told"), CASES.items(), ids=list(CASES))
def test_what_leads_outside_is_a_doubt(sql: str, told: tuple[str, str] | None, project: Project) -> None:
    project.query(SCHEMA)
    project.run("init")
    project.run("baseline", "dev", "--version", "none")
    project.write("001-change.sql", f"SELECT 1;\n{sql};\n")
    clone = clone_of(project)
    tried = try_plan(clone, project.files(), RunInfo(run_id=new_run_id()), Silent())
    doubts = doubts_of(clone, tried.plan, tried.files).ups
    if told is None:
        assert tried.error is None and doubts == ()
        return
    (doubt,) = doubts
    assert (doubt.outcome, doubt.rule, doubt.file, doubt.line) == (Outcome.UNVERIFIED, told[0], "001-change.sql", 2)
    assert told[1] in doubt.message
    assert doubt.advice is not None and f"allow={told[0]}" in doubt.advice


def test_what_the_plan_itself_makes_is_known_before_anything_runs(project: Project) -> None:
    project.query(SCHEMA)
    project.run("init")
    project.run("baseline", "dev", "--version", "none")
    project.write("001-ok.sql", "CREATE TABLE public.fine (id int);")
    project.write(
        "002-post.sql",
        "CREATE FUNCTION public.later() RETURNS trigger LANGUAGE plpgsql AS\n"
        "    $$ BEGIN PERFORM net.http_post('x'); RETURN new; END $$;\n"
        "CREATE TRIGGER later AFTER INSERT ON public.quiet FOR EACH ROW EXECUTE FUNCTION public.later();",
    )
    project.write("003-insert.sql", "INSERT INTO public.quiet VALUES (7);")
    project.write("003-insert.down.sql", "SELECT public.tell();")
    project.write("004-more.sql", "CREATE TABLE public.more (id int);")
    clone = clone_of(project)
    tried = try_plan(
        clone,
        project.files(),
        RunInfo(run_id=new_run_id()),
        Silent(),
        hold=lambda plan: doubts_of(clone, plan).held(plan),
    )
    assert [file.name for file in tried.files] == ["001-ok.sql", "002-post.sql"]
    assert tried.held == "003-insert.sql"
    doubts = doubts_of(clone, tried.plan)
    assert [(one.file, one.line) for one in doubts.ups] == [("003-insert.sql", 1)]
    assert list(doubts.downs) == ["003-insert.sql"]
    assert project.query("SELECT count(*) FROM public.quiet") == [(0,)]


def test_an_accepted_doubt_holds_nothing_up(project: Project) -> None:
    project.query(SCHEMA)
    project.run("init")
    project.run("baseline", "dev", "--version", "none")
    project.write("001-tell.sql", '-- lockstep: allow=reaches-outside reason="a test"\nSELECT public.tell();')
    clone = clone_of(project)
    tried = try_plan(
        clone,
        project.files(),
        RunInfo(run_id=new_run_id()),
        Silent(),
        hold=lambda plan: doubts_of(clone, plan).held(plan),
    )
    assert tried.held is None and len(tried.files) == 1
