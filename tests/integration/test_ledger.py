"""The ledger in the database: never mistaken for empty, never another tool's, upgraded in place, closed, tamper-evident."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.rehash import REHASH
from tests.project import Project


def role(server: ThrowawayServer, database: str, name: str, *grants: str) -> str:
    """Make a login role in the cluster (once), run grants in the database, and return its URL."""
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pw'").format(sql.Identifier(name)))
        for grant in grants:
            connection.execute(grant.encode())
    return server.url(database, user=name, password="pw")


def database_of(project: Project) -> str:
    return project.urls["dev"].rsplit("/", 1)[1]


def test_the_history_query_that_users_have_works_as_written(project: Project) -> None:
    project.write("001-initial-setup.sql", "CREATE TABLE a (id bigint);")
    project.run("init")
    project.run("sync")
    rows = project.query("SELECT migration_name, applied_at, checksum FROM schema_migrations ORDER BY applied_at DESC")
    expected = hashlib.sha256(b"CREATE TABLE a (id bigint);").hexdigest()
    assert [(r[0], r[2]) for r in rows] == [("001-initial-setup.sql", expected)]
    assert rows[0][1].tzinfo is not None


def test_a_ledger_that_row_level_security_filters_is_an_error_and_never_empty(
    server: ThrowawayServer, project: Project
) -> None:
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.run("init")
    project.run("sync")
    url = role(
        server,
        database_of(project),
        "filtered",
        "GRANT SELECT, INSERT ON schema_migrations, schema_migrations_log TO filtered",
    )
    project.urls["dev"] = url
    assert project.query("SELECT count(*) FROM schema_migrations") == [(0,)], "PostgreSQL itself shows nothing"
    for command in (("status", "--check"), ("plan",), ("sync",), ("history",)):
        done = project.run(*command)
        assert done.code in {4, 7}, (command, done)
        assert "row level security filters public.schema_migrations" in done.err or "belongs to postgres" in done.err


def test_the_configured_reader_sees_every_row_and_cannot_write(server: ThrowawayServer, project: Project) -> None:
    url = role(server, database_of(project), "status_role")
    project.toml = '[project]\nledger_reader = "status_role"'
    project.configure()
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.run("init")
    project.run("sync")
    project.urls["dev"] = url
    done = project.run("status", "--check")
    assert (done.code, "applied" in done.out) == (0, True), done
    assert project.run("history").code == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        project.query("DELETE FROM schema_migrations")
    project.write("002-b.sql", "SELECT 1;")
    refused = project.run("sync")
    assert refused.code == 7
    assert "belongs to postgres" in refused.err


def test_a_reader_whose_policy_was_narrowed_is_refused(server: ThrowawayServer, project: Project) -> None:
    url = role(server, database_of(project), "status_role")
    project.toml = '[project]\nledger_reader = "status_role"'
    project.configure()
    project.run("init")
    project.query("ALTER POLICY lockstep_reader ON schema_migrations USING (version > 1)")
    project.urls["dev"] = url
    done = project.run("status")
    assert done.code == 4
    assert "row level security filters" in done.err


def test_a_role_that_does_not_own_the_ledger_must_not_deploy(server: ThrowawayServer, project: Project) -> None:
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.run("init")
    url = role(
        server, database_of(project), "stranger",
        "GRANT ALL ON schema_migrations, schema_migrations_log TO stranger", "ALTER ROLE stranger BYPASSRLS",
    )  # fmt: skip
    project.urls["dev"] = url
    done = project.run("sync")
    assert done.code == 7
    assert "belongs to postgres, and role stranger is not a member of it" in done.err


def test_a_configured_role_owns_what_the_run_makes(server: ThrowawayServer, project: Project) -> None:
    url = role(server, database_of(project), "deployer", "GRANT CREATE ON SCHEMA public TO deployer")
    role(
        server,
        database_of(project),
        "owner_role",
        "GRANT ALL ON SCHEMA public TO owner_role",
        "GRANT owner_role TO deployer",
    )
    project.urls["dev"] = url
    project.configure(dev='role = "owner_role"')
    project.write("001-a.sql", "CREATE TABLE a (id bigint); SET ROLE deployer;")
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    assert project.run("init").code == 0
    done = project.run("sync")
    assert done.code == 0, done.err
    owners = project.query("SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    assert set(owners) == {
        (t, "owner_role") for t in ("a", "b", "schema_migrations", "schema_migrations_log", "schema_migrations_states")
    }
    assert project.query("SELECT DISTINCT applied_by FROM schema_migrations") == [("owner_role",)]


OLD = "CREATE TABLE schema_migrations ({})"
SEED = "migration_name varchar(255) NOT NULL UNIQUE, checksum varchar(64), applied_at timestamp DEFAULT now()"


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
@pytest.mark.parametrize("extra", ["", "id serial PRIMARY KEY, "])
def test_an_older_ledger_is_upgraded_in_place_and_nothing_is_lost(algorithm: str, extra: str, project: Project) -> None:
    texts = {f"{n:03d}-old.sql": f"CREATE TABLE t{n} (id bigint);\r\n".encode() for n in (1, 2)}
    project.query(OLD.format(extra + SEED))
    for name, text in texts.items():
        project.write(name, text)
        digest = hashlib.new(algorithm, text, usedforsecurity=False).hexdigest()
        project.query(
            f"INSERT INTO schema_migrations VALUES ({'DEFAULT, ' if extra else ''}'{name}', '{digest}', '2024-03-12 10:02:00')"
        )
    project.query(
        f"INSERT INTO schema_migrations VALUES ({'DEFAULT, ' if extra else ''}'003-lost.sql', 'deadbeef', '2024-03-13 10:02:00')"
    )
    project.write("003-lost.sql", "CREATE TABLE t3 (id bigint);")
    project.write("004-new.sql", "CREATE TABLE t4 (id bigint);")
    status = project.run("status")
    assert (status.code, "older form" in status.err) == (4, True), status
    done = project.run("init")
    assert done.code == 0, done.err
    assert "2 entries verified, 1 unverified" in done.out
    rows = project.query("SELECT migration_name, version, verified, applied_at::text FROM schema_migrations ORDER BY 1")
    assert [(r[0], r[1], r[2]) for r in rows] == [
        ("001-old.sql", 1, True),
        ("002-old.sql", 2, True),
        ("003-lost.sql", 3, False),
    ]
    assert rows[0][3].startswith("2024-03-12 10:02:00")
    assert project.query("SELECT checksum FROM schema_migrations WHERE version = 3") == [("deadbeef",)]
    states = {
        m["migration_name"]: m["state"]
        for m in project.run("status", "--json").document["environments"][0]["migrations"]
    }
    assert states == {
        "001-old.sql": "applied",
        "002-old.sql": "applied",
        "003-lost.sql": "unverified",
        "004-new.sql": "pending",
    }
    assert project.run("sync").code == 0
    assert "003-lost.sql: unverified: the file on disk is recorded now" in project.run("repair", "dev").out
    assert project.run("status", "--check").code == 0


def test_an_older_ledger_with_two_rows_for_one_version_is_left_as_it_is(
    project: Project, dump: Callable[[str], str]
) -> None:
    project.query(OLD.format(SEED))
    project.query("INSERT INTO schema_migrations VALUES ('001-a.sql', 'x'), ('001-b.sql', 'y')")
    before = dump(project.urls["dev"])
    done = project.run("init")
    assert done.code == 4
    assert "two rows for one version" in done.err
    assert dump(project.urls["dev"]) == before


@pytest.mark.parametrize(
    ("columns", "tool"),
    [
        ("version varchar(255) PRIMARY KEY", "Rails or dbmate"),
        ("version bigint PRIMARY KEY, dirty boolean", "golang-migrate"),
        ("version bigint, inserted_at timestamp", "Ecto"),
        ("version text PRIMARY KEY, statements text[], name text", "Supabase CLI"),
        ("id int, what text", "another tool's table"),
    ],
)
def test_another_tools_table_is_refused_by_name_and_left_alone(
    columns: str, tool: str, project: Project, dump: Callable[[str], str]
) -> None:
    project.query(OLD.format(columns))
    before = dump(project.urls["dev"])
    for command in ("init", "status", "plan", "sync"):
        done = project.run(command)
        assert done.code == 4, (command, done)
        assert tool in done.err
    assert dump(project.urls["dev"]) == before
    project.toml = '[project]\nledger_schema = "lockstep"'
    project.configure()
    assert project.run("init").code == 0
    assert project.query("SELECT count(*) FROM lockstep.schema_migrations") == [(0,)]


def test_the_ledger_is_closed_to_the_roles_that_serve_public_to_the_internet(
    server: ThrowawayServer, project: Project
) -> None:
    for name in ("anon", "authenticated", "service_role"):
        role(server, database_of(project), name)
    project.query("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role")
    project.query(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role"
    )
    assert project.run("init").code == 0
    open_doors = project.query(
        """
        SELECT r.rolname, c.relname FROM pg_class c, pg_roles r
         WHERE c.relname LIKE 'schema\\_migrations%' AND c.relkind = 'r' AND r.rolname IN ('anon', 'authenticated', 'service_role')
           AND has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
        UNION ALL
        SELECT r.rolname, p.proname FROM pg_proc p, pg_roles r
         WHERE p.proname LIKE 'schema\\_migrations%' AND r.rolname IN ('anon', 'authenticated', 'service_role')
           AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
        """
    )
    assert open_doors == []
    assert project.query(
        "SELECT count(*) FROM pg_class WHERE relname IN ('schema_migrations', 'schema_migrations_log') AND relrowsecurity"
    ) == [(2,)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE schema_migrations_log SET actor = 'nobody'",
        "DELETE FROM schema_migrations_log",
        "TRUNCATE schema_migrations_log",
        "SET session_replication_role = replica; DELETE FROM schema_migrations_log",
        "SET session_replication_role = replica; UPDATE schema_migrations_log SET actor = 'nobody'",
    ],
)
def test_the_audit_log_refuses_to_be_changed(statement: str, project: Project) -> None:
    project.run("init")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        project.query(statement)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE schema_migrations_log SET actor = 'nobody' WHERE id = 2", "DELETE FROM schema_migrations_log WHERE id = 2",
     "UPDATE schema_migrations_log SET details = '{}' WHERE id = 1"],
)  # fmt: skip
def test_a_log_changed_by_a_superuser_is_found(statement: str, project: Project) -> None:
    project.write("001-a.sql", "SELECT 1;")
    project.write("002-b.sql", "SELECT 1;")
    project.run("init")
    project.run("sync")
    assert project.run("history", "--verify").code == 0
    project.query("ALTER TABLE schema_migrations_log DISABLE TRIGGER ALL")
    project.query(statement)
    done = project.run("history", "--verify")
    assert done.code == 4
    assert "audit log broken at row" in done.err


@pytest.mark.parametrize(
    ("attack", "found"),
    [
        ("UPDATE schema_migrations_log SET id = 99 WHERE id = 2; UPDATE schema_migrations_log SET id = 2 WHERE id = 3;"
         "UPDATE schema_migrations_log SET id = 3 WHERE id = 99", "row 2 (apply"),
        ("UPDATE schema_migrations_log SET id = 4, previous_hash = 'made up' WHERE id = 3; INSERT INTO schema_migrations_log"
         " (id, event, previous_hash, hash) SELECT 3, 'apply', hash, 'made up' FROM schema_migrations_log WHERE id = 2",
         "row 3 (apply"),
        # The chain is whole after these: the end that the run reported tells.
        ("DELETE FROM schema_migrations_log WHERE id = 3", "row 3: --head saw it as the newest"),
        ("UPDATE schema_migrations_log SET actor = 'nobody' WHERE id = 2;" + REHASH, "row 3 or before: --head"),
    ],
    ids=["moved", "inserted", "the newest deleted", "a chain computed anew"],
)  # fmt: skip
def test_what_a_chain_cannot_show_the_end_that_a_run_reported_does(attack: str, found: str, project: Project) -> None:
    project.write("001-a.sql", "SELECT 1;")
    project.write("002-b.sql", "SELECT 1;")
    project.run("init")
    end = project.run("sync", "--json").document["environments"][0]["audit"]
    head = f"{end['row']}:{end['hash']}"
    assert end["row"] == 3 and project.run("history", "dev", "--verify", "--head", head).code == 0
    project.query("ALTER TABLE schema_migrations_log DISABLE TRIGGER ALL;" + attack)
    done = project.run("history", "dev", "--verify", "--head", head)
    assert done.code == 4 and f"audit log broken at {found}" in done.err.splitlines()[0], done.err


def test_the_chain_does_not_fork_under_eight_concurrent_writers(project: Project) -> None:
    """Rows alone, several in one transaction, and transactions that are rolled back: no gap, no fork, no lost row."""
    project.run("init")
    start = threading.Barrier(8)
    kept: list[int] = []

    def write(number: int) -> None:
        insert = "INSERT INTO schema_migrations_log (event, run_id) VALUES ('note', %s) RETURNING id"
        mine: list[int] = []
        with psycopg.connect(project.urls["dev"], autocommit=True) as connection:
            start.wait()
            for turn in range(40):
                if turn % 8 == 7:
                    with connection.transaction(force_rollback=True):
                        connection.execute(insert, (f"lost-{number}",))
                    continue
                with connection.transaction():
                    for _ in range(1 + turn % 2):
                        row = connection.execute(insert, (f"writer-{number}",)).fetchone()
                        assert row is not None
                        mine.append(row[0])
        kept.extend(mine)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kept) == list(range(2, 2 + 8 * 50))
    done = project.run("history", "--verify")
    assert done.code == 0 and f"audit log whole: {1 + 8 * 50} rows" in done.out
    assert project.query("SELECT count(DISTINCT previous_hash), count(*) FROM schema_migrations_log") == [(401, 401)]
    assert project.query("SELECT count(*) FROM schema_migrations_log WHERE run_id LIKE 'lost%'") == [(0,)]


def test_init_that_changes_the_form_of_the_ledger_leaves_an_event_and_one_that_does_not_leaves_none(
    project: Project, server: ThrowawayServer
) -> None:
    project.run("init")
    project.query("DROP INDEX schema_migrations_log_version; ALTER TABLE schema_migrations DROP COLUMN tool_version")
    salt = project.query("SELECT details->>'salt' FROM schema_migrations_log")
    assert project.run("init").code == 0
    changed = "SELECT details - 'salt' FROM schema_migrations_log WHERE event = 'init' ORDER BY id DESC LIMIT 1"
    assert project.query(changed) == [({"changed": ["columns", "indexes"]},)]
    assert "changed: columns, indexes" in project.run("history").out
    project.query("CREATE ROLE history_reader")
    try:
        project.toml = '[project]\nledger_reader = "history_reader"\n'
        project.configure()
        assert project.run("init").code == 0
        assert project.query(changed) == [({"changed": ["access"]},)]
        assert project.run("init").code == 0
        assert project.query("SELECT count(*) FROM schema_migrations_log") == [(3,)]
        assert project.query("SELECT details->>'salt' FROM schema_migrations_log WHERE details ? 'salt'") == salt
    finally:
        project.query("DROP OWNED BY history_reader; DROP ROLE history_reader")


def test_a_restored_dump_brings_the_ledger_and_its_chain_along(
    project: Project, new_database: Callable[[], str], dump: Callable[[str], str], pg_bin: Path
) -> None:
    project.write("001-a.sql", "CREATE TABLE a (id bigint);")
    project.run("init")
    project.run("sync")
    whole = subprocess.run([str(pg_bin / "pg_dump"), "-d", project.urls["dev"]], check=True, capture_output=True).stdout
    copy = new_database()
    subprocess.run(
        [str(pg_bin / "psql"), "-qX1", "-v", "ON_ERROR_STOP=1", "-d", copy],
        input=whole,
        check=True,
        capture_output=True,
    )
    before = dump(project.urls["dev"])
    project.urls["dev"] = copy
    assert dump(copy) == before
    assert "audit log whole: 2 rows" in project.run("history", "--verify").out
    assert project.run("status", "--check").code == 0
    project.write("002-b.sql", "CREATE TABLE b (id bigint);")
    assert project.run("sync").code == 0


def test_init_may_run_again_and_changes_nothing(project: Project, dump: Callable[[str], str]) -> None:
    project.write("001-a.sql", "SELECT 1;")
    project.run("init")
    project.run("sync")
    before = dump(project.urls["dev"])
    assert project.run("init").code == 0
    assert dump(project.urls["dev"]) == before
    assert project.query("SELECT count(*) FROM schema_migrations_log WHERE event = 'init'") == [(1,)]


def test_a_second_row_for_one_version_is_impossible(project: Project) -> None:
    project.write("001-a.sql", "SELECT 1;")
    project.run("init")
    project.run("sync")
    with pytest.raises(psycopg.errors.UniqueViolation):
        project.query("INSERT INTO schema_migrations (migration_name, version) VALUES ('001-other.sql', 1)")


def test_settings_reach_sql_and_stay_out_of_logs_ledger_and_plan(server: ThrowawayServer, project: Project) -> None:
    project.query(f"ALTER DATABASE {database_of(project)} SET log_statement = 'all'")
    # A name of its own: the server's log is the session's, and another test's file raises its secret there.
    secret = "l0gged-s3cret, with 'quotes' and \\ and $$"
    project.variables["ADMINS"] = secret
    project.configure(dev='settings = { admins = "${ADMINS}" }')
    project.query("CREATE TABLE seen (t text)")
    project.run("init")
    project.run("baseline", "dev", "--version", "0")
    project.write("001-a.sql", "INSERT INTO seen SELECT md5(current_setting('lockstep.admins'));")
    project.write("002-b.sql", "RESET ALL; INSERT INTO seen SELECT md5(current_setting('lockstep.admins'));")
    project.write(
        "repeatable/r.sql", "-- lockstep: uses=admins\nINSERT INTO seen SELECT md5(current_setting('lockstep.admins'));"
    )
    plan = project.run("plan", "--sql")
    assert secret not in plan.out and plan.code == 0
    done = project.run("sync")
    assert done.code == 0, done.err
    digest = hashlib.md5(secret.encode(), usedforsecurity=False).hexdigest()
    assert project.query("SELECT * FROM seen") == [(digest,)] * 3
    ledger = str(project.query("SELECT * FROM schema_migrations")) + str(
        project.query("SELECT * FROM schema_migrations_log")
    )
    assert "l0gged-s3cret" not in ledger
    log = (server.folder / "server.log").read_text()
    assert "current_setting('lockstep.admins')" in log, "statements are logged"
    assert "l0gged-s3cret" not in log
    assert "nothing to do" in project.run("sync").out
    project.variables["ADMINS"] = "someone else"
    assert "to re-apply" in project.run("status").out
    assert project.run("sync").code == 0
    assert len(project.query("SELECT * FROM seen")) == 4


def test_a_setting_too_long_for_the_startup_packet_arrives_all_the_same(project: Project) -> None:
    project.variables["BIG"] = "x" * 20_000
    project.configure(dev='settings = { big = "${BIG}" }')
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a AS SELECT length(current_setting('lockstep.big')) AS n;")
    project.write("002-b.sql", "CREATE TABLE b AS SELECT length(current_setting('lockstep.big')) AS n;")
    done = project.run("sync")
    assert done.code == 0, done.err
    assert project.query("SELECT n FROM a UNION ALL SELECT n FROM b") == [(20_000,), (20_000,)]
