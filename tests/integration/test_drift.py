"""Drift and parity through the command line: what others change is found, dated, stops a deploy, and can be accepted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lockstep.postgres.lock import lock_key
from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.test_ledger import database_of, role
from tests.project import Outcome, Project

SHOP = (
    "CREATE TABLE orders (id bigint PRIMARY KEY, total numeric(10,2), note text, "
    "status varchar NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'paid')));"
    "COMMENT ON TABLE orders IS 'what they bought';"
)


@pytest.fixture
def shop(project: Project, new_database: Callable[[], str]) -> Project:
    """dev and prod, both at 001; prod comes after dev, and stops on drift."""
    project.urls = {"dev": project.urls["dev"], "prod": new_database()}
    configure(project)
    project.write("001-shop.sql", SHOP)
    project.write("001-shop.down.sql", "DROP TABLE orders;")
    assert project.run("init").code == 0
    assert project.run("sync").code == 0
    return project


def configure(project: Project, toml: str = "", on_drift: str = "stop") -> None:
    project.toml = toml
    project.configure(prod=f'after = ["dev"]\nprotected = false\non_drift = "{on_drift}"')


def found(project: Project, environment: str = "prod") -> list[tuple[str, str]]:
    """(action, object) of each difference."""
    done = project.run("drift", environment, "--json")
    document = done.document["environments"][0]
    assert (done.code == 4) == bool(document["differences"]), done
    return [(one["action"], one["object"]) for one in document["differences"]]


def test_what_was_made_by_hand_is_found_shown_and_accepted(shop: Project) -> None:
    assert found(shop) == []
    shop.query("CREATE INDEX by_total ON orders (total)", "prod")
    assert found(shop) == [("created", "index public.by_total")]
    assert found(shop, "dev") == []
    shown = shop.run("drift", "prod")
    assert shown.code == 4
    assert "CREATE INDEX by_total ON public.orders USING btree (total)" in shown.out
    assert "made after apply 001-shop by postgres" in shown.out
    assert "take it back: DROP INDEX CONCURRENTLY IF EXISTS public.by_total;" in shown.out
    assert shop.run("drift", "prod", "--accept", "INC-42").code == 0
    assert found(shop) == []
    logged = shop.run("history", "prod", "--json").document["environments"][0]["events"][0]
    assert (logged["event"], logged["details"]["reason"]) == ("drift", "INC-42")
    assert logged["details"]["accepted"] == ["index public.by_total"]


def test_what_is_undone_by_hand_is_no_drift_any_more(shop: Project) -> None:
    shop.query("ALTER TABLE orders ADD extra int; DROP TABLE IF EXISTS nothing", "prod")
    assert found(shop) == [("created", "column public.orders.extra")]
    shop.query("ALTER TABLE orders DROP extra", "prod")
    assert found(shop) == []


def test_a_deploy_stops_on_drift_before_anything_runs(shop: Project) -> None:
    shop.query("ALTER TABLE orders ALTER note SET NOT NULL", "prod")
    shop.write("002-more.sql", "ALTER TABLE orders ADD a int;")
    done = shop.run("sync")
    assert done.code == 4
    assert "column public.orders.note was changed" in done.err
    assert "Nothing was applied" in done.err
    assert "lockstep drift prod" in done.err
    assert [row[0] for row in shop.query("SELECT migration_name FROM schema_migrations", "prod")] == ["001-shop.sql"]


def test_where_drift_only_warns_it_stays_drift_after_the_next_run(shop: Project) -> None:
    configure(shop, on_drift="warn")
    shop.query("CREATE INDEX by_total ON orders (total); COMMENT ON TABLE orders IS NULL", "prod")
    shop.write("002-more.sql", "ALTER TABLE orders ADD a int;")
    done = shop.run("sync")
    assert done.code == 0
    assert "index public.by_total was added" in done.err
    assert found(shop) == [("dropped", "comment on table public.orders"), ("created", "index public.by_total")]
    shown = shop.run("drift", "prod").out
    # By the numbers of the transactions: exact, whatever the clocks say.
    assert "made after apply 001-shop by postgres" in shown
    assert "before apply 002-more by postgres" in shown
    gone = next(line for line in shown.splitlines() if line.strip().startswith("gone after"))
    assert " and before " in gone
    assert "now" not in gone


def test_what_a_run_applied_before_it_failed_is_no_drift(shop: Project) -> None:
    shop.write("002-more.sql", "ALTER TABLE orders ADD a int;")
    shop.write("003-bad.sql", "SELECT 1/0;")
    assert shop.run("sync", "dev").code == 6
    assert found(shop, "dev") == []
    shop.write("003-bad.sql", "-- lockstep: transaction=none\nCREATE TABLE half (id int);\nSELECT 1/0;")
    assert shop.run("sync", "dev").code == 6
    assert found(shop, "dev") == []


def test_the_same_migrations_leave_the_same_fingerprint_with_the_newest_entry(shop: Project) -> None:
    prints = [
        shop.query("SELECT fingerprint_after FROM schema_migrations ORDER BY version DESC LIMIT 1", name)
        for name in ("dev", "prod")
    ]
    assert prints[0] == prints[1]
    assert prints[0][0][0].startswith("pg")


def test_a_revert_is_not_stopped_by_drift_and_hides_none(shop: Project) -> None:
    shop.write("002-more.sql", "ALTER TABLE orders ADD a int;")
    shop.write("002-more.down.sql", "ALTER TABLE orders DROP a;")
    assert shop.run("sync").code == 0
    shop.query("CREATE INDEX by_total ON orders (total)", "prod")
    done = shop.run("revert", "prod", "--steps", "1")
    assert done.code == 0, done.err
    assert "index public.by_total was added" in done.err
    assert found(shop) == [("created", "index public.by_total")]


def _cut_off(shop: Project) -> None:
    """As a kill right after the last COMMIT on prod leaves it: applied, and not recorded."""
    shop.write(
        "002-more.sql", "ALTER TABLE orders ADD a int; ALTER TABLE orders DROP note; CREATE INDEX by_a ON orders (a);"
    )
    assert shop.run("sync").code == 0
    shop.query("DELETE FROM schema_migrations_states WHERE id = 2", "prod")


def test_what_a_run_that_was_cut_off_changed_is_no_drift(shop: Project) -> None:
    _cut_off(shop)
    shown = shop.run("drift", "prod")
    assert shown.code == 4
    assert "a run was cut off before it could record the schema" in shown.out
    shop.write("003-next.sql", "ALTER TABLE orders ADD b int;")
    done = shop.run("sync")
    assert done.code == 0, done.err
    assert "3 objects that it changed are recorded now" in done.err
    assert found(shop) == []


UNITS = """-- lockstep: transaction=none
CREATE TABLE extra (id int);
ALTER TABLE orders ADD a int;
CREATE INDEX CONCURRENTLY by_a ON orders (a);
DROP INDEX CONCURRENTLY by_status;
INSERT INTO extra VALUES (1);
"""


@pytest.mark.parametrize("finished", [True, False])
def test_what_units_outside_of_a_transaction_made_before_the_run_was_cut_off_is_no_drift(
    shop: Project, finished: bool
) -> None:
    """On the first environment as well, where there is no other one to compare with."""
    shop.write("002-index.sql", "CREATE INDEX by_status ON orders (status);")
    assert shop.run("sync").code == 0
    shop.write("003-units.sql", UNITS if finished else f"{UNITS}SELECT 1 / (SELECT count(*) FROM orders);")
    assert shop.run("sync", "dev").code == (0 if finished else 6)
    shop.query("DELETE FROM schema_migrations_states WHERE id = (SELECT max(id) FROM schema_migrations_states)")
    shop.query("CREATE INDEX by_hand ON orders (id)")
    shop.query("ALTER TABLE orders ADD by_hand int")
    if not finished:
        shop.query("INSERT INTO orders (id) VALUES (1)")
    done = shop.run("sync", "dev")
    assert done.code == 0, done.err
    assert "objects that it changed are recorded now" in done.err
    assert found(shop, "dev") == [("created", "column public.orders.by_hand"), ("created", "index public.by_hand")]
    shop.query("INSERT INTO orders (id) VALUES (1)", "prod")
    sent = shop.run("sync", "prod")
    assert sent.code == 0, sent.err + sent.out
    assert "as on dev" in sent.err and "not all" not in sent.err
    assert shop.run("history", "dev", "--verify").code == 0


@pytest.mark.parametrize("something_to_do", [True, False])
def test_what_others_changed_after_a_run_that_was_cut_off_stays_drift(shop: Project, something_to_do: bool) -> None:
    _cut_off(shop)
    shop.query("CREATE INDEX by_hand ON orders (id); COMMENT ON TABLE orders IS NULL", "prod")
    if something_to_do:
        shop.write("003-next.sql", "ALTER TABLE orders ADD b int;")
    done = shop.run("sync", "prod") if not something_to_do else shop.run("sync")
    assert (done.code == 4) == something_to_do, done.err
    assert "index public.by_hand was added" in done.err
    assert found(shop) == [("dropped", "comment on table public.orders"), ("created", "index public.by_hand")]
    assert shop.run("drift", "prod", "--accept", "looked at").code == 0
    assert shop.run("sync").code == 0


def test_what_a_file_run_by_hand_made_is_drift_until_it_is_accepted(shop: Project) -> None:
    shop.write("002-hand.sql", "ALTER TABLE orders ADD x int;")
    assert shop.run("sync", "dev").code == 0
    shop.query("ALTER TABLE orders ADD x int; ALTER TABLE orders DROP note", "prod")
    assert shop.run("repair", "prod", "--record", "2", "--reason", "run by hand").code == 0
    assert found(shop) == [("dropped", "column public.orders.note"), ("created", "column public.orders.x")]


def test_a_renamed_column_gets_no_sql_that_would_lose_its_data(shop: Project) -> None:
    shop.query("ALTER TABLE orders RENAME note TO remark", "prod")
    shown = shop.run("drift", "prod", "--fix-sql")
    assert "perhaps one column under another name" in shown.out
    assert "DROP COLUMN" not in shown.out
    assert not list((shop.folder / "migrations").glob("*keep*"))


def test_a_column_that_is_gone_is_dropped_nowhere_else(shop: Project) -> None:
    shop.query("ALTER TABLE orders DROP note", "prod")
    shown = shop.run("drift", "prod", "--fix-sql")
    assert "ADD COLUMN IF NOT EXISTS note text" in shown.out
    assert "a backup has it" in shown.out
    assert not list((shop.folder / "migrations").glob("*keep*"))


def test_a_name_with_a_line_end_cannot_write_sql_into_a_migration(shop: Project) -> None:
    shop.query('CREATE INDEX "x\nDROP TABLE public.orders; --" ON orders (id)', "prod")
    assert shop.run("drift", "prod", "--fix-sql").code == 4
    assert shop.run("drift", "prod", "--accept", "kept").code == 0
    for file in (shop.folder / "migrations").glob("*keep*"):
        assert "-- index public.x\nDROP" not in file.read_text()
    done = shop.run("sync")
    assert done.code == 0, done.err
    assert shop.query("SELECT to_regclass('orders') IS NOT NULL", "dev") == [(True,)]


def test_what_reindex_works_with_is_no_drift(shop: Project) -> None:
    shop.query("CREATE TABLE twice (n int); INSERT INTO twice VALUES (1), (1)", "prod")
    assert shop.run("drift", "prod", "--accept", "test").code == 0
    with (
        psycopg.connect(shop.urls["prod"], autocommit=True) as connection,
        pytest.raises(psycopg.errors.UniqueViolation),
    ):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY twice_n_ccnew ON twice (n)")
    assert found(shop) == []


def test_a_schema_that_is_not_there_is_told_and_no_agreement(shop: Project) -> None:
    configure(shop, toml='[project]\nschemas = ["publlic"]\n')
    for words in (("drift", "prod"), ("diff", "dev", "prod")):
        done = shop.run(*words)
        assert done.code == 4
        assert "publlic" in done.out


def test_a_rule_about_a_table_hides_no_column_of_that_name(shop: Project) -> None:
    configure(shop, toml='[[drift.ignore]]\nobject = "public.note"\nreason = "a table of the loader"\n')
    shop.query("ALTER TABLE orders DROP note", "prod")
    assert found(shop) == [("dropped", "column public.orders.note")]


def test_grants_of_lockstep_itself_are_no_drift(server: ThrowawayServer, shop: Project) -> None:
    role(server, shop.urls["prod"].rsplit("/", 1)[1], "drift_new_reader")
    configure(shop, toml='[project]\nledger_reader = "drift_new_reader"\n')
    shop.query("CREATE INDEX by_hand ON orders (id)", "prod")
    assert shop.run("init", "prod").code == 0
    assert found(shop) == [("created", "index public.by_hand")]


def test_an_environment_that_cannot_be_looked_at_hides_no_other(shop: Project) -> None:
    shop.query("CREATE INDEX by_hand ON orders (id)", "prod")
    shop.urls["dev"] = "postgresql://postgres@127.0.0.1:1/nowhere"
    done = shop.run("drift")
    assert done.code == 8
    assert "index public.by_hand" in done.out
    assert "127.0.0.1:1" in done.err


def test_a_refusal_because_of_drift_is_in_the_audit_log(shop: Project) -> None:
    shop.query("CREATE INDEX by_hand ON orders (id)", "prod")
    shop.write("002-more.sql", "ALTER TABLE orders ADD a int;")
    assert shop.run("sync").code == 4
    newest = shop.run("history", "prod", "--json").document["environments"][0]["events"][0]
    assert newest["event"] == "refuse"
    assert "index public.by_hand was added" in str(newest["details"])


def test_a_look_while_a_run_is_at_work_says_so_and_judges_nothing(shop: Project) -> None:
    shop.query("ALTER TABLE orders ADD x int", "prod")
    with psycopg.connect(shop.urls["prod"], autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", (lock_key("public"),))
        done = shop.run("drift", "prod")
    assert done.code == 5
    assert "is at work on it" in done.out
    assert found(shop) == [("created", "column public.orders.x")]


def test_a_run_with_nothing_to_do_records_what_an_earlier_one_could_not(shop: Project) -> None:
    shop.query("DELETE FROM schema_migrations_states", "prod")
    assert "not recorded yet" in shop.run("drift", "prod").out
    assert shop.run("sync").code == 0
    assert "no drift" in shop.run("drift", "prod").out


def test_what_changed_otherwise_than_on_dev_is_an_error_and_stays_applied(shop: Project) -> None:
    database = shop.query("SELECT current_database()", "prod")[0][0]
    shop.write(
        "002-more.sql",
        f"ALTER TABLE orders ADD a int; DO $$ BEGIN IF current_database() = '{database}' THEN "
        "CREATE INDEX surprise ON orders (a); END IF; END $$;",
    )
    done = shop.run("sync")
    assert done.code == 4
    assert "index public.surprise: expected to be not touched, was created" in done.err
    assert "everything is applied" in done.err
    assert "lockstep diff dev prod" in done.err
    assert shop.run("status", "--check").code == 4
    assert "prod is out of parity with dev" in shop.run("status").out


def test_a_change_made_by_hand_can_be_kept_for_all(shop: Project) -> None:
    shop.query(
        "CREATE INDEX by_total ON orders (total); ALTER TABLE orders ADD due date DEFAULT now(); "
        "COMMENT ON COLUMN orders.due IS 'when it''s due'; GRANT SELECT (note) ON orders TO PUBLIC",
        "prod",
    )
    done = shop.run("drift", "prod", "--fix-sql")
    assert "nothing was applied" in done.err
    names = sorted(file.name for file in (shop.folder / "migrations").glob("*keep*"))
    assert [name for name in names if not name.endswith(".down.sql")] == [
        "002-keep-drift-of-prod.sql", "003-keep-indexes-of-prod.sql",
    ]  # fmt: skip
    assert shop.run("drift", "prod", "--accept", "kept by 002 and 003").code == 0
    applied = shop.run("sync")
    assert applied.code == 0, applied.err
    assert "as on dev\n" in applied.err
    assert shop.run("diff", "dev", "prod").code == 0
    assert found(shop) == found(shop, "dev") == []
    before = shop.query("SELECT digest FROM schema_migrations_states ORDER BY id LIMIT 1", "dev")
    assert shop.run("revert", "dev", "--steps", "2").code == 0
    assert shop.query("SELECT digest FROM schema_migrations_states ORDER BY id DESC LIMIT 1", "dev") == before


def test_a_migration_reverted_and_applied_again_on_dev_predicts_what_prod_gets(shop: Project) -> None:
    shop.write("002-more.sql", "ALTER TABLE orders ADD a int;")
    shop.write("002-more.down.sql", "ALTER TABLE orders DROP a;")
    assert shop.run("sync", "dev").code == 0
    assert shop.run("revert", "dev", "--steps", "1").code == 0
    shop.write("002-more.sql", "ALTER TABLE orders ADD a bigint;")
    assert shop.run("sync", "dev").code == 0
    shop.write("003-next.sql", "CREATE INDEX ON orders (a);")
    assert shop.run("sync", "dev").code == 0
    done = shop.run("sync", "prod")
    assert done.code == 0, done.err
    assert "2 objects changed, as on dev\n" in done.err


def test_texts_that_the_server_deparses_are_predicted_as_well(shop: Project) -> None:
    view = "CREATE OR REPLACE VIEW cheap AS SELECT id FROM orders WHERE total < {};"
    policy = "CREATE POLICY p ON orders USING (total > {0}); ALTER POLICY p ON orders USING (total > {0} + 1);"
    shop.write("002-view.sql", view.format(10) + policy.format(1))
    shop.write("003-again.sql", view.format(20) + "ALTER POLICY p ON orders USING (total > 5);")
    assert shop.run("sync", "--to", "2").code == 0
    done = shop.run("sync")
    assert done.code == 0, done.err
    assert "2 objects changed, as on dev\n" in done.err
    database = shop.query("SELECT current_database()", "prod")[0][0]
    limit = f"CASE current_database() WHEN '{database}' THEN 30 ELSE 31 END"
    shop.write(
        "004-other.sql", f"DO $$ BEGIN EXECUTE format('{view.format('%s')}', {limit}); END $$;".replace("''", "'")
    )
    done = shop.run("sync")
    assert done.code == 4
    assert "view public.cheap: expected to be altered, was altered in another way" in done.err


def test_rules_with_a_reason_take_differences_out_and_say_so(shop: Project) -> None:
    rule = '[[drift.ignore]]\nobject = "public.tmp_*"\nreason = "the loader makes these"\n'
    configure(shop, toml=rule)
    shop.query("CREATE TABLE tmp_load (id int PRIMARY KEY); COMMENT ON COLUMN tmp_load.id IS 'x'", "prod")
    assert found(shop) == []
    assert "the loader makes these" in shop.run("drift", "prod").out
    assert shop.run("diff", "dev", "prod").code == 0
    shop.write("002-more.sql", "ALTER TABLE orders ADD a int;")
    assert shop.run("sync").code == 0


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ('kind = "index"', "reason"),
        ('kind = "indexes"\nreason = "x"', "there is no kind 'indexes'"),
        ('reason = "x"', "would hide everything"),
        ('object = "a"\nreason = " "', "needs a reason"),
        ('object = "a"\nreason = "x"\nenvironments = ["nowhere"]', "'nowhere'"),
    ],
)
def test_a_rule_that_makes_no_sense_is_an_error_with_its_line(shop: Project, rule: str, words: str) -> None:
    configure(shop, toml=f"[[drift.ignore]]\n{rule}\n")
    done = shop.run("drift")
    assert done.code == 2
    assert words in done.err
    assert "lockstep.toml:" in done.err


def test_diff_names_what_each_side_has_and_leaves_out_what_may_differ(server: ThrowawayServer, shop: Project) -> None:
    database = shop.urls["prod"].rsplit("/", 1)[1]
    role(server, database, "drift_only_prod", "GRANT SELECT ON orders TO drift_only_prod")
    shop.query("CREATE PUBLICATION feed FOR ALL TABLES", "prod")
    # Both databases are of one cluster here, so the role is on both sides: the grant counts.
    done = shop.run("diff", "dev", "prod")
    assert done.code == 4
    assert "out of parity" in done.out
    assert "only prod: grant to drift_only_prod on table public.orders" in done.out
    assert "publication" not in done.out.split("not counted")[0]
    assert "replication is set up per environment" in done.out
    shop.query("REVOKE ALL ON orders FROM drift_only_prod; ALTER TABLE orders ADD x int", "prod")
    shop.query("ALTER TABLE orders ALTER note TYPE varchar(20)", "dev")
    document = shop.run("diff", "dev", "prod", "--json").document
    assert document["out_of_parity"] is True
    assert [(one["action"], one["object"]) for one in document["differences"]] == [
        ("altered", "column public.orders.note"),
        ("created", "column public.orders.x"),
    ]


def test_a_grant_to_a_role_that_one_server_lacks_does_not_count(
    shop: Project, pg_bin: Path, server: ThrowawayServer
) -> None:
    with ThrowawayServer(pg_bin) as other:
        with psycopg.connect(other.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE drift_elsewhere")
        shop.urls["prod"] = other.url()
        configure(shop)
        assert shop.run("init", "prod").code == 0
        assert shop.run("sync").code == 0
        shop.query("GRANT SELECT ON orders TO drift_elsewhere", "prod")
        done = shop.run("diff", "dev", "prod")
        assert done.code == 0, done.out
        assert "roles are made per environment" in done.out


def test_a_restored_database_has_no_drift(shop: Project, pg_bin: Path, new_database: Callable[[], str]) -> None:
    copy = new_database()
    dumped = subprocess.run(
        [pg_bin / "pg_dump", "-Fc", "-d", shop.urls["prod"]], check=True, capture_output=True
    ).stdout
    subprocess.run([pg_bin / "pg_restore", "-d", copy], input=dumped, check=True, capture_output=True)
    shop.urls["prod"] = copy
    done = shop.run("drift", "prod")
    assert done.code == 0, done.out
    assert "printed otherwise after a restore, the same in meaning" in done.out
    shop.query("ALTER TABLE orders DROP CONSTRAINT orders_status_check", "prod")
    assert found(shop) == [("dropped", "constraint public.orders.orders_status_check")]


def test_a_reader_may_look_for_drift(server: ThrowawayServer, project: Project) -> None:
    url = role(server, database_of(project), "drift_reader")
    project.toml = '[project]\nledger_reader = "drift_reader"\n'
    project.configure()
    project.write("001-shop.sql", SHOP)
    assert project.run("init").code == 0
    assert project.run("sync").code == 0
    project.query("ALTER TABLE orders ADD x int")
    project.urls["dev"] = url
    assert found(project, "dev") == [("created", "column public.orders.x")]
    assert project.run("drift", "dev", "--accept", "x").code == 7


def test_a_role_that_owns_only_a_part_of_the_ledger_is_refused_by_the_tables_name(
    server: ThrowawayServer, project: Project
) -> None:
    url = role(server, database_of(project), "drift_half_owner", "GRANT ALL ON SCHEMA public TO drift_half_owner")
    project.write("001-shop.sql", SHOP)
    assert project.run("init").code == 0
    project.query("ALTER TABLE schema_migrations OWNER TO drift_half_owner")
    project.query("ALTER TABLE schema_migrations_log OWNER TO drift_half_owner")
    project.urls["dev"] = url
    done = project.run("sync")
    assert done.code == 7
    assert "public.schema_migrations_states belongs to postgres" in done.err


def test_a_correction_of_the_ledger_is_no_drift_and_hides_none(shop: Project) -> None:
    shop.query("ALTER TABLE orders ADD x int", "prod")
    shop.write("001-shop.sql", "-- why\n" + SHOP)
    assert shop.run("repair", "prod").code == 0
    assert found(shop) == [("created", "column public.orders.x")]


def test_what_a_definition_of_others_holds_cannot_steer_the_terminal(shop: Project) -> None:
    shop.query("COMMENT ON TABLE orders IS E'\\x1b[2J\\u202Eevil'", "prod")
    out = shop.run("drift", "prod").out
    assert "evil" in out
    assert "\x1b[2J" not in out
    assert "\u202e" not in out


def test_a_foreign_servers_password_is_in_no_state_and_no_output(shop: Project) -> None:
    shop.query(
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (host 'h', password 'CANARY-PW', db_url 'postgres://u:CANARY@h')",
        "prod",
    )
    done: Outcome = shop.run("drift", "prod", "--json")
    assert "foreign server s" in done.out
    assert "CANARY" not in done.out + done.err
    assert shop.run("drift", "prod", "--accept", "x").code == 0
    from lockstep.core.fingerprint_document import decode_fingerprint

    rows: list[tuple[Any, ...]] = shop.query(
        "SELECT objects FROM schema_migrations_states ORDER BY id DESC LIMIT 1", "prod"
    )
    texts = [one.text for one in decode_fingerprint(bytes(rows[0][0])).objects.values()]
    assert any("password=***" in text for text in texts)
    assert not any("CANARY" in text for text in texts)


def test_the_ledger_of_an_earlier_version_is_told_to_be_upgraded(shop: Project) -> None:
    shop.query("DROP TABLE schema_migrations_states", "prod")
    shop.write("002-more.sql", "ALTER TABLE orders ADD a int;")
    done = shop.run("sync")
    assert done.code == 4
    assert "lockstep init prod" in done.err
    assert shop.run("status").code == 0
    assert shop.run("init").code == 0
    assert shop.run("sync").code == 0


def test_a_file_cannot_write_into_the_states(shop: Project) -> None:
    shop.write("002-bad.sql", "DELETE FROM schema_migrations_states;")
    done = shop.run("sync", "dev")
    assert done.code == 6
    assert "belongs to Lockstep" in done.err


def test_two_acceptances_at_once_leave_one_state_each_and_a_whole_chain(shop: Project) -> None:
    shop.query("ALTER TABLE orders ADD x int", "prod")
    command = [os.sys.executable, "-m", "lockstep", "drift", "prod", "--accept", "both"]  # type: ignore[attr-defined]
    both = [
        subprocess.Popen(
            command, cwd=shop.folder, env=shop.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    codes = sorted(one.wait(60) for one in both)
    assert codes[0] == 0
    assert codes[1] in (2, 5)  # nothing left to accept, or the lock was held
    assert shop.query("SELECT count(*) FROM schema_migrations_states WHERE event = 'accepted'", "prod") == [(1,)]
    assert shop.run("history", "prod", "--verify").code == 0
