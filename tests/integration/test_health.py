"""`health` on a real server: each check finds the state that it is about, and a database in order has no finding."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lockstep.postgres.throwaway import FAST, ThrowawayServer
from lockstep.service.health import check_health
from lockstep.service.reporting import health_table
from tests.project import Project

#: Safe settings, so that nothing is found in an empty database; what checks are about can be provoked.
SETTINGS = {
    **FAST,
    "fsync": "on",
    "full_page_writes": "on",
    "wal_level": "logical",
    "max_prepared_transactions": "5",
    "archive_mode": "on",
    "autovacuum_naptime": "1h",  # it must not come in between
}

#: The tests' server is of 17, where checksums are off by default, and its counters are young.
QUIET = '[[health.ignore]]\ncheck = "checksums-off"\nreason = "a test"\n'

Row = dict[str, Any]


@pytest.fixture(scope="module")
def clinic(pg_bin: Path) -> Iterator[ThrowawayServer]:
    with ThrowawayServer(pg_bin, settings=SETTINGS) as running:
        yield running


@dataclass
class Patient:
    """A fresh database with a project around it."""

    project: Project
    url: str

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def document(self, health: str = "", *, url: str | None = None) -> Any:
        self.project.urls["dev"] = url or self.url
        self.project.toml = f"[health]\n{health}\n{QUIET}"
        self.project.configure()
        done = self.project.run("health", "dev", "--json")
        assert done.code == 0, done.err
        (one,) = done.document["environments"]
        assert one["error"] is None
        return one

    def found(self, check: str, health: str = "", *, url: str | None = None) -> list[Row]:
        return [row for row in self.document(health, url=url)["findings"] if row["check"] == check]

    def only(self, check: str, health: str = "") -> Row:
        (row,) = self.found(check, health)
        return row


@pytest.fixture
def patient(clinic: ThrowawayServer, tmp_path: Path) -> Iterator[Patient]:
    with psycopg.connect(clinic.url(), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS patient WITH (FORCE)")
        admin.execute("CREATE DATABASE patient")
    (tmp_path / "migrations").mkdir()
    yield Patient(Project(folder=tmp_path, urls={}), clinic.url("patient"))


@pytest.fixture
def role(clinic: ThrowawayServer) -> Iterator[Callable[[str], str]]:
    """Make one login role of this file's own; returns the patient's URL as that role."""
    with psycopg.connect(clinic.url(), autocommit=True) as admin:

        def make(grant: str = "") -> str:
            admin.execute("CREATE ROLE health_reader LOGIN PASSWORD 'pw'")
            if grant:
                admin.execute(f"GRANT {grant} TO health_reader")
            return clinic.url("patient", user="health_reader", password="pw")

        yield make
        admin.execute("DROP DATABASE patient WITH (FORCE)")
        admin.execute("DROP ROLE health_reader")


HEALTHY = """
CREATE TABLE public.customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text UNIQUE);
CREATE TABLE public.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES public.customers,
    note text CHECK (note <> '')
);
CREATE INDEX orders_customer ON public.orders (customer_id);
INSERT INTO public.customers (email) SELECT i::text FROM generate_series(1, 2000) i;
INSERT INTO public.orders (customer_id) SELECT 1 FROM generate_series(1, 2000) i;
ANALYZE;
"""


def test_a_healthy_database_has_no_finding(patient: Patient) -> None:
    patient.run(HEALTHY)
    patient.project.urls["dev"] = patient.url
    patient.project.toml = QUIET
    patient.project.configure()
    assert patient.project.run("init").code == 0
    done = patient.project.run("health", "--check")
    assert (done.code, done.err) == (0, "")
    first = done.out.splitlines()[0]
    assert first.startswith("dev (127.0.0.1:") and "): nothing found; 27 checks" in first
    assert patient.document()["findings"] == []


# -- indexes and constraints --------------------------------------------------------------------------------------


def test_an_index_that_a_failed_build_left_is_found(patient: Patient) -> None:
    patient.run("CREATE TABLE t (id int PRIMARY KEY, a int)", "INSERT INTO t VALUES (1, 1), (2, 1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        patient.run("CREATE UNIQUE INDEX CONCURRENTLY broken ON t (a)")
    row = patient.only("invalid-index")
    assert (row["object"], row["severity"]) == ("public.broken", "warning")
    assert row["fix"].startswith("REINDEX INDEX CONCURRENTLY public.broken;")


@pytest.mark.parametrize("grant", [None, ""])
def test_an_index_whose_build_is_under_way_is_none_even_where_its_progress_is_hidden(
    patient: Patient, role: Callable[[str], str], grant: str | None
) -> None:
    url = patient.url if grant is None else role(grant)
    if grant is None:
        role("")
    patient.run("CREATE TABLE t (id int PRIMARY KEY, a int)")
    with psycopg.connect(patient.url) as writer, ThreadPoolExecutor(1) as pool:
        writer.execute("INSERT INTO t VALUES (1, 1)")
        build = pool.submit(patient.run, "CREATE INDEX CONCURRENTLY slow ON t (a)")
        with psycopg.connect(patient.url, autocommit=True) as looking:
            while not looking.execute("SELECT 1 FROM pg_index WHERE NOT indisvalid").fetchall():
                time.sleep(0.01)
        found = patient.found("invalid-index", url=url)
        writer.rollback()
        build.result()
    assert found == []


def test_a_constraint_that_was_never_validated_is_found(patient: Patient) -> None:
    patient.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int)", "ALTER TABLE t ADD CONSTRAINT a_known CHECK (a > 0) NOT VALID"
    )
    row = patient.only("unvalidated-constraint")
    assert row["object"] == "public.t.a_known"
    patient.run(row["fix"])
    assert patient.found("unvalidated-constraint") == []


def test_a_foreign_key_without_an_index_is_found_and_one_that_any_index_serves_is_not(patient: Patient) -> None:
    patient.run(
        "CREATE TABLE p (a int, b int, PRIMARY KEY (a, b), c int UNIQUE)",
        "CREATE TABLE bare (id int PRIMARY KEY, pc int CONSTRAINT bare_fk REFERENCES p (c))",
        "CREATE TABLE swapped (id int PRIMARY KEY, x int, y int, FOREIGN KEY (x, y) REFERENCES p)",
        "CREATE INDEX ON swapped (y, x, id)",
        "CREATE TABLE sparse (id int PRIMARY KEY, pc int REFERENCES p (c))",
        "CREATE INDEX ON sparse (pc) WHERE pc IS NOT NULL",
        "CREATE TABLE partial (id int PRIMARY KEY, pc int CONSTRAINT partial_fk REFERENCES p (c))",
        "CREATE INDEX ON partial (pc) WHERE pc > 5",
    )
    found = patient.found("unindexed-foreign-key")
    assert [row["object"] for row in found] == ["public.bare.bare_fk", "public.partial.partial_fk"]
    assert [row["severity"] for row in found] == ["info", "info"]
    large = patient.found("unindexed-foreign-key", "small_table = '0B'")
    assert [row["severity"] for row in large] == ["warning", "warning"]
    for row in found:
        patient.run(row["fix"])
    assert patient.found("unindexed-foreign-key") == []


def test_duplicate_and_redundant_indexes_are_found_and_those_that_differ_are_not(patient: Patient) -> None:
    patient.run(
        "CREATE TABLE t (id int PRIMARY KEY, a text, b text, c int, d int)",
        "CREATE INDEX once ON t (a); CREATE INDEX twice ON t (a)",
        'CREATE INDEX pattern ON t (a text_pattern_ops); CREATE INDEX other ON t (a COLLATE "POSIX")',
        "CREATE INDEX partial ON t (a) WHERE c > 0; CREATE INDEX down ON t (a DESC); CREATE INDEX hashed ON t USING hash (a)",
        "CREATE INDEX expression ON t (lower(a)); CREATE INDEX including ON t (b) INCLUDE (c)",
        "CREATE UNIQUE INDEX ensures ON t (c); CREATE INDEX begins ON t (c); CREATE INDEX longer ON t (d, a); CREATE INDEX short ON t (d)",
    )
    assert patient.only("duplicate-index")["object"] in {"public.once", "public.twice"}
    assert [row["object"] for row in patient.found("redundant-index")] == ["public.begins", "public.short"]


def test_an_index_that_a_constraint_needs_is_never_the_one_to_drop(patient: Patient) -> None:
    patient.run("CREATE TABLE t (id int PRIMARY KEY, a int UNIQUE)", "CREATE UNIQUE INDEX again ON t (a)")
    assert patient.only("duplicate-index")["fix"] == "DROP INDEX CONCURRENTLY public.again;"


def test_an_unused_index_is_found_once_the_counters_are_old_enough(patient: Patient) -> None:
    patient.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int)",
        "INSERT INTO t SELECT i, i, i FROM generate_series(1, 500) i",
        "CREATE INDEX used ON t (a); CREATE INDEX idle ON t (b); CREATE UNIQUE INDEX ensures ON t (b, a)",
        "SET enable_seqscan = off; SELECT * FROM t WHERE a = 1",
    )
    young = patient.document("small_table = '0B'")
    assert [row["check"] for row in young["not_judged"]] == ["unused-index"]
    row = patient.only("unused-index", "small_table = '0B'\nunused_index = '1ms'")
    assert row["object"] == "public.idle" and "no scan here since 20" in row["text"]


def test_triggers_that_are_off_are_found(patient: Patient) -> None:
    patient.run(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY CONSTRAINT t_fk REFERENCES p)",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER mine BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE t DISABLE TRIGGER ALL",
    )
    found = patient.found("disabled-trigger")
    assert [row["object"] for row in found] == ["public.t.mine", "public.t.t_fk"]
    assert "foreign key" in found[1]["text"]


# -- keys ---------------------------------------------------------------------------------------------------------

KEYS = {
    "serial": ("CREATE TABLE t (id serial PRIMARY KEY)", "public.t.id", 2**31 - 1),
    "smallint identity": (
        "CREATE TABLE t (id smallint GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME t_id_seq) PRIMARY KEY)",
        "public.t.id", 2**15 - 1,
    ),
    "a column smaller than its sequence": (
        "CREATE SEQUENCE t_id_seq; CREATE TABLE t (id int DEFAULT nextval('t_id_seq') PRIMARY KEY)", "public.t.id", 2**31 - 1,
    ),
    "a referring column smaller than the key": (
        "CREATE TABLE t (id bigserial PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY REFERENCES t)", "public.t.id", 2**31 - 1,
    ),
    "a sequence's own end": ("CREATE SEQUENCE t_id_seq MAXVALUE 1000", "public.t_id_seq", 1000),
    "downwards": ("CREATE SEQUENCE t_id_seq INCREMENT -1 MINVALUE -1000", "public.t_id_seq", -1000),
}  # fmt: skip


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_near_its_end_is_found(kind: str, patient: Patient) -> None:
    made, name, limit = KEYS[kind]
    patient.run(made, f"SELECT setval('t_id_seq', {round(limit * 0.6)})")
    assert patient.found("key-exhaustion") == []
    patient.run(f"SELECT setval('t_id_seq', {round(limit * 0.8)})")
    row = patient.only("key-exhaustion")
    assert (row["object"], row["severity"]) == (name, "warning")
    assert {m["name"]: m["value"] for m in row["measures"]}["limit"] == limit
    patient.run(f"SELECT setval('t_id_seq', {round(limit * 0.95)})")
    assert patient.only("key-exhaustion")["severity"] == "critical"


def test_a_sequence_that_cycles_has_no_end(patient: Patient) -> None:
    patient.run("CREATE SEQUENCE s MAXVALUE 10 CYCLE", "SELECT setval('s', 10)")
    assert patient.found("key-exhaustion") == []


# -- tables -------------------------------------------------------------------------------------------------------


def test_a_table_without_a_key_is_found_and_weighs_more_where_it_is_published(patient: Patient) -> None:
    patient.run(
        "CREATE TABLE t (a int)", "CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p DEFAULT"
    )
    assert {row["object"]: row["severity"] for row in patient.found("no-primary-key")} == {
        "public.t": "info",
        "public.p": "info",
    }
    patient.run("CREATE PUBLICATION health_pub FOR TABLE t")
    assert {row["object"]: row["severity"] for row in patient.found("no-primary-key")}["public.t"] == "warning"


def test_a_table_full_of_dead_rows_is_found(patient: Patient) -> None:
    patient.run(
        "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 1000); ANALYZE t",
        "DELETE FROM t WHERE id <= 300",
    )  # fmt: skip
    assert patient.found("dead-rows") == []  # small
    row = patient.only("dead-rows", "small_table = '0B'")
    assert row["text"].startswith("30.0 % dead: 300 of 1,000 rows")


def test_stale_statistics_are_found(patient: Patient) -> None:
    patient.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 2000)")
    assert patient.only("stale-statistics")["text"] == "never analysed; about 2,000 rows"
    patient.run("ANALYZE t", "INSERT INTO t SELECT generate_series(2001, 4000)")
    assert "2,000 changes since" in patient.only("stale-statistics", "small_table = '0B'")["text"]
    patient.run("ANALYZE t")
    assert patient.found("stale-statistics", "small_table = '0B'") == []


@pytest.mark.parametrize("value", ["off", "false"])
def test_a_table_without_autovacuum_is_found(value: str, patient: Patient) -> None:
    patient.run(f"CREATE TABLE t (id int PRIMARY KEY) WITH (autovacuum_enabled = {value})")
    assert patient.only("autovacuum-off")["fix"] == "ALTER TABLE public.t RESET (autovacuum_enabled);"


# -- activity -----------------------------------------------------------------------------------------------------


def test_open_transactions_are_found_idle_or_at_work(patient: Patient) -> None:
    limits = 'idle_in_transaction = ["1ms", "1h"]\ntransaction = ["1ms", "1h"]'
    with psycopg.connect(patient.url, application_name="forgotten") as idle, ThreadPoolExecutor(1) as pool:
        idle.execute("SELECT 1")
        working = pool.submit(patient.run, "SELECT pg_sleep(1)")
        time.sleep(0.2)
        document = patient.document(limits)
        working.result()
        found = {row["check"]: row for row in document["findings"]}
        row = found["idle-in-transaction"]
        assert row["object"] == f"pid {idle.info.backend_pid} (user postgres, forgotten)"
        assert row["fix"].startswith(f"SELECT pg_terminate_backend({idle.info.backend_pid});")
        assert "active" in found["long-transaction"]["text"]
        assert patient.found("idle-in-transaction") == []  # it is young by the defaults


def test_a_blocked_session_is_found_with_who_blocks_it(patient: Patient) -> None:
    patient.run("CREATE TABLE t (id int PRIMARY KEY)")
    with psycopg.connect(patient.url, application_name="holder") as holder, ThreadPoolExecutor(1) as pool:
        pid = holder.info.backend_pid
        holder.execute("LOCK TABLE t")
        waiting = pool.submit(patient.run, "SELECT * FROM t")
        time.sleep(0.2)
        row = patient.only("blocked-session", 'blocked = ["1ms", "1h"]')
        holder.rollback()
        waiting.result()
    assert "for public.t; in its way: pid" in row["text"] and "holder), idle in transaction" in row["text"]
    assert row["fix"] == f"SELECT pg_terminate_backend({pid});"


def test_a_prepared_transaction_is_found(patient: Patient) -> None:
    patient.run("CREATE TABLE t (id int PRIMARY KEY)", "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s'")
    row = patient.only("prepared-transaction", 'prepared = ["1ms", "1h"]')
    assert row["object"] == "it's"
    patient.run(row["fix"])
    assert patient.found("prepared-transaction", 'prepared = ["1ms", "1h"]') == []


# -- the server ---------------------------------------------------------------------------------------------------


def test_ages_of_transactions_and_multixacts_are_told_for_every_database(patient: Patient) -> None:
    document = patient.document("wraparound = [0, 75]")
    for check in ("xid-age", "multixact-age"):
        found = [row for row in document["findings"] if row["check"] == check]
        assert {row["object"] for row in found} == {"patient", "postgres", "template0", "template1"}
        assert all("of the way to the end at 2,147,483,648" in row["text"] for row in found)
    own = next(row for row in document["findings"] if row["check"] == "xid-age" and row["object"] == "patient")
    assert own["fix"].startswith("VACUUM (FREEZE, VERBOSE) ")


def test_connections_are_held_against_what_ordinary_roles_may_open(patient: Patient) -> None:
    assert "of 57 in use" in patient.only("connections", "connections = [1, 100]")["text"]


def test_a_slot_that_nobody_reads_is_found(patient: Patient) -> None:
    patient.run("SELECT pg_create_physical_replication_slot('health_slot', true)")
    row = patient.only("replication-slot")
    patient.run(row["fix"])
    assert row["object"] == "health_slot" and "nobody reads it, keeps" in row["text"]


def test_a_subscriber_that_is_behind_is_found(patient: Patient, clinic: ThrowawayServer) -> None:
    address = f"host=127.0.0.1 port={clinic.port} user=postgres password={clinic.password} dbname=patient"
    patient.run("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION health_lag FOR TABLE t",
                "SELECT pg_create_logical_replication_slot('health_lag', 'pgoutput')")  # fmt: skip
    with psycopg.connect(clinic.url(), autocommit=True) as other:
        other.execute("CREATE TABLE t (id int PRIMARY KEY)")
        try:
            with psycopg.connect(clinic.url()) as holder:
                holder.execute("LOCK TABLE t IN SHARE MODE")  # the subscriber's rows have to wait
                other.execute(
                    f"CREATE SUBSCRIPTION health_lag CONNECTION '{address}' PUBLICATION health_lag"
                    " WITH (create_slot = false, copy_data = false)"
                )
                # Rows that were there before its first word count as received with that, and as no lag; later ones are.
                deadline = time.monotonic() + 120  # a worker that did not come up at once tries again after 5 s
                first = 0
                while not (found := patient.found("replication-lag", 'replica_behind = ["1kB", "1GB"]')):
                    assert time.monotonic() < deadline, clinic._tail()
                    patient.run(f"INSERT INTO t SELECT generate_series({first + 1}, {first + 1000})")
                    first += 1000
                holder.rollback()
        finally:
            other.execute("ALTER SUBSCRIPTION health_lag DISABLE")
            other.execute("ALTER SUBSCRIPTION health_lag SET (slot_name = NONE)")
            other.execute("DROP SUBSCRIPTION health_lag; DROP TABLE t")
            for _ in range(100):
                with suppress(psycopg.errors.ObjectInUse):
                    other.execute("SELECT pg_drop_replication_slot('health_lag')")
                    break
                time.sleep(0.05)
    assert found[0]["object"] == "health_lag (127.0.0.1)" and "kB behind" in found[0]["text"]


def test_an_archive_that_gets_nothing_is_found(patient: Patient) -> None:
    try:
        patient.run("ALTER SYSTEM SET archive_command = 'false'", "SELECT pg_reload_conf()")
        patient.run("CREATE TABLE t (id int PRIMARY KEY)", "SELECT pg_switch_wal()")
        deadline = time.monotonic() + 10
        while not (found := patient.found("archiver-failing")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        patient.run("ALTER SYSTEM RESET archive_command", "SELECT pg_reload_conf()")
        time.sleep(0.1)
        patient.run("SELECT pg_stat_reset_shared('archiver')")
    assert found[0]["severity"] == "critical" and "never a success" in found[0]["text"]


def test_settings_that_endanger_data_are_found_and_end_a_check_with_4(project: Project) -> None:
    done = project.run("health", "--check")  # the session's own server is a throw-away one
    assert done.code == 4
    assert "critical  unsafe-settings: " in done.out
    assert "    fsync: fsync = off\n        ALTER SYSTEM SET fsync = on;" in done.out
    assert project.run("health").code == 0


def test_damaged_pages_and_a_server_without_autovacuum_are_found(pg_bin: Path, tmp_path: Path) -> None:
    (tmp_path / "migrations").mkdir()
    with ThrowawayServer(pg_bin, settings={**FAST, "autovacuum": "off"}) as damaged:
        project = Project(folder=tmp_path, urls={"dev": damaged.url()})
        project.configure()
        before = {row["check"]: row for row in project.run("health", "--json").document["environments"][0]["findings"]}
        assert before["autovacuum-off"]["severity"] == "critical"
        with psycopg.connect(damaged.url(), autocommit=True) as connection:
            version = connection.info.server_version
            connection.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1); CHECKPOINT")
            (path,) = connection.execute("SELECT pg_relation_filepath('t')").fetchone() or ("",)
        assert ("checksums-off" in before) == (version < 180000)
        damaged._end(signal.SIGINT)
        if version < 180000:
            with (tmp_path / "log").open("wb") as log:
                command = [str(pg_bin / "pg_checksums"), "--enable", "--no-sync", "-D", str(damaged._data)]
                assert damaged._identity.popen(command, log).wait(20) == 0
        file = damaged._data / path
        page = bytearray(file.read_bytes())
        page[8000] ^= 0xFF
        with file.open("r+b") as stream:
            stream.write(page)
        damaged.start()
        with psycopg.connect(damaged.url(), autocommit=True) as connection, suppress(psycopg.errors.DataCorrupted):
            connection.execute("SELECT * FROM t")
        after = {row["check"]: row for row in project.run("health", "--json").document["environments"][0]["findings"]}
    assert "checksums-off" not in after
    assert after["checksum-failures"]["severity"] == "critical"
    assert after["checksum-failures"]["text"].startswith("1 pages with a wrong checksum were read, last 20")


# -- who looks, and what is not seen ------------------------------------------------------------------------------


def test_a_role_with_pg_monitor_sees_all_but_the_sequences_that_it_may_not_read(
    patient: Patient, role: Callable[[str], str]
) -> None:
    url = role("pg_monitor")
    patient.run(HEALTHY, "CREATE TABLE s (id serial PRIMARY KEY)", "SELECT setval('s_id_seq', 2000000000)")
    with psycopg.connect(patient.url) as idle:
        idle.execute("SELECT 1")
        time.sleep(0.01)
        document = patient.document('idle_in_transaction = ["1ms", "1h"]', url=url)
        assert [row["check"] for row in document["findings"]] == ["idle-in-transaction"]
        hidden = {row["check"]: row for row in document["not_judged"]}
        assert list(hidden) == ["key-exhaustion", "unused-index"]
        assert hidden["key-exhaustion"]["why"].startswith("health_reader may not read 3 of 3 sequences: ")
        patient.run(hidden["key-exhaustion"]["fix"])
        document = patient.document(url=url)
        assert [row["object"] for row in document["findings"]] == ["public.s.id"]
        assert [row["check"] for row in document["not_judged"]] == ["unused-index"]


def test_a_plain_role_is_told_what_it_does_not_see(patient: Patient, role: Callable[[str], str]) -> None:
    url = role("")
    patient.run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE INDEX again ON t (id)")
    with psycopg.connect(patient.url) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("LOCK TABLE t")
        waiting = pool.submit(patient.run, "SELECT * FROM t")
        time.sleep(0.2)
        document = patient.document('idle_in_transaction = ["1ms", "1h"]\nblocked = ["1ms", "1h"]', url=url)
        holder.rollback()
        waiting.result()
    assert [row["check"] for row in document["findings"]] == ["blocked-session", "redundant-index"]
    hidden = {row["check"]: row for row in document["not_judged"]}
    assert list(hidden) == ["idle-in-transaction", "long-transaction", "unused-index"]
    assert hidden["long-transaction"]["why"] == "the state of 2 sessions of other roles is hidden from health_reader"
    assert hidden["long-transaction"]["fix"] == "GRANT pg_monitor TO health_reader;"


def test_a_check_that_cannot_look_hides_no_other(patient: Patient) -> None:
    patient.run("CREATE TABLE t (id serial, a int)", "SELECT setval('t_id_seq', 2000000000)")
    with psycopg.connect(patient.url) as holder:
        holder.execute("ALTER SEQUENCE t_id_seq RESTART")
        document = patient.document()
        holder.rollback()
    assert [row["check"] for row in document["findings"]] == ["no-primary-key"]
    row = next(row for row in document["not_judged"] if row["check"] == "key-exhaustion")
    assert row["why"] == "something that it looks at is locked by another session"


def test_a_table_that_is_locked_whole_keeps_no_check_waiting(patient: Patient) -> None:
    patient.run(
        HEALTHY, "CREATE INDEX partial ON orders (note) WHERE note > 'a'; CREATE INDEX e ON orders (lower(note))"
    )
    with psycopg.connect(patient.url) as holder:
        holder.execute("LOCK TABLE orders; LOCK TABLE customers")
        document = patient.document()
    assert document["findings"] == []
    assert [row["check"] for row in document["not_judged"]] == ["unused-index"]


def test_what_is_ignored_with_a_reason_is_counted_and_does_not_weigh(patient: Patient) -> None:
    patient.run("CREATE TABLE keep (a int); CREATE TABLE log_1 (a int)")
    health = '[[health.ignore]]\ncheck = "no-primary-key"\nobject = "public.log_*"\nreason = "append only"\n'
    document = patient.document(health)
    assert [row["object"] for row in document["findings"]] == ["public.keep"]
    ignored = {row["object"]: row["reason"] for row in document["ignored"]}
    assert ignored["public.log_1"] == "append only"


def test_without_backup_configuration_boto3_is_not_loaded(patient: Patient) -> None:
    patient.document()
    code = (
        "import sys; from lockstep.cli.main import main; "
        f"code = main(['health', '--project', {str(patient.project.folder)!r}]); "
        "assert code == 0 and not {'boto3', 'botocore', 'prefect', 'pyrage'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=patient.project.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "rates: from the server's counters since" in done.stdout


def test_an_unreachable_environment_does_not_hide_the_others(patient: Patient) -> None:
    patient.project.urls = {"dev": patient.url, "down": "postgresql://u:s3cret@127.0.0.1:1/x"}
    patient.project.configure()
    done = patient.project.run("health", "--check")
    assert done.code == 8
    assert "27 checks" in done.out and "down (127.0.0.1:1/x)" in done.err and "s3cret" not in done.err + done.out
    assert patient.project.run("health").code == 0


def test_a_report_is_a_table_for_a_flow(patient: Patient) -> None:
    patient.run("CREATE TABLE t (a int)")
    patient.document()
    report = check_health(patient.project.settings(), patient.project.environment())
    (row,) = health_table([report])
    assert (row["environment"], row["severity"], row["check"], row["object"]) == (
        "dev",
        "info",
        "no-primary-key",
        "public.t",
    )


def test_a_long_list_is_cut_with_a_count(patient: Patient) -> None:
    patient.run(*(f"CREATE TABLE t{number} (a int)" for number in range(8)))
    patient.document()
    done = patient.project.run("health")
    assert "    and 3 more: --all\n" in done.out and done.out.count("about 0 rows") == 5
    done = patient.project.run("health", "--all")
    assert "--all" not in done.out and done.out.count("about 0 rows") == 8
