"""What fails on the rows that are there is told by their keys: on a real server, by the engine itself, never by content."""

from __future__ import annotations

import pytest

from lockstep.core.rehearsal.verdict import Outcome, Problem
from lockstep.postgres.entries import RunInfo
from lockstep.service.progress import Silent
from lockstep.service.rehearsal.failing import failure_of
from lockstep.service.rehearsal.stage import Clone
from lockstep.service.rehearsal.trials import try_plan
from lockstep.service.run import new_run_id
from tests.project import Project

SECRET = "s3cret-content"
SCHEMA = f"""
CREATE TABLE public.customers (id bigint PRIMARY KEY, email text);
CREATE TABLE public.users (
    id bigint PRIMARY KEY, email text, name text, age text, total bigint, customer_id bigint, "Odd name" text
);
CREATE TABLE public.bare (a int, note text);
CREATE TABLE public.pairs (tenant int, id int, email text, PRIMARY KEY (tenant, id));
CREATE TABLE public.parts (id int, kind text, note text) PARTITION BY LIST (kind);
CREATE TABLE public.parts_a PARTITION OF public.parts FOR VALUES IN ('a');
CREATE TABLE public.parts_b PARTITION OF public.parts FOR VALUES IN ('b');
INSERT INTO public.customers VALUES (1, 'a'), (2, 'b');
INSERT INTO public.users
    SELECT n, 'u' || n, 'n' || n, n::text, n, n % 2 + 1, 'x' FROM generate_series(1, 100) AS n;
UPDATE public.users SET email = '{SECRET}' WHERE id IN (17, 23);
UPDATE public.users SET name = NULL WHERE id IN (5, 6, 7, 8);
UPDATE public.users SET age = '{SECRET}' WHERE id = 41;
UPDATE public.users SET age = 'abc' WHERE id = 42;
UPDATE public.users SET total = -3 WHERE id IN (3, 4);
UPDATE public.users SET customer_id = 77 WHERE id = 9;
UPDATE public.users SET "Odd name" = NULL WHERE id = 10;
INSERT INTO public.bare VALUES (1, 'x'), (1, '{SECRET}'), (2, 'y');
INSERT INTO public.pairs VALUES (1, 1, 'p'), (1, 2, 'p'), (2, 1, 'q');
INSERT INTO public.parts VALUES (1, 'a', 'n'), (1, 'b', 'n'), (2, 'b', 'o');
"""


def failure(project: Project, sql: str, head: str = "") -> Problem:
    """Apply one file as a trial does; return what is told of its failure."""
    project.query(SCHEMA)
    project.run("init")
    project.run("baseline", "dev", "--version", "none")
    project.write("001-change.sql", f"{head}{sql}\n")
    environment = project.environment("dev")
    clone = Clone(name="x", settings=project.settings(), environment=environment, admin=project.urls["dev"])
    tried = try_plan(clone, project.files(), RunInfo(run_id=new_run_id()), Silent())
    assert tried.error is not None
    problem = failure_of(tried.error, clone, tried.plan.steps[0].migration.up)
    assert problem.outcome is Outcome.FAILED and problem.file == "001-change.sql"
    assert SECRET not in f"{problem}"
    return problem


ALONE = "-- lockstep: transaction=none\n"

#: file -> what is told
CASES = {
    "CREATE UNIQUE INDEX ON public.users (email);":
        "public.users: 2 rows have the same value in (email): id = 17 and id = 23",
    "ALTER TABLE public.users ADD CONSTRAINT one UNIQUE (email);":
        "public.users: 2 rows have the same value in (email): id = 17 and id = 23",
    "CREATE UNIQUE INDEX ON public.users (lower(email)) WHERE total > 0;":
        "public.users: 2 rows have the same value in (lower(email)) among those WHERE total > 0: id = 17 and id = 23",
    "ALTER TABLE public.bare ADD PRIMARY KEY (a);":
        "public.bare: 2 rows have the same value in (a): ctid = (0,1) and ctid = (0,2)",
    "CREATE UNIQUE INDEX ON public.pairs (email);":
        "public.pairs: 2 rows have the same value in (email): (tenant, id) = (1, 1) and (tenant, id) = (1, 2)",
    "ALTER TABLE public.users ALTER COLUMN name SET NOT NULL;":
        "public.users: 4 rows have no value in name, for example id = 5, id = 6 and id = 7",
    'ALTER TABLE public.users ALTER COLUMN total SET NOT NULL, ALTER COLUMN "Odd name" SET NOT NULL;':
        "public.users: 1 row has no value in Odd name: id = 10",
    "ALTER TABLE public.users ADD CONSTRAINT positive CHECK (total >= 0);":
        "public.users: 2 rows break CHECK (total >= 0): id = 3 and id = 4",
    "ALTER TABLE public.users ADD FOREIGN KEY (customer_id) REFERENCES public.customers (id);":
        "public.users: 1 row refers with (customer_id) to a row of public.customers that is not there: id = 9",
    "ALTER TABLE public.users ADD FOREIGN KEY (customer_id) REFERENCES public.customers;":
        "public.users: 1 row refers with (customer_id) to a row of public.customers that is not there: id = 9",
    "ALTER TABLE public.users ALTER COLUMN age TYPE integer USING age::integer;":
        "public.users: 2 rows have a value in age that does not become int: id = 41 and id = 42",
    "ALTER TABLE public.users ALTER COLUMN age TYPE varchar(3);":
        "public.users: 1 row has a value in age that does not become varchar(3): id = 41",
    "ALTER TABLE public.parts ADD UNIQUE (id, kind), ADD CHECK (id > 1);":
        "public.parts: 2 rows break CHECK (id > 1): ctid = (0,1) of parts_a and ctid = (0,1) of parts_b",
}  # fmt: skip


@pytest.mark.parametrize(("sql", "told"), CASES.items(), ids=list(CASES))
def test_the_rows_in_the_way_are_named_by_their_keys(sql: str, told: str, project: Project) -> None:
    problem = failure(project, sql)
    assert problem.message == told
    assert (problem.rule, problem.line) == ("fails-on-data", 1)


def test_a_unique_index_outside_of_a_transaction_names_them_as_well(project: Project) -> None:
    problem = failure(project, "CREATE UNIQUE INDEX CONCURRENTLY users_email ON public.users (email);", ALONE)
    assert problem.message == "public.users: 2 rows have the same value in (email): id = 17 and id = 23"
    assert problem.line == 2


def test_rows_that_the_file_itself_makes_are_found_after_its_statements_before(project: Project) -> None:
    problem = failure(
        project,
        "ALTER TABLE public.users ADD COLUMN half bigint;\nUPDATE public.users SET half = id / 50;\n"
        "CREATE UNIQUE INDEX ON public.users (half);",
    )
    assert problem.message.startswith("public.users: 100 rows share one of 2 values in (half)") or (
        problem.message.startswith("public.users: 99 rows share one of 2 values in (half), for example id = ")
    )
    assert problem.line == 3
    assert project.query(
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'half'"
    ) == [(0,)]


def test_validating_names_the_rows_by_what_the_catalog_says(project: Project) -> None:
    project.query("CREATE TABLE public.orders (id int PRIMARY KEY, n int); INSERT INTO public.orders VALUES (1, -1);")
    project.query("ALTER TABLE public.orders ADD CONSTRAINT positive CHECK (n > 0) NOT VALID")
    problem = failure(project, "ALTER TABLE public.orders VALIDATE CONSTRAINT positive;")
    assert problem.message == "public.orders: 1 row breaks CHECK (n > 0): id = 1"


def test_what_finds_the_rows_runs(project: Project) -> None:
    problem = failure(project, "ALTER TABLE public.users ADD FOREIGN KEY (customer_id) REFERENCES public.customers;")
    assert problem.advice is not None
    told, _, finding = problem.advice.partition("\n")
    assert told == "mend these rows in a migration before this one; this finds them:"
    assert project.query(finding) == [(9,)]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        (f"INSERT INTO public.users (id, email) VALUES (17, '{SECRET}');", "duplicate key value violates unique constraint"),
        ("UPDATE public.users SET total = age::bigint;", "a text is no valid input of its new type (SQLSTATE 22P02)"),
        (f"DO $$ BEGIN RAISE EXCEPTION 'it is %', '{SECRET}'; END $$;", "the file raises an error of its own (SQLSTATE P0001)"),
        (f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = '{SECRET}'; END $$;",
            "code that it runs raises an error (SQLSTATE 23514)"),
        (f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = '{SECRET}'; END $$;",
            "code that it runs raises an error (SQLSTATE 42501)"),
        (f"DO $$ BEGIN RAISE undefined_table USING MESSAGE = 'relation \"{SECRET}\" does not exist'; END $$;",
            "code that it runs raises an error (SQLSTATE 42P01)"),
        ("DO $$ BEGIN PERFORM nowhere(1); END $$;", "function nowhere(integer) does not exist (SQLSTATE 42883)"),
        (f"DO $$ BEGIN EXECUTE 'SELECT * FORM {SECRET}'; END $$;", "code that it runs raises an error (SQLSTATE 42601)"),
        ("DO $$ BEGIN PERFORM * FROM public.missing; END $$;", 'relation "public.missing" does not exist (SQLSTATE 42P01)'),
        ("ALTER TABLE public.missing ADD COLUMN a int;", 'relation "public.missing" does not exist (SQLSTATE 42P01)'),
        ("ALTER TABLE public.users ALTER COLUMN age TYPE integer;", 'column "age" cannot be cast automatically to type integer'),
    ],
)  # fmt: skip
def test_where_rows_cannot_be_named_nothing_of_them_is_shown(sql: str, told: str, project: Project) -> None:
    problem = failure(project, sql)
    assert problem.message.startswith(told)
    assert problem.rule == ("fails-on-data" if sql.startswith(("INSERT", "UPDATE")) or "23514" in sql else "fails")


def test_a_verify_script_that_does_not_hold_is_told_of_its_migration(project: Project) -> None:
    project.write("001-change.verify.sql", "SELECT 1;\nSELECT false AS whole;")
    problem = failure(project, "CREATE TABLE public.fresh (id int);")
    assert problem.message == "001-change.verify.sql:2: a check of its own is not true (SQLSTATE P0004)"
    assert (problem.rule, problem.line) == ("fails", None)
