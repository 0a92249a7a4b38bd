"""What an experienced DBA tried, to make Lockstep say what is not so or do what it must not. Each of these once worked."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from lockstep.postgres.entries import RunInfo
from lockstep.postgres.executor import Done
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.applying import open_apply
from tests.integration.proxy import CountingProxy
from tests.integration.test_ledger import database_of, role
from tests.project import Project

RULES = "CREATE TABLE a (id bigint PRIMARY KEY);" + "".join(
    f"CREATE RULE r{n} AS ON INSERT TO a DO ALSO SELECT {n};" for n in range(3)
)


def test_results_of_rules_do_not_make_a_failed_migration_look_applied(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", RULES)
    assert project.run("sync").code == 0
    project.write("002-b.sql", "".join(f"INSERT INTO a VALUES ({n});\n" for n in (1, 2, 3, 4, 5, 1)))
    done = project.run("sync")
    assert done.code == 6
    assert "002-b.sql:6" in done.err and "statement 6 of 6" in done.err
    assert project.query("SELECT count(*) FROM a") == [(0,)]


def test_results_of_rules_do_not_make_a_false_verify_result_pass(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", RULES)
    project.run("sync")
    project.write("002-b.sql", "INSERT INTO a VALUES (1);")
    project.write("002-b.verify.sql", "INSERT INTO a VALUES (9);\nSELECT false AS holds;")
    done = project.run("sync")
    assert done.code == 6 and "002-b.verify.sql:2: verify: holds is false" in done.err
    assert project.query("SELECT count(*) FROM a") == [(0,)]


def test_results_of_rules_do_not_make_a_failed_revert_look_done(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", RULES)
    project.write("001-a.down.sql", "INSERT INTO a VALUES (1);\nINSERT INTO a VALUES (2);\nDROP TABLE a, nowhere;")
    project.run("sync")
    done = project.run("revert", "dev", "--steps", "1")
    assert done.code == 6 and "001-a.down.sql:3" in done.err
    assert "applied" in project.run("status").out


PLANTED = {
    "a function": "CREATE FUNCTION public.format(text, text) RETURNS text LANGUAGE plpgsql AS {body}",
    "an operator on oids": "CREATE FUNCTION public.eq(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS {body};"
    " CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.eq)",
    "an operator on jsonb": "CREATE FUNCTION public.has(jsonb, jsonb) RETURNS boolean LANGUAGE plpgsql AS {body};"
    " CREATE OPERATOR public.? (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = public.has)",
    "a cast-free equal": "CREATE FUNCTION public.eqt(name, text) RETURNS boolean LANGUAGE plpgsql AS {body};"
    " CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.eqt)",
}


@pytest.mark.parametrize("case", PLANTED)
def test_what_others_planted_in_public_is_never_run(case: str, server: ThrowawayServer, project: Project) -> None:
    url = role(server, database_of(project), "app_login", "GRANT CREATE ON SCHEMA public TO app_login")
    body = "$$ BEGIN IF current_user <> 'app_login' THEN RAISE EXCEPTION 'planted code runs as %', current_user; END IF; RETURN NULL; END $$"
    project.run("init")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(PLANTED[case].format(body=body).encode())
    project.write("001-a.sql", "CREATE TABLE public.a (id bigint);")
    project.write("001-a.down.sql", "DROP TABLE public.a;")
    for command in (
        ("init",),
        ("status",),
        ("plan",),
        ("sync",),
        ("history", "--verify"),
        ("revert", "dev", "--steps", "1"),
    ):
        done = project.run(*command)
        assert done.code == 0, (command, done)


def test_a_restrict_line_inside_a_literal_is_data(project: Project) -> None:
    project.run("init")
    project.write(
        "001-a.sql", "\\restrict key\nCREATE TABLE a AS SELECT 'x\n\\restrict abc\ny'::text AS t;\n\\unrestrict key\n"
    )
    assert project.run("sync").code == 0
    assert project.query("SELECT t FROM a") == [("x\n\\restrict abc\ny",)]


def test_a_reset_that_fails_does_not_leave_the_next_migration_another_role(
    server: ThrowawayServer, project: Project
) -> None:
    url = role(server, database_of(project), "deployer", "GRANT CREATE ON SCHEMA public TO deployer")
    role(
        server,
        database_of(project),
        "owner_role",
        "GRANT ALL ON SCHEMA public TO owner_role",
        "GRANT owner_role TO deployer",
    )
    # The login's own limit comes back with RESET ALL, and dropping so many temporary tables takes longer.
    role(
        server,
        database_of(project),
        "deployer",
        f'ALTER ROLE deployer IN DATABASE "{database_of(project)}" SET statement_timeout = 30',
    )
    project.urls["dev"] = url
    project.configure(dev='role = "owner_role"')
    project.run("init")
    project.write(
        "001-a.sql",
        "DO $$ BEGIN FOR i IN 1..1500 LOOP EXECUTE format('CREATE TEMP TABLE t%s (id int)', i); END LOOP; END $$;",
    )
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    done = project.run("sync")
    assert done.code == 0, done.err
    assert project.query("SELECT tableowner FROM pg_tables WHERE tablename = 'b'") == [("owner_role",)]


def test_a_reverted_version_stays_held_whatever_its_checksum_was(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.write("001-a.down.sql", "DROP TABLE a;")
    project.run("sync")
    project.write("001-a.sql", "-- only a comment more\nCREATE TABLE a (id bigint);")
    assert project.run("revert", "dev", "--steps", "1").code == 0
    assert "held" in project.run("status").out
    project.write("001-a.sql", "-- and another one\nCREATE TABLE a (id bigint);")
    assert project.run("sync").code == 7
    project.write("001-a.sql", "CREATE TABLE a (id bigint, better text);")
    assert project.run("sync").code == 0


def test_a_reverted_version_of_an_older_ledger_stays_held(project: Project) -> None:
    project.query(
        "CREATE TABLE schema_migrations (migration_name text, checksum text, applied_at timestamp DEFAULT now())"
    )
    project.query("INSERT INTO schema_migrations VALUES ('001-a.sql', 'unknown'); CREATE TABLE a (id bigint)")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.write("001-a.down.sql", "DROP TABLE a;")
    project.run("init")
    assert project.run("revert", "dev", "--steps", "1").code == 0
    assert project.run("sync").code == 7


def test_uses_belongs_to_repeatable_files(project: Project) -> None:
    project.write("001-a.sql", "-- lockstep: uses=x\nSELECT 1;")
    done = project.run("validate")
    assert done.code == 7 and "uses=… is for repeatable files" in done.out


def test_a_version_zero_is_a_version_and_none_is_none(project: Project) -> None:
    project.query("CREATE TABLE users (id bigint)")
    project.run("init")
    project.write("000-init.sql", "CREATE TABLE zero (id bigint);")
    project.write("000-init.down.sql", "DROP TABLE zero;")
    assert project.run("baseline", "dev", "--version", "none").out == "(none): everything in the folder is pending\n"
    assert project.run("sync").code == 0
    assert project.query("SELECT to_regclass('zero')::text") == [("zero",)]
    assert project.run("revert", "dev", "--to", "none").code == 0
    assert project.query("SELECT to_regclass('zero')") == [(None,)]


def test_somebody_who_slips_in_while_the_lock_is_taken_again_is_noticed(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "SELECT 1;")
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    with open_apply(project.settings(), project.environment(), project.files(), RunInfo(run_id="r")) as run:
        # What another session does in the moment in which the lock is free: here it is done before, to the same effect.
        project.query(
            "CREATE FUNCTION take_away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.checksum := 'other'; RETURN NEW; END $$;"
            "CREATE TRIGGER t BEFORE INSERT ON schema_migrations FOR EACH ROW EXECUTE FUNCTION take_away()"
        )
        run.apply(run.plan.steps[0])
        unclean = Done(duration_ms=0, tries=1, session_is_clean=False)
        with pytest.raises(Exception, match=r"the ledger was changed by somebody else.* 1 of 2 done"):
            run.work.keep_clean(unclean, "1 of 2 done.")
    assert project.query("SELECT to_regclass('b')") == [(None,)]


def test_advisory_locks_that_a_file_took_are_let_go_of_with_the_runs_own_kept(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "SELECT pg_advisory_lock(4711), pg_advisory_lock_shared(4712), pg_advisory_lock(1, 2);")
    with open_apply(project.settings(), project.environment(), project.files(), RunInfo(run_id="r")) as run:
        pid = run.work.session.facts.pid
        run.apply(run.plan.steps[0])
        assert run.work.session.facts.pid == pid, "the session is the same"
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        assert project.query(locks) == [(1,)]
        assert project.run("sync").code == 5
    assert project.query(locks) == [(0,)]


def test_a_file_that_changes_the_encoding_does_not_garble_the_ledger(project: Project) -> None:
    project.run("init")
    project.write("001-é.sql", "SET client_encoding = 'LATIN1'; CREATE TABLE a (id bigint);")
    project.write("001-é.down.sql", "DROP TABLE a; -- ü")
    project.write("001-é.verify.sql", "SELECT true;")
    assert project.run("sync").code == 0
    assert project.query("SELECT migration_name, down_script FROM schema_migrations") == [
        ("001-é.sql", "DROP TABLE a; -- ü")
    ]


def test_settings_arrive_whole_in_a_database_of_another_encoding(server: ThrowawayServer, project: Project) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS latin")
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    project.urls["dev"] = server.url("latin")
    project.variables["NAME"] = "né"
    project.configure(dev='settings = { name = "${NAME}" }')
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a AS SELECT current_setting('lockstep.name') AS n;")
    assert project.run("sync").code == 0
    assert project.query("SELECT n, length(n) FROM a") == [("né", 2)]


@pytest.mark.parametrize("rule", ["DO INSTEAD NOTHING", "DO INSTEAD SELECT 1"])
def test_an_entry_that_something_swallows_fails_the_migration(rule: str, project: Project) -> None:
    project.run("init")
    project.write(
        "001-a.sql", f"CREATE TABLE a (id bigint); CREATE RULE swallow AS ON INSERT TO schema_migrations {rule};"
    )
    done = project.run("sync")
    assert done.code == 6
    assert project.query("SELECT to_regclass('a')") == [(None,)]


def test_a_lost_answer_to_commit_is_settled_by_the_ledger(server: ThrowawayServer, project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.write("002-b.sql", "CREATE TABLE marker_of_the_cut (id bigint);")
    project.write("003-c.sql", "CREATE TABLE c (id bigint);")
    plain = project.urls["dev"]
    with CountingProxy(server.port, cut=b"marker_of_the_cut") as proxy:
        project.urls["dev"] = plain.replace(f":{server.port}/", f":{proxy.port}/")
        done = project.run("sync")
    project.urls["dev"] = plain
    assert done.code == 0, done.err
    assert project.query("SELECT count(*), count(DISTINCT run_id) FROM schema_migrations") == [(3, 1)]


def test_after_a_lost_answer_the_run_stops_when_somebody_else_worked_meanwhile(
    server: ThrowawayServer, project: Project
) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE marker_of_the_cut (id bigint);")
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    # Stands for another run's entry: it comes with ours, so it is there when the ledger is asked.
    project.query(
        "CREATE FUNCTION other_run() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.schema_migrations"
        " (migration_name, version, checksum) VALUES ('099-other.sql', 99, 'x'); RETURN NULL; END $$;"
        "CREATE TRIGGER t AFTER INSERT ON schema_migrations FOR EACH ROW WHEN (NEW.version = 1) EXECUTE FUNCTION other_run()"
    )
    plain = project.urls["dev"]
    with CountingProxy(server.port, cut=b"marker_of_the_cut") as proxy:
        project.urls["dev"] = plain.replace(f":{server.port}/", f":{proxy.port}/")
        done = project.run("sync")
    project.urls["dev"] = plain
    assert done.code == 4, done.err
    assert "changed by somebody else" in done.err and "001-a was committed" in done.err
    assert project.query("SELECT to_regclass('b')") == [(None,)]


def test_a_connection_lost_before_commit_is_said_and_nothing_is_half_done(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.write("002-b.sql", "CREATE TABLE b (id bigint); SELECT pg_terminate_backend(pg_backend_pid());")
    done = project.run("sync")
    assert done.code == 8
    assert "1 of 2 done. 002-b was rolled back, nothing of it stayed." in done.err
    assert project.query("SELECT to_regclass('b')") == [(None,)]


def test_what_the_older_tool_called_failed_is_not_taken_for_applied(project: Project) -> None:
    project.query(
        "CREATE TABLE schema_migrations (migration_name text, checksum text, applied_at timestamp, success boolean)"
    )
    project.query(
        "INSERT INTO schema_migrations VALUES ('001-a.sql', 'x', now(), true), ('002-b.sql', 'x', now(), false)"
    )
    project.write("001-a.sql", "SELECT 1;")
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    project.run("init")
    done = project.run("sync")
    assert done.code == 4 and "002-b.sql was started and did not finish" in done.err
    assert project.run("repair", "dev", "--forget", "2").code == 0
    assert project.run("sync").code == 0


@pytest.mark.parametrize(
    ("ddl", "words"),
    [
        ("CREATE TABLE other (migration_name text, checksum text, applied_at timestamptz);"
         "CREATE VIEW schema_migrations AS SELECT * FROM other", "no ordinary table"),
        ("CREATE TABLE schema_migrations (migration_name text, checksum text, applied_at timestamptz) PARTITION BY LIST (checksum)", "no ordinary table"),
        ("CREATE TABLE schema_migrations (migration_name text, checksum text UNIQUE, applied_at timestamptz)", "unique index"),
        ("CREATE TABLE schema_migrations (migration_name text, checksum text, applied_at timestamptz, author text NOT NULL)", "column author must have a value"),
        ("CREATE TABLE schema_migrations (migration_name text, checksum text, applied_at timestamptz, version varchar(10))", "no bigint"),
    ],
)  # fmt: skip
def test_an_older_table_of_an_odd_shape_is_left_as_it_is(
    ddl: str, words: str, project: Project, dump: Callable[[str], str]
) -> None:
    project.query(ddl)
    if "VIEW" not in ddl and "PARTITION" not in ddl and "author" not in ddl:
        project.query("INSERT INTO schema_migrations (migration_name, checksum) VALUES ('001-a.sql', 'x')")
    before = dump(project.urls["dev"])
    done = project.run("init")
    assert done.code == 4, done
    assert words in done.err
    assert dump(project.urls["dev"]) == before


def test_a_locked_ledger_is_said_as_such(project: Project) -> None:
    project.configure(dev='lock_timeout = "100ms"')
    project.run("init")
    with psycopg.connect(project.urls["dev"]) as other:
        other.execute("LOCK TABLE schema_migrations IN ACCESS EXCLUSIVE MODE")
        for command in ("status", "sync"):
            done = project.run(command)
            assert done.code == 4 and "another session has public.schema_migrations locked" in done.err, (command, done)


def test_a_failure_is_told_even_when_the_audit_log_cannot_be_written(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "SELECT 1;\nSELECT 1/0;")
    project.query("ALTER TABLE schema_migrations_log ADD CONSTRAINT no_more CHECK (event <> 'fail')")
    done = project.run("sync")
    assert done.code == 6
    assert "division by zero" in done.err and "the audit log could not be written" in done.err


def test_a_settings_beginning_or_element_is_not_shown(project: Project) -> None:
    project.variables["KEYS"] = "alpha-secret-1,beta-secret-2," + "x" * 80
    project.configure(dev='settings = { keys = "${KEYS}" }')
    project.run("init")
    project.write(
        "001-a.sql", "CREATE TABLE a (t text CHECK (t = ''));\nINSERT INTO a VALUES (current_setting('lockstep.keys'));"
    )
    done = project.run("sync")
    assert done.code == 6 and "secret" not in done.err
    project.write("001-a.sql", "SELECT split_part(current_setting('lockstep.keys'), ',', 2)::int;")
    done = project.run("sync")
    assert done.code == 6 and "secret" not in done.err


def test_a_setting_in_a_verify_script_that_does_not_hold_any_more_is_not_shown(project: Project) -> None:
    project.variables["KEY"] = "s3cret-key"
    project.configure(dev='settings = { key = "${KEY}" }')
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a AS SELECT 1 AS n;")
    project.write(
        "001-a.verify.sql", "SELECT CASE WHEN n = 1 THEN 1 ELSE current_setting('lockstep.key')::int END FROM a;"
    )
    project.write("002-b.sql", "UPDATE a SET n = 2;")
    done = project.run("sync")
    assert done.code == 6 and "001-a.verify.sql" in done.err and "22P02" in done.err, done
    assert "s3cret-key" not in done.err and '"***"' in done.err


def test_what_the_server_quotes_in_a_context_is_left_out_but_for_functions(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a AS SELECT '{\"card\": 4711 0815}'::text AS t;\nSELECT t::json FROM a;")
    done = project.run("sync")
    assert (
        done.code == 6
        and "22P02" in done.err
        and "0815" not in done.err.split("detail:")[0].replace("4711 0815}'::text", "")
    )
    project.write("001-a.sql", "DO $$ BEGIN EXECUTE 'SELECT ''4711''::int / 0'; END $$;")
    done = project.run("sync")
    assert "PL/pgSQL function inline_code_block line 1 at EXECUTE" in done.err
    assert "SQL statement" not in done.err


def test_a_setting_in_what_a_waiting_run_says_is_not_shown(project: Project) -> None:
    project.variables["KEY"] = "s3cret-key"
    project.configure(dev='settings = { key = "${KEY}" }\nretry_budget = "3s"')
    project.run("init")
    project.write(
        "001-a.sql",
        "DO $$ BEGIN RAISE EXCEPTION '%', current_setting('lockstep.key') USING ERRCODE = 'lock_not_available'; END $$;",
    )
    done = project.run("sync")
    assert done.code == 6 and "waiting for a lock (try 1: ***" in done.err
    assert "s3cret" not in done.err


def test_a_replaced_hash_function_does_not_hide_a_forged_row(project: Project) -> None:
    project.run("init")
    project.query(
        "ALTER TABLE schema_migrations_log DISABLE TRIGGER ALL; UPDATE schema_migrations_log SET actor = 'nobody';"
    )
    project.query(
        "CREATE OR REPLACE FUNCTION schema_migrations_log_hash(entry schema_migrations_log) RETURNS text LANGUAGE sql AS 'SELECT entry.hash'"
    )
    assert project.run("history", "--verify").code == 4


def test_a_link_that_leads_nowhere_is_no_reason_to_skip_a_migration(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "SELECT 1;")
    (project.folder / "migrations" / "002-b.sql").symlink_to("nowhere.sql")
    project.write("003-c.sql", "SELECT 1;")
    done = project.run("sync")
    assert done.code == 7 and "002-b.sql: it is a link that leads nowhere" in done.err
    assert project.query("SELECT count(*) FROM schema_migrations") == [(0,)]
