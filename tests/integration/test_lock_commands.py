"""`validate` and `plan` say which locks a file takes, what they block, and the safe way, once per problem."""

from __future__ import annotations

from tests.project import Project

FIRST = """
CREATE TABLE public.orders (
    id bigint CONSTRAINT orders_pkey PRIMARY KEY,
    total bigint
);
CREATE INDEX orders_total_idx ON public.orders (total);
"""
#: Each line is a problem that the linter knows, too.
SECOND = """ALTER TABLE public.orders ADD COLUMN token uuid DEFAULT gen_random_uuid();
ALTER TABLE public.orders ALTER COLUMN total TYPE numeric;
ALTER TABLE public.orders ALTER COLUMN total SET NOT NULL;
ALTER TABLE public.orders ADD CONSTRAINT a CHECK (total > 0);
ALTER TABLE public.orders ADD CONSTRAINT b FOREIGN KEY (id) REFERENCES public.orders (id);
ALTER TABLE public.orders ADD CONSTRAINT c UNIQUE (total);
ALTER TABLE public.orders ADD PRIMARY KEY (id);
CREATE INDEX i ON public.orders (total);
DROP INDEX public.orders_total_idx;
REINDEX TABLE public.orders;
ALTER TABLE public.orders DETACH PARTITION public.part;
ALTER TABLE public.orders ADD CONSTRAINT d CHECK (total > 0) NOT VALID;
ALTER TABLE public.orders VALIDATE CONSTRAINT d;
TRUNCATE public.orders CASCADE;
"""


def test_each_problem_is_found_once_with_the_sql_for_its_names(project: Project) -> None:
    project.write("001-orders.sql", FIRST)
    project.write("002-change.sql", SECOND)
    for name in ("001-orders", "002-change"):
        project.write(f"{name}.down.sql", "SELECT 1;")
    done = project.run("validate", "--json")
    assert done.code == 0
    assert [(f["file"], f["line"], f["rule"]) for f in done.document["findings"]] == [
        ("002-change.sql", 1, "adding-field-with-default"),
        ("002-change.sql", 2, "changing-column-type"),
        ("002-change.sql", 3, "adding-not-nullable-field"),
        ("002-change.sql", 4, "constraint-missing-not-valid"),
        ("002-change.sql", 5, "adding-foreign-key-constraint"),
        ("002-change.sql", 6, "disallowed-unique-constraint"),
        ("002-change.sql", 7, "adding-serial-primary-key-field"),
        ("002-change.sql", 8, "require-concurrent-index-creation"),
        ("002-change.sql", 9, "require-concurrent-index-deletion"),
        ("002-change.sql", 10, "require-concurrent-reindex"),
        ("002-change.sql", 11, "require-concurrent-partition-detach"),
        ("002-change.sql", 11, "several-strong-locks"),
        ("002-change.sql", 13, "validating-in-same-transaction"),
        ("002-change.sql", 14, "ban-truncate-cascade"),
    ]
    assert all("public.orders" in f["message"] + f["hint"] for f in done.document["findings"][:10])
    text = project.run("validate").out
    assert (
        "  next: build it beside the writes, in a file of its own:\n    -- lockstep: transaction=none\n    CREATE"
        in text
    )
    assert project.run("validate", "--strict").code == 7


def test_a_file_outside_of_a_transaction_may_be_concurrent(project: Project) -> None:
    project.write("001-orders.sql", FIRST)
    project.write(
        "002-index.sql", "-- lockstep: transaction=none\nCREATE INDEX CONCURRENTLY i ON public.orders (total);"
    )
    found = project.run("validate", "--json").document["findings"]
    assert {f["rule"] for f in found} <= {"missing-down", "not-run-yet", "prefer-robust-stmts"}


def test_a_finding_of_ours_is_allowed_like_one_of_the_linters(project: Project) -> None:
    allow = '-- lockstep: allow=require-concurrent-index-creation reason="ten rows"\n'
    project.write("001-a.sql", f"{allow}CREATE INDEX i ON public.orders (total);")
    project.write("001-a.down.sql", "SELECT 1;")
    assert project.run("validate", "--strict").code == 0


def test_validate_shows_the_lock_of_each_statement(project: Project) -> None:
    project.write("001-orders.sql", FIRST)
    project.write("001-orders.down.sql", "DROP TABLE public.orders;")
    project.write("002-index.sql", "DROP INDEX public.orders_total_idx;\nDO $$ BEGIN NULL; END $$;")
    project.write("003-broken.sql", "SELECT frm;;; x")
    project.write("repeatable/view.sql", "CREATE OR REPLACE VIEW public.v AS SELECT id FROM public.orders;")
    done = project.run("validate", "--locks")
    assert done.code == 7
    tables, _, _ = done.out.partition("002-index.sql: warning")
    assert tables.splitlines() == [
        "001-orders.sql",
        "  2 statements lock nothing that others use",
        "",
        "001-orders.down.sql",
        "  line  statement   lock              on             blocks",
        "  1     DROP TABLE  ACCESS EXCLUSIVE  public.orders  reads and writes",
        "",
        "002-index.sql",
        "  line  statement   lock              on                                blocks",
        "  1     DROP INDEX  ACCESS EXCLUSIVE  public.orders_total_idx           reads and writes",
        "                    ACCESS EXCLUSIVE  public.orders                     reads and writes",
        "  2     DO          not known         what its code locks is not known  not known",
        "",
        "repeatable/view.sql",
        "  line  statement    lock              on             blocks",
        "  1     CREATE VIEW  ACCESS EXCLUSIVE  public.v       reads and writes",
        "                     ACCESS SHARE      public.orders  nothing",
        "",
    ]
    assert project.run("validate", "--json").document["locks"] is None
    files = project.run("validate", "--locks", "--json").document["locks"]
    assert [file["file"] for file in files] == [
        "001-orders.sql", "001-orders.down.sql", "002-index.sql", "repeatable/view.sql"
    ]  # fmt: skip
    assert files[2]["statements"][0] == {
        "line": 1,
        "statement": "DROP INDEX",
        "locks": [
            {"relation": name, "named": True, "mode": "ACCESS EXCLUSIVE", "blocks": "reads and writes", "new": False}
            for name in ("public.orders_total_idx", "public.orders")
        ],
        "unknown": None,
    }
    assert files[0]["statements"][1]["locks"][0]["new"] is True


def test_a_plan_shows_the_strongest_locks_of_a_step(project: Project) -> None:
    project.run("init")
    project.write("001-orders.sql", FIRST)
    project.write("002-change.sql", "ALTER TABLE public.orders ADD COLUMN a bigint;\nDO $$ BEGIN NULL; END $$;")
    done = project.run("plan")
    assert done.out.splitlines()[1:4] == [
        "  1. 001-orders  (one transaction, 2 statements, no way back)",
        "  2. 002-change  (one transaction, 2 statements, no way back)",
        "     ACCESS EXCLUSIVE on public.orders: blocks reads and writes; not known of line 2",
    ]
    first, second = project.run("plan", "--json").document["environments"][0]["steps"]
    assert (first["locks"], first["unknown"]) == ([], [])
    assert second["locks"] == [
        {
            "relation": "public.orders",
            "named": True,
            "mode": "ACCESS EXCLUSIVE",
            "blocks": "reads and writes",
            "new": False,
        }
    ]
    assert second["unknown"] == [{"line": 2, "statement": "DO", "unknown": "what its code locks is not known"}]


def test_a_plan_shows_the_findings_of_each_statement_by_rule(project: Project) -> None:
    project.run("init")
    project.write("001-orders.sql", FIRST)
    project.run("sync", "dev")
    project.write(
        "002-change.sql",
        "ALTER TABLE public.orders ALTER COLUMN total TYPE bigint;\nCREATE INDEX i ON public.orders (total);\n"
        "CREATE TABLE public.notes (id bigint, n text);\nALTER TABLE public.notes ALTER COLUMN n SET NOT NULL;",
    )
    project.write("003-notes.sql", "ALTER TABLE public.notes ALTER COLUMN n TYPE int USING n::int;")
    assert project.run("plan").out.splitlines()[1:7] == [
        "  1. 002-change  (one transaction, 4 statements, no way back)",
        "     line 1: ACCESS EXCLUSIVE on public.orders: blocks reads and writes",
        "     line 2: SHARE on public.orders: blocks writes",
        "     line 2: warning: CREATE INDEX blocks writes to public.orders until it is built [require-concurrent-index-creation]",
        "  2. 003-notes  (one transaction, 1 statement, no way back)",
        "     ACCESS EXCLUSIVE on public.notes: blocks reads and writes",
    ]
    assert "  the safe ways: lockstep validate" in project.run("plan").out
    step = project.run("plan", "--json").document["environments"][0]["steps"][0]
    assert [(one["line"], one["rule"]) for one in step["findings"]] == [(2, "require-concurrent-index-creation")]
    assert [one["locks"][0]["mode"] for one in step["by_statement"][:2]] == ["ACCESS EXCLUSIVE", "SHARE"]
