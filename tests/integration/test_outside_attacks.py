"""What an experienced DBA tried with files outside of a transaction, to make Lockstep lose, double, hang or lie."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from lockstep.core.traits import Check, Recheck
from lockstep.postgres.concurrently import look
from lockstep.postgres.connection import open_session
from lockstep.postgres.message import Message
from lockstep.postgres.servererror import ServerError
from lockstep.postgres.watch import Watch
from lockstep.service.project import target_of
from lockstep.service.standalone import Standalone
from tests.integration.stall import InTheWay
from tests.integration.test_outside import NONE, effects, indexes, state, table
from tests.project import Project

__all__ = ["table"]  # the fixture


def fail_then(table: Project, text: str) -> str:
    """Write 002 with a statement that fails (in the place of FAIL), run it, and mend it."""
    table.write("002-x.sql", text.replace("FAIL", "SELECT 1/0;"))
    done = table.run("sync")
    assert done.code == 6, done
    table.write("002-x.sql", text.replace("FAIL", "SELECT 1;"))
    return done.err


def test_a_detach_that_broke_off_is_named_and_cannot_be_edited_away(table: Project) -> None:
    table.query(
        "CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);"
        "INSERT INTO p VALUES (1)"
    )
    table.configure(dev='retry_budget = "1s"')
    text = NONE + "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY;\nINSERT INTO effects VALUES ('x');"
    table.write("002-x.sql", text)
    with InTheWay(table.urls["dev"], "SELECT * FROM p", 60):
        done = table.run("sync")
    assert done.code == 6
    assert '"p1" is half detached, and its rows do not show through "p": the next run finishes it' in done.err
    table.write("002-x.sql", NONE + "INSERT INTO effects VALUES ('x');")
    assert table.run("sync").code == 4
    table.write("002-x.sql", text)
    assert table.run("sync").code == 0
    assert table.query("SELECT count(*) FROM pg_inherits WHERE inhrelid = 'p1'::regclass") == [(0,)]


def test_a_drop_that_took_effect_does_not_drop_the_next_index_of_the_path(
    table: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.query("CREATE SCHEMA tenant; CREATE TABLE tenant.t (id int); CREATE INDEX a_idx ON tenant.t (id)")
    table.query("CREATE INDEX a_idx ON a (id)")
    text = NONE + "SET search_path = tenant, public;\nDROP INDEX CONCURRENTLY a_idx;\nFAIL"
    table.write("002-x.sql", text.replace("FAIL", "SELECT 1;"))
    original = Standalone._send

    def send_and_die(self: Standalone, message: Message, *, patience_ms: int | None = None) -> ServerError | None:
        found = original(self, message, patience_ms=patience_ms)
        if "DROP INDEX" in message.text:
            raise KeyboardInterrupt  # as a kill between the drop and its settling: begun, marked, and done
        return found

    monkeypatch.setattr(Standalone, "_send", send_and_die)
    with pytest.raises(KeyboardInterrupt):
        table.run("sync")
    monkeypatch.undo()
    assert indexes(table) == {"a_idx": True}
    done = table.run("sync")
    assert done.code == 0, done.err
    assert "took effect in an earlier try" in done.err
    assert indexes(table) == {"a_idx": True}, "the one in public is innocent"


def test_a_begun_repeatable_begins_anew_when_something_was_applied_or_reverted_meanwhile(table: Project) -> None:
    table.write("002-t.sql", "CREATE TABLE t (id int);")
    table.write("002-t.down.sql", "DROP TABLE t CASCADE;")
    view = NONE + "CREATE OR REPLACE VIEW v AS SELECT * FROM t;\nSELECT 1/(SELECT count(*) FROM effects);"
    table.write("repeatable/v.sql", view)
    assert table.run("sync").code == 6
    table.query("INSERT INTO effects VALUES ('there')")
    assert table.run("revert", "dev", "--steps", "1").code == 0
    assert table.run("sync", "--include", "2").code == 0
    assert table.query("SELECT to_regclass('v')::text") == [("v",)]
    table.query("TRUNCATE effects")
    table.write("repeatable/v.sql", view + "\nSELECT 2;")
    assert table.run("sync").code == 6
    table.query("INSERT INTO effects VALUES ('there')")
    table.write("003-t.sql", "DROP TABLE t CASCADE; CREATE TABLE t (id int, more int);")
    assert table.run("sync").code == 0
    assert table.query("SELECT count(*) FROM information_schema.columns WHERE table_name = 'v'") == [(2,)]


def test_a_changed_setting_makes_a_begun_repeatable_begin_anew(table: Project) -> None:
    table.variables["WHO"] = "alice"
    table.configure(dev='settings = { who = "${WHO}" }')
    text = "-- lockstep: transaction=none uses=who\nINSERT INTO effects SELECT current_setting('lockstep.who');\n"
    table.write("repeatable/r.sql", text + "SELECT 1/(SELECT count(*) FROM a);")
    assert table.run("sync").code == 6
    table.variables["WHO"] = "bob"
    table.query("INSERT INTO a VALUES (1)")
    assert table.run("sync").code == 0
    assert effects(table) == {"alice": 1, "bob": 1}


REFUSED = {
    "set_config among others": "SELECT set_config('search_path', 'app', false), 1;\nSELECT 1;",
    "set_config in a block": "DO $$ BEGIN PERFORM set_config('search_path', 'app', false); END $$;\nSELECT 1;",
    "set_config from a table": "SELECT set_config('search_path', nspname, false) FROM pg_namespace;\nSELECT 1;",
    "LOCK TABLE": "LOCK TABLE a;\nSELECT 1;",
    "SAVEPOINT": "SAVEPOINT s;",
    "SET CONSTRAINTS": "SET CONSTRAINTS ALL DEFERRED;",
    "DECLARE": "DECLARE c CURSOR FOR SELECT 1;",
    "64 MiB": "SELECT 1;\nSELECT '" + "x" * (65 * 2**20) + "';",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_silently_do_something_else_is_refused_before_anything_runs(case: str, table: Project) -> None:
    table.write("002-x.sql", NONE + REFUSED[case])
    done = table.run("sync")
    assert done.code == 7 and "002-x.sql:" in done.err and "next: " in done.err, done.err
    assert table.query("SELECT count(*) FROM schema_migrations") == [(1,)]


def test_a_set_config_for_one_transaction_and_one_in_a_function_are_fine(table: Project) -> None:
    table.write(
        "002-x.sql",
        NONE + "SELECT set_config('a.b', 'x', true);\n"
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT set_config('a.b', 'y', false) $$;",
    )
    assert table.run("sync").code == 0


ENDLESS = {
    "SKIP LOCKED": "UPDATE a SET n = 1 WHERE id IN (SELECT id FROM a WHERE n IS NULL LIMIT 10 FOR UPDATE SKIP LOCKED);",
    "INSERT of a SELECT": "INSERT INTO effects SELECT 'x' FROM generate_series(1, 10);",
    "INSERT of VALUES": "INSERT INTO effects VALUES ('x');",
}


@pytest.mark.parametrize("case", ENDLESS)
def test_a_backfill_that_ends_too_early_or_never_is_refused(case: str, table: Project) -> None:
    table.write("002-x.sql", "-- lockstep: repeat-until-empty\n" + ENDLESS[case])
    assert table.run("sync").code == 7
    assert table.run("validate").code == 7


@pytest.mark.parametrize(
    ("rows", "value", "said"),
    [
        (1_000, "CASE WHEN id > 3 THEN 1 END", "touched 3 rows each, which must be the same"),
        (200, "NULL", "touched 100 rows each"),
    ],
)
def test_a_backfill_that_touches_the_same_rows_again_and_again_is_stopped(
    rows: int, value: str, said: str, table: Project
) -> None:
    table.query(f"INSERT INTO a SELECT g FROM generate_series(1, {rows}) g; ANALYZE a")
    table.write(
        "002-x.sql",
        "-- lockstep: repeat-until-empty\n"
        f"UPDATE a SET n = {value} WHERE id IN (SELECT id FROM a WHERE n IS NULL ORDER BY id DESC LIMIT 100);",
    )
    if "100" in said:
        said = "touches the same ones again and again"
        table.query(f"INSERT INTO a SELECT g FROM generate_series(1, {rows}) g")
    done = table.run("sync")
    assert done.code == 6, done
    assert said in done.err and "002-x.sql:2" in done.err and "let its WHERE find only rows that it changes" in done.err


def test_a_begun_file_may_be_renamed(table: Project) -> None:
    fail_then(table, NONE + "INSERT INTO effects VALUES ('one');\nFAIL")
    file = table.folder / "migrations" / "002-x.sql"
    file.rename(file.with_name("002-better-name.sql"))
    done = table.run("sync")
    assert done.code == 0, done.err
    assert effects(table) == {"one": 1}
    assert table.query("SELECT migration_name, state FROM schema_migrations WHERE version = 2") == [
        ("002-better-name.sql", "applied")
    ]


VOID = {
    "a role that is gone": "CREATE ROLE gone_role;\nGRANT ALL ON effects TO gone_role;\nSET ROLE gone_role;\n"
    "INSERT INTO effects VALUES ('as');\nRESET ROLE;\nDROP OWNED BY gone_role;\nDROP ROLE gone_role;\nFAIL",
    "a statement for a table that is gone": "CREATE TABLE z (id int);\nPREPARE p AS INSERT INTO z VALUES (1);\n"
    "EXECUTE p;\nDROP TABLE z;\nINSERT INTO effects VALUES ('as');\nFAIL",
    "a statement that was let go": "PREPARE p AS SELECT 1;\nEXECUTE p;\nDEALLOCATE p;\nINSERT INTO effects VALUES ('as');\nFAIL",
}


@pytest.mark.parametrize("case", VOID)
def test_what_a_later_statement_made_void_is_not_repeated(case: str, table: Project) -> None:
    fail_then(table, NONE + VOID[case])
    done = table.run("sync")
    assert done.code == 0, done.err
    assert effects(table) == {"as": 1}


def test_an_empty_block_does_not_swallow_a_mistake(table: Project) -> None:
    table.write("002-x.sql", NONE + "BEGIN;\nCOMMIT;\nSET ROLE no_such_role;")
    done = table.run("sync")
    assert done.code == 6 and "002-x.sql:4" in done.err


def test_a_block_that_calls_a_committing_procedure_runs_and_is_never_repeated_by_guess(table: Project) -> None:
    table.query("CREATE PROCEDURE cm() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effects VALUES ('c'); COMMIT; END $$")
    table.write("002-x.sql", NONE + "DO $$ BEGIN CALL cm(); END $$;")
    assert table.run("sync").code == 0
    assert effects(table) == {"c": 1}


def test_set_transaction_works_as_the_hint_says_also_with_a_search_path(table: Project) -> None:
    table.configure(dev='search_path = "public, \\"$user\\""')
    block = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;\nINSERT INTO effects SELECT current_setting('transaction_isolation');"
    table.write("002-x.sql", NONE + f"SET work_mem = '8MB';\nBEGIN;\n{block}\nCOMMIT;")
    table.write("003-x.sql", block)
    done = table.run("sync")
    assert done.code == 0, done.err
    assert effects(table) == {"serializable": 2}


def test_names_with_quotes_are_found(table: Project) -> None:
    session = open_session(target_of(table.settings(), table.environment()), run_id="r")
    try:
        recheck = Recheck(check=Check.THERE, name='"q""x"', what="database")
        assert look(session, recheck).there is False
        table.query('CREATE DATABASE "q""x"')
        assert look(session, recheck).there is True
    finally:
        session.close()
        table.query('DROP DATABASE IF EXISTS "q""x"')


def test_who_was_in_the_way_is_recorded_for_units_too(table: Project) -> None:
    table.configure(dev='lock_timeout = "200ms"')
    table.write("002-x.sql", NONE + "ALTER TABLE a ADD COLUMN m int;\nCREATE INDEX CONCURRENTLY a_n ON a (n);")
    with InTheWay(table.urls["dev"], "INSERT INTO a VALUES (1)", 1.5, application="slow-writer"):
        assert table.run("sync").code == 0
    waited = table.query(
        "SELECT details->'waited_for'->>0 FROM schema_migrations_log WHERE event = 'apply' AND version = 2"
    )
    assert "slow-writer" in waited[0][0]


def test_a_lock_timeout_of_the_file_does_not_break_a_build(table: Project) -> None:
    table.write("002-x.sql", NONE + "SET lock_timeout = '100ms';\nCREATE INDEX CONCURRENTLY a_n ON a (n);")
    with InTheWay(table.urls["dev"], "INSERT INTO a VALUES (1)", 1.0):
        done = table.run("sync")
    assert done.code == 0 and "try 2" not in done.err
    assert indexes(table) == {"a_n": True}


def test_after_a_failed_call_every_next_command_works(table: Project) -> None:
    table.query("CREATE PROCEDURE cm() LANGUAGE plpgsql AS $$ BEGIN COMMIT; RAISE EXCEPTION 'x'; END $$")
    table.write("002-x.sql", NONE + "CALL cm();")
    done = table.run("sync")
    assert done.code == 6
    assert "lockstep repair dev --statement-done 2" in done.err
    assert "lockstep plan dev says how to go on" in table.run("status").out
    plan = table.run("plan", "dev")
    assert plan.code == 4 and "--statement-done 2" in plan.err
    table.remove("002-x.sql")
    gone = table.run("sync")
    assert gone.code == 4 and "--record" not in gone.err and "lockstep repair dev --forget 2" in gone.err
    assert table.run("repair", "dev", "--forget", "2").code == 0


def test_a_leftover_is_dropped_as_the_role_that_the_file_has_there(table: Project) -> None:
    if not table.query("SELECT 1 FROM pg_roles WHERE rolname = 'heal_owner'"):
        table.query(
            "CREATE ROLE heal_owner; CREATE ROLE heal_login LOGIN NOINHERIT PASSWORD 'pw'; GRANT heal_owner TO heal_login"
        )
    database = table.urls["dev"].rsplit("/", 1)[1]
    table.query(
        f"GRANT ALL ON SCHEMA public TO heal_login, heal_owner; ALTER DATABASE {database} OWNER TO heal_login;"
        "ALTER TABLE schema_migrations OWNER TO heal_login; ALTER TABLE schema_migrations_log OWNER TO heal_login;"
        "ALTER TABLE schema_migrations_states OWNER TO heal_login;"
        "CREATE TABLE own (id int); INSERT INTO own VALUES (1), (1); ALTER TABLE own OWNER TO heal_owner"
    )
    host = table.urls["dev"].rsplit("@", 1)[1]
    admin = table.urls["dev"]
    table.urls["dev"] = f"postgresql://heal_login:pw@{host}"
    table.write("002-x.sql", NONE + "SET ROLE heal_owner;\nCREATE UNIQUE INDEX CONCURRENTLY own_u ON own (id);")
    done = table.run("sync")
    assert done.code == 6 and "nothing of the failed one stayed" in done.err, done.err
    table.urls["dev"] = admin
    assert table.query("SELECT to_regclass('own_u')") == [(None,)]


def test_a_foreign_build_that_succeeds_while_it_is_awaited_counts(table: Project) -> None:
    with psycopg.connect(table.urls["dev"]) as old, psycopg.connect(table.urls["dev"], autocommit=True) as builder:
        old.execute("INSERT INTO a VALUES (0, 0)")
        thread = threading.Thread(target=lambda: builder.execute("CREATE INDEX CONCURRENTLY a_n ON a (n)"))
        thread.start()
        deadline = time.monotonic() + 20
        while indexes(table).get("a_n") is not False and time.monotonic() < deadline:
            time.sleep(0.05)
        timer = threading.Timer(1.0, old.rollback)
        timer.start()
        table.write("002-i.sql", NONE + "CREATE INDEX CONCURRENTLY a_n ON a (n);")
        done = table.run("sync")
        thread.join()
        timer.join()
    assert done.code == 0, done.err
    assert "that build is done, and not compared with the file" in done.err
    assert state(table) == ("applied", 1, 1)


def test_a_foreign_build_that_never_ends_is_not_awaited_for_ever(table: Project) -> None:
    table.configure(dev='retry_budget = "1s"')
    with psycopg.connect(table.urls["dev"]) as old, psycopg.connect(table.urls["dev"], autocommit=True) as builder:
        old.execute("INSERT INTO a VALUES (0, 0)")
        thread = threading.Thread(target=lambda: builder.execute("CREATE INDEX CONCURRENTLY a_n ON a (n)"))
        thread.start()
        deadline = time.monotonic() + 20
        while indexes(table).get("a_n") is not False and time.monotonic() < deadline:
            time.sleep(0.05)
        table.write("002-i.sql", NONE + "CREATE INDEX CONCURRENTLY a_n ON a (n);")
        done = table.run("sync")
        old.rollback()
        thread.join()
    assert done.code == 6 and "another session builds it (pid" in done.err
    assert indexes(table) == {"a_n": True}, "theirs was left alone"


def test_a_long_change_is_looked_at_ten_times_a_second_and_not_more(
    table: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    original = Watch.look

    def counted(self: Watch) -> None:
        looks.append(time.monotonic())
        original(self)

    monkeypatch.setattr(Watch, "look", counted)
    table.write("002-x.sql", "ALTER TABLE a ADD COLUMN m int; SELECT pg_sleep(4);")
    assert table.run("sync").code == 0
    assert 10 < len(looks) < 60, len(looks)
