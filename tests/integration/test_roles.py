"""`doctor --grants`: the SQL that it prints makes roles which are enough for everything, and none of them a superuser."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lockstep.postgres.throwaway import FAST, ThrowawayServer
from tests.integration.backup.conftest import new_store, s3, store
from tests.integration.backup.store import Store
from tests.project import Project

__all__ = ["new_store", "s3", "store"]

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
ROLES = ("lockstep_migrator", "it's owner", "roles_status", "roles_backup", "roles_approvers", "roles_bob", "roles_app")

#: Somebody else's, with row level security, in a schema of theirs; and a sequence that health looks at.
THERE = """
CREATE ROLE roles_app NOLOGIN;
CREATE SCHEMA "App" AUTHORIZATION roles_app;
CREATE TABLE "App".orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text);
ALTER TABLE "App".orders OWNER TO roles_app;
ALTER TABLE "App".orders ENABLE ROW LEVEL SECURITY;
INSERT INTO "App".orders (note) SELECT 'n' || i FROM generate_series(1, 20) AS i;
"""
CONFIG = """
[project]
schemas = ["public", "App"]
ledger_schema = "lockstep"
ledger_reader = "roles_status"

[approval]
two_person = true
approvers = "roles_approvers"

[backup]
bucket = "{bucket}"
endpoint_url = "{endpoint}"
"""
ENVIRONMENT = 'protected = true\nrole = "it\'s owner"\nbackup_role = "roles_backup"\n'


@dataclass(kw_only=True)
class Site:
    """A project, and a server on which its roles are yet to be made."""

    project: Project
    server: ThrowawayServer
    database: str
    pg_bin: Path

    def admin(self, text: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.server.url(self.database), autocommit=True) as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    def psql(self, text: str, database: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(self.pg_bin / "psql"), "-X", "-q", "-d", self.server.url(database or self.database)]
        return subprocess.run(command, input=text, text=True, capture_output=True, check=False)

    def become(self, role: str) -> None:
        """Log in as a role from now on, as whoever has its URL in their own .env."""
        self.project.urls["prod"] = self.server.url(self.database, user=role, password=f"pw of {role}")

    def forget(self) -> None:
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.database)))
            for name in ROLES:
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


@pytest.fixture(params=["17", pytest.param("15", marks=[pytest.mark.postgresql15, pytest.mark.slow])])
def site(
    request: pytest.FixtureRequest, server: ThrowawayServer, pg_bin: Path, store: Store, tmp_path: Path
) -> Iterator[Site]:
    (tmp_path / "migrations").mkdir()
    project = Project(folder=tmp_path, urls={})
    project.variables["AWS_EC2_METADATA_DISABLED"] = "true"
    project.toml = CONFIG.format(bucket=store.settings.url, endpoint=store.settings.endpoint_url)
    other = ThrowawayServer(DEBIAN_15, settings=FAST) if request.param == "15" else None
    running = other or server
    made = Site(project=project, server=running, database='the "shop"', pg_bin=DEBIAN_15 if other else pg_bin)
    with psycopg.connect(running.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(made.database)))
    project.urls["prod"] = running.url(made.database)
    project.configure(prod=ENVIRONMENT)
    made.admin(THERE)
    try:
        yield made
    finally:
        if other is not None:
            other.stop()
        else:
            made.forget()


def test_the_printed_roles_are_enough_for_everything_and_none_is_a_superuser(site: Site) -> None:
    project = site.project
    printed = project.run("doctor", "--grants", "prod")
    assert (printed.code, printed.err) == (0, "")
    assert "a superuser: let it log in as lockstep_migrator instead" in printed.out
    assert 'GRANT "roles_app" TO "it\'s owner";' in printed.out
    assert ("on this version only a superuser can give it" in printed.out) == (site.pg_bin == DEBIAN_15)
    assert "REVOKE CREATE" not in printed.out
    assert site.server.password not in printed.out and not re.search(r"PASSWORD\s+'", printed.out)
    for _ in range(2):  # it may be run again
        ran = site.psql(printed.out)
        assert (ran.returncode, ran.stderr) == (0, "")
    assert "connect to" in site.psql(printed.out, "postgres").stderr
    site.admin("CREATE ROLE roles_bob LOGIN IN ROLE roles_approvers")
    for name in ("lockstep_migrator", "roles_status", "roles_backup", "roles_bob"):
        site.admin(f"ALTER ROLE {name} PASSWORD 'pw of {name}'")
    assert site.admin("SELECT rolname FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'") == []

    site.become("lockstep_migrator")
    assert project.run("init").code == 0
    assert project.run("baseline", "prod", "--version", "none").code == 0
    project.write(
        "001-more.sql", 'ALTER TABLE "App".orders ADD COLUMN more int;\nCREATE TABLE public.mine (id int PRIMARY KEY);'
    )
    project.write("001-more.down.sql", 'ALTER TABLE "App".orders DROP COLUMN more;\nDROP TABLE public.mine;')
    approved_by(site, "roles_bob", "sync", "prod")
    assert site.admin("SELECT state, applied_by FROM lockstep.schema_migrations WHERE version = 1") == [
        ("applied", "it's owner")
    ]
    checks = {
        check["name"]: (check["outcome"], check["text"])
        for one in project.run("doctor", "prod", "--json").document["sections"] if one["name"] == "prod"
        for check in one["checks"]
    }  # fmt: skip
    assert {checks[name][0] for name in ("role", "ledger", "schemas", "backup rights", "monitoring")} == {"ok"}, checks

    site.become("roles_status")
    for words in ("status", "drift", "health", "history"):
        done = project.run(words, "prod")
        assert done.code == 0, (words, done)
    assert "001-more   applied" in project.run("status").out
    hidden = project.run("health", "prod", "--json").document["environments"][0]
    assert [one for one in hidden["not_judged"] if one["fix"]] == [], hidden
    for text in ('SELECT FROM "App".orders', "DELETE FROM lockstep.schema_migrations", "CREATE TABLE public.x ()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            project.query(text, "prod")
    assert project.run("sync", "prod").code != 0
    refused = project.run("backup", "prod")
    assert refused.code != 0 and "docs/how-to/roles.md" in refused.err and "GRANT" not in refused.err, refused
    looks = duties(site, "this login looks only; to apply, log in as the migrator (docs/how-to/roles.md)")
    assert (looks["ledger"], looks["schemas"], looks["monitoring"]) == ("ok", "ok", "ok")
    assert looks["backup rights"] == "not checked"

    site.become("roles_backup")
    backs_up = duties(site, "this login only takes backups; to apply, log in as the migrator (docs/how-to/roles.md)")
    assert (backs_up["ledger"], backs_up["backup rights"]) == ("ok", "ok")
    done = project.run("backup", "prod")
    assert done.code == 0, done.err
    assert project.run("backups", "verify", "--of", "prod").code == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        project.query('UPDATE "App".orders SET note = note', "prod")

    site.become("lockstep_migrator")
    with psycopg.connect(site.server.url(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS roles_copy")
        connection.execute('CREATE DATABASE roles_copy OWNER "it\'s owner"')
    try:
        project.variables["COPY_URL"] = site.server.url(
            "roles_copy", user="lockstep_migrator", password="pw of lockstep_migrator"
        )
        done = project.run("restore", "latest", "--of", "prod", "--into", "${COPY_URL}")
        assert done.code == 0, done.err
    finally:
        with psycopg.connect(site.server.url(), autocommit=True) as connection:
            connection.execute("DROP DATABASE roles_copy WITH (FORCE)")
    project.write("002-next.sql", "ALTER TABLE public.mine ADD COLUMN more int;")
    done = project.run("rehearse", "prod", "--fresh")
    assert done.code == 0, done.out + done.err


def duties(site: Site, said: str) -> dict[str, str]:
    """What `doctor` makes of a login that has all that its duty needs: nothing is wrong, and nothing is to be granted."""
    done = site.project.run("doctor", "prod", "--json")
    (found,) = [one["checks"] for one in done.document["sections"] if one["name"] == "prod"]
    assert [one for one in found if one["outcome"] == "problem"] == []
    assert [one for one in found if "GRANT" in (one["remedy"] or "")] == []
    assert [one["text"] for one in found if one["name"] == "duty"] == [said]
    return {one["name"]: one["outcome"] for one in found}


def test_what_is_said_of_who_can_give_bypassrls_and_memberships_is_so(site: Site) -> None:
    site.admin("CREATE ROLE it_s_maker CREATEROLE BYPASSRLS; CREATE ROLE it_s_given")

    def refused(text: str) -> bool:
        try:
            site.admin(f"SET ROLE it_s_maker; {text}")
        except psycopg.errors.InsufficientPrivilege:
            return True
        return False

    try:
        only_superusers = refused("CREATE ROLE it_s_own; ALTER ROLE it_s_own BYPASSRLS")
        assert only_superusers == (site.pg_bin == DEBIAN_15)
        assert refused("GRANT roles_app TO it_s_given") != (site.pg_bin == DEBIAN_15)
    finally:
        site.admin("DROP ROLE IF EXISTS it_s_own, it_s_given, it_s_maker")


def approved_by(site: Site, role: str, *words: str) -> None:
    """Run a command that waits for an approval, and give it as another role."""
    project = site.project
    with subprocess.Popen(
        [sys.executable, "-m", "lockstep", *words], cwd=project.folder, env=project.environ,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        before = project.urls["prod"]
        site.become(role)
        deadline = time.monotonic() + 120
        while project.run("approve", "--reason", "OPS-7", "--yes").code != 0:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.5)
        project.urls["prod"] = before
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err


def test_where_the_server_does_not_answer_it_says_what_it_assumed(project: Project) -> None:
    project.urls["dev"] = "postgresql://deploy:s3cret-word@127.0.0.1:1/shop"
    printed = project.run("doctor", "--grants", "dev")
    assert printed.code == 0 and "Connection refused" in printed.err
    assert "-- Assumed: the login is deploy, as the URL says." in printed.out
    assert "on 14 and 15 only a superuser can give it; from 16 on" in printed.out
    assert "-- REVOKE CREATE ON SCHEMA public FROM PUBLIC;" in printed.out, "14 gives it to everybody"
    assert 'CREATE ROLE "deploy" LOGIN' in printed.out and "s3cret-word" not in printed.out + printed.err
    again = project.run("doctor", "--grants", "dev", "--json").document
    assert again["sql"] == printed.out and len(again["assumed"]) == 3 and "Connection refused" in again["why"]
    assert project.run("doctor", "dev", "--grants", "dev").code == 2
    assert project.run("doctor", "--grants", "nowhere").code == 2


def test_a_reader_looks_without_the_role_of_the_runs_and_nobody_else_does(
    project: Project, server: ThrowawayServer, new_database: Callable[[], str]
) -> None:
    project.toml = '[project]\nledger_reader = "roles_reader"\n'
    project.configure(dev='role = "roles_other"')
    database = project.urls["dev"].rsplit("/", 1)[1]
    admin = project.urls["dev"]
    try:
        project.query(
            "CREATE ROLE roles_other; CREATE ROLE roles_reader LOGIN PASSWORD 'pw'; CREATE ROLE roles_third LOGIN PASSWORD 'pw';"
            "GRANT ALL ON SCHEMA public TO roles_other"
        )
        assert project.run("init").code == 0
        project.urls["dev"] = server.url(database, user="roles_reader", password="pw")
        assert project.run("status").code == 0
        assert project.run("sync").code == 2  # what changes something takes the role
        project.urls["dev"] = server.url(database, user="roles_third", password="pw")
        done = project.run("status")
        assert done.code == 2 and "permission denied to set role" in done.err
    finally:
        project.urls["dev"] = admin
        project.query(
            "DROP OWNED BY roles_other, roles_reader, roles_third CASCADE; DROP ROLE roles_other, roles_reader, roles_third"
        )
