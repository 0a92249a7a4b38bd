"""Canaries: a secret in every place that can hold one, and a look at everything that comes out. None may sing.

One set of runs, in a module's fixture, fills all places at once: each with a canary of its own. Each test then looks for
one of them in all that was said, written, stored, sent or logged.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from pyrage import x25519

from demo.s3server import S3Server
from lockstep.cli import config as config_command
from lockstep.config import pass_on
from lockstep.errors import LockstepError
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.throwaway import FAST, ThrowawayServer
from lockstep.service.alerting.sending import heartbeat
from lockstep.service.progress import Silent
from lockstep.service.run import new_run_id
from lockstep.service.syncing import sync
from tests.integration.backup.conftest import s3
from tests.project import Project
from tests.receivers import Receiver, receiving

__all__ = ["s3"]

#: Where a secret can be put -> the secret. Each is its own, so that whatever is found says where it came from.
PLACES = {
    "the URL, with characters that it escapes": "c4nary-url@p/ss:w0rd",
    "PGPASSWORD": "c4nary-pgpassword",
    "the password file": "c4nary:passfile",
    "the service file": "c4nary-service",
    "a literal in lockstep.toml": "c4nary-config",
    "a wrong password": "c4nary-wrong",
    "a setting for SQL": "c4nary-setting, with 'quotes'",
    "an element of a setting": "c4nary-element",
    "the address of alerts": "c4nary0alerts0token",
    "the address of the heartbeat": "c4nary0heartbeat0token",
    "the address of the check": "c4nary0check0token",
    "a variable that nobody uses": "c4nary-variable",
    "the age identity": "",  # made in the fixture, as are the keys of the store
    "an age identity where a public key belongs": "",
    "the store's secret key": "",
    "the store's access key": "",
}
#: In what a migration says itself, and in rows: for the terminal, by what [privacy] says, and for the server's own log.
LITERAL, ROW, KEY, RAISED = "c4nary-literal", "c4nary-row", "c4nary-key", "c4nary-raised"


@dataclass
class Heard:
    """All that came out, by where it was heard."""

    texts: dict[str, list[str]] = field(default_factory=dict)

    def add(self, where: str, *texts: object) -> None:
        self.texts.setdefault(where, []).extend(map(str, texts))

    def places_of(self, secret: str) -> list[str]:
        spellings = {secret, quote(secret, safe=""), repr(secret)[1:-1]}
        return [where for where, texts in self.texts.items() if any(one in text for text in texts for one in spellings)]


@dataclass(kw_only=True)
class World:
    """Everything real: a server that logs all statements, a store, a webhook."""

    project: Project
    server: ThrowawayServer
    s3: S3Server
    hook: Receiver
    heard: Heard = field(default_factory=Heard)
    secrets: dict[str, str] = field(default_factory=lambda: dict(PLACES))

    def call(self, *words: str, code: int | None = 0) -> str:
        done = self.project.run(*words)
        self.heard.add("json" if "--json" in words else "output", done.out, done.err)
        assert code is None or done.code == code, (words, done)
        return done.out + done.err

    def exception(self, error: BaseException) -> None:
        """All that a pickle, a crash report or a debugger would show of an error: its chain, suppressed or not."""
        self.heard.add("pickles", pickle.dumps(error) if isinstance(error, LockstepError) else repr(error))
        self.heard.add("crash dumps", "".join(traceback.format_exception(error)))
        seen: BaseException | None = error
        while seen is not None:
            self.heard.add("exceptions", seen, repr(seen), getattr(seen, "__dict__", ""))
            seen = seen.__cause__ or seen.__context__

    def sync(self, environment: str) -> None:
        """The use case itself, for its exceptions."""
        settings = self.project.settings()
        pass_on(settings)
        one = settings.environment(environment)
        report = sync(settings, (one,), self.project.files(), RunInfo(run_id=new_run_id()), Silent())
        assert report.error is not None
        self.exception(report.error)

    def collect(self) -> None:
        """What stays behind: tables, objects, alerts, the server's log."""
        for name in ("dev", "prod"):
            with psycopg.connect(self.server.url(name), autocommit=True) as connection:
                for table in ("schema_migrations", "schema_migrations_log", "schema_migrations_states"):
                    rows = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))).fetchall()
                    self.heard.add("ledger and audit log", *(str(row) for row in rows))
        client = self.s3.client()
        with contextlib.closing(client):
            for item in client.list_objects_v2(Bucket="canaries").get("Contents", []):
                body = client.get_object(Bucket="canaries", Key=item["Key"])["Body"].read()
                self.heard.add("bucket", item["Key"], body.decode("latin-1"))
        self.heard.add("alerts", *(document for _, document in self.hook.got if document is not None))
        self.heard.add("server log", _statements((self.server.folder / "server.log").read_text(errors="replace")))


def _statements(log: str) -> str:
    """The log without its errors: what a file makes of a value, and of itself, the server says in its own words."""
    kept, left_out = [], False
    for line in log.splitlines():
        if level := re.search(r"\] (\w+): ", line):
            left_out = level[1] in {"ERROR", "DETAIL", "CONTEXT", "QUERY", "HINT"}
        if not left_out:
            kept.append(line)
    return "\n".join(kept)


CONFIG = """
[backup]
bucket = "s3://canaries/shop"
endpoint_url = "${S3_ENDPOINT_URL}"
encrypt_to = ["${AGE_PUBLIC}"]

[rehearsal]
identity = "${AGE_FILE}"

[alerts]
urls = ["${HOOK}"]
heartbeat_url = "${HEART}"
"""
SETTINGS = 'settings = { token = "${TOKEN}", list = "${LIST}" }\n'
OF_PROD = SETTINGS + 'protected = true\ncheck = { url = "${CHECK}" }\n'


@pytest.fixture(scope="module")
def world(s3: S3Server, pg_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("canaries")
    (folder / "migrations").mkdir()
    settings = {**FAST, "log_statement": "all", "log_connections": "on", "log_duration": "on"}
    with (
        ThrowawayServer(pg_bin, settings=settings) as server,
        receiving() as hook,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
            patch.delenv(name, raising=False)
        project = Project(folder=folder, urls={}, toml=CONFIG)
        made = World(project=project, server=server, s3=s3, hook=hook)
        s3.make_bucket("canaries")
        _make_databases(made)
        _fill_places(made, folder)
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(made, stop))
        watcher.start()
        try:
            _work(made)
            _other_ways_in(made, folder)
            _break(made, patch)
        finally:
            stop.set()
            watcher.join()
        made.collect()
        yield made


def _make_databases(world: World) -> None:
    with psycopg.connect(world.server.url(), autocommit=True) as connection:
        connection.execute("SET log_statement = 'none'")  # it is the tests that say passwords here
        for name, place in {
            "by_url": "the URL, with characters that it escapes", "by_variable": "PGPASSWORD",
            "by_file": "the password file", "by_service": "the service file",
        }.items():  # fmt: skip
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(
                    sql.Identifier(name), sql.Literal(world.secrets[place])
                )
            )
        connection.execute("CREATE DATABASE dev")
        connection.execute("CREATE DATABASE prod")
    for name in ("dev", "prod"):
        with psycopg.connect(world.server.url(name), autocommit=True) as connection:
            connection.execute("SET log_statement = 'none'")
            connection.execute("CREATE TABLE public.users (name text PRIMARY KEY, email text, age text)")
            connection.execute(
                f"INSERT INTO public.users VALUES ('{KEY}', '{ROW}', '{ROW}'), ('other', '{ROW}', '1')".encode()
            )


def _fill_places(world: World, folder: Path) -> None:
    secrets, port = world.secrets, world.server.port
    own, wrong = x25519.Identity.generate(), x25519.Identity.generate()
    secrets["the age identity"], secrets["an age identity where a public key belongs"] = str(own), str(wrong)
    secrets["the store's secret key"], secrets["the store's access key"] = world.s3.secret_key, world.s3.access_key
    (folder / "age.txt").write_text(f"{own}\n")
    (folder / "passfile").write_text(
        f"127.0.0.1:{port}:*:by_file:{secrets['the password file'].replace(':', chr(92) + ':')}\n"
    )
    (folder / "passfile").chmod(0o600)
    service = (
        f"[shop]\nhost=127.0.0.1\nport={port}\ndbname=dev\nuser=by_service\npassword={secrets['the service file']}\n"
    )
    (folder / "services").write_text(service)
    url = f"postgresql://by_url:{secrets['the URL, with characters that it escapes']}@127.0.0.1:{port}"
    # All of it in .env, where people have it.
    variables = {
        "DEV_URL": f"{url}/dev",
        "PROD_URL": f"{url}/prod",
        "TOKEN": secrets["a setting for SQL"],
        "LIST": f"something,{secrets['an element of a setting']}",
        "HOOK": world.hook.url(f"/in/{secrets['the address of alerts']}"),
        "HEART": world.hook.url(f"/beat/{secrets['the address of the heartbeat']}"),
        "CHECK": world.hook.url(f"/health?token={secrets['the address of the check']}"),
        "UNUSED_API_KEY": secrets["a variable that nobody uses"],
        "S3_ENDPOINT_URL": world.s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": world.s3.access_key,
        "AWS_SECRET_ACCESS_KEY": world.s3.secret_key,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AGE_PUBLIC": str(own.to_public()),
        "AGE_FILE": str(folder / "age.txt"),
    }
    (folder / ".env").write_text("".join(f'{name}="{text}"\n' for name, text in variables.items()))
    (folder / ".env").chmod(0o600)
    configure(world)


def configure(world: World, extra: str = "") -> None:
    (world.project.folder / "lockstep.toml").write_text(
        f'{CONFIG}{extra}\n[environments.dev]\nurl = "${{DEV_URL}}"\n{SETTINGS}'
        f'[environments.prod]\nurl = "${{PROD_URL}}"\n{OF_PROD}'
    )


def _watch(world: World, stop: threading.Event) -> None:
    """What anybody on the server or on this machine could see at any moment."""
    with psycopg.connect(world.server.url("prod"), autocommit=True) as connection:
        connection.execute("SET log_statement = 'none'; SET log_duration = off")
        while not stop.wait(0.05):
            rows = connection.execute(
                "SELECT query, application_name FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            ).fetchall()
            world.heard.add("pg_stat_activity", *{str(row) for row in rows})
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    words = (process / "cmdline").read_text(errors="replace").replace("\0", " ")
                    if "pg_" in words or "lockstep" in words:
                        world.heard.add("process list", words)


def _work(world: World) -> None:
    """What goes well, and what a migration does wrong."""
    project, call = world.project, world.call
    call("init")
    for name in ("dev", "prod"):
        call("baseline", name, "--version", "none")
    project.write("001-a.sql", "CREATE TABLE public.seen AS SELECT md5(current_setting('lockstep.token', true)) AS t;")
    project.write("001-a.down.sql", "DROP TABLE public.seen;")
    project.write("001-a.verify.sql", "SELECT count(*) = 1 FROM public.seen;")
    call("plan", "--sql")
    call("sync", "prod", "-v", "--approve", "OPS-1")
    call("sync", "dev", "--json")
    for words in (
        ["status"], ["status", "--json"], ["drift"], ["diff", "dev", "prod"], ["health", "--json"], ["history", "--json"],
        ["history", "--verify"], ["config"], ["config", "--json"], ["doctor", "--json"], ["doctor", "--grants", "prod"],
        ["backups", "list", "--json"], ["backups", "verify", "--of", "prod", "-v"], ["alerts", "test"],
        ["validate"], ["completion", "bash"], ["report", "--html", str(project.folder / "page.html")],
    ):  # fmt: skip
        call(*words, code=None)
    world.heard.add("HTML report", (project.folder / "page.html").read_text())
    settings = project.settings()
    heartbeat(settings)

    for text in (
        f"SELECT 1;\nINSERT INTO public.users VALUES ('{KEY}', '{LITERAL}');",
        "SELECT current_setting('lockstep.token')::int;",
        "SELECT split_part(current_setting('lockstep.list'), ',', 2)::int;",
        "DO $$ BEGIN RAISE EXCEPTION 'it is %', current_setting('lockstep.token'); END $$;",
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT '''\n"
        "|| current_setting('lockstep.token') || '''::int'; END $$; SELECT public.f();",
    ):  # fmt: skip
        project.write("002-b.sql", text)
        call("sync", "dev", code=6)
        world.sync("dev")
    call("sync", "dev", "--json", code=6)
    project.write(
        "002-b.sql", "SELECT count(age::int) FROM public.users WHERE email = current_setting('lockstep.token') OR true;"
    )
    call("sync", "prod", "--approve", "OPS-2", "--json", code=7)
    # A verify script that holds in its file's transaction, and not any more when all is applied.
    project.write("002-b.sql", "CREATE TABLE public.b AS SELECT 1 AS n;")
    project.write(
        "002-b.verify.sql",
        "SELECT CASE WHEN n = 1 THEN 1 ELSE current_setting('lockstep.token')::int END FROM public.b;",
    )
    project.write("003-c.sql", "UPDATE public.b SET n = 2;")
    call("sync", "dev", code=6)
    project.remove("002-b.verify.sql")
    project.write("004-d.sql", "CREATE TABEL d (id int);")
    call("validate", code=7)
    call("sync", "dev", code=7)
    project.remove("004-d.sql")


def _other_ways_in(world: World, folder: Path) -> None:
    """Each way that libpq knows to a password, right and wrong."""
    project, secrets, port = world.project, world.secrets, world.server.port
    wrong = secrets["a wrong password"]
    ways: list[tuple[str | None, dict[str, str]]] = [
        (None, {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "by_variable", "PGDATABASE": "dev", "PGPASSWORD": secrets["PGPASSWORD"]}),
        (f"postgresql://by_file@127.0.0.1:{port}/dev", {"PGPASSFILE": str(folder / "passfile")}),
        (f"postgresql://by_file@127.0.0.1:{port}/dev?passfile={folder / 'passfile'}", {}),
        ("service=shop", {"PGSERVICEFILE": str(folder / "services")}),
        (f"postgresql://by_url:{wrong}@127.0.0.1:{port}/dev", {}),
        (f"postgresql://by_url:{wrong}@127.0.0.1:5x/dev", {}),
        (f"postgresql://by_url:{wrong}@nowhere.invalid/dev", {}),
        (None, {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "by_url", "PGPASSWORD": wrong}),
        (f"host=127.0.0.1 port={port} user=by_url password={wrong} dbname=dev sslpassword={wrong} sslmode=require", {}),
    ]  # fmt: skip
    good = (folder / "lockstep.toml").read_text()
    for url, variables in ways:
        text = good.split("[environments.prod]")[0]
        if url is None:
            text = text.replace('url = "${DEV_URL}"\n', "")
        else:
            variables = {**variables, "DEV_URL": url}
        (folder / "lockstep.toml").write_text(text)
        project.variables = variables
        works = wrong not in str((url, variables))
        for words in (
            ["status", "-v"],
            ["config"],
            *([["sync", "-v"], ["backup", "dev"]] if works else [["status", "--json"]]),
        ):
            world.call(*words, code=None)
    project.variables = {}
    for text in (
        good.replace('"${DEV_URL}"', f'"postgresql://u:{secrets["a literal in lockstep.toml"]}@h/d"'),
        good.replace('"${CHECK}"', f'"https://u:{secrets["a literal in lockstep.toml"]}@h/d"'),
        good.replace('"${AGE_PUBLIC}"', f'"{secrets["an age identity where a public key belongs"]}"'),
        good.replace(
            'identity = "${AGE_FILE}"', f'identity = "{secrets["an age identity where a public key belongs"]}"'
        ),
    ):
        (folder / "lockstep.toml").write_text(text)
        for words in (["config"], ["backup", "prod"]):
            world.call(*words, code=None)
    (folder / "lockstep.toml").write_text(good)
    project.variables = {"AWS_SECRET_ACCESS_KEY": wrong}
    for words in (["backups", "list"], ["doctor", "--json"]):
        world.call(*words, code=None)
    project.variables = {}


def _break(world: World, patch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw: an exception whose text holds everything, and a process that is killed with a dump."""
    project = world.project
    said = " ".join(
        one for place, one in world.secrets.items() if place not in {"a literal in lockstep.toml", "a wrong password"}
    )
    said += f" {quote(world.secrets['the URL, with characters that it escapes'])} postgresql://u:{world.secrets['a wrong password']}@h/d"

    def broken(*_: object) -> None:
        raise RuntimeError(f"cannot parse {said}")

    project.variables = {
        "PGPASSWORD": world.secrets["PGPASSWORD"], "PGPASSFILE": str(project.folder / "passfile"),
        "PGSERVICEFILE": str(project.folder / "services"),
    }  # fmt: skip
    with patch.context() as inner:
        inner.setattr(config_command, "execute", broken)
        for debug in ("0", "1"):
            project.variables["LOCKSTEP_DEBUG"] = debug
            text = world.call("config", code=1)
            assert "RuntimeError" in text and "***" in text and ("Traceback" in text) == (debug == "1")
            world.call("config", "--json", code=1)
    project.variables = {}
    project.write("005-e.sql", "SELECT pg_sleep(60);")
    with subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", "lockstep", "sync", "dev"], cwd=project.folder, env=project.environ,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 60
        with psycopg.connect(world.server.url("dev"), autocommit=True) as connection:
            sleeping = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
            while not connection.execute(sleeping.encode()).fetchone():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
            process.send_signal(signal.SIGABRT)
            out, err = process.communicate(timeout=30)
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
            )
    assert "Fatal Python error" in err
    world.heard.add("crash dumps", out, err)
    project.remove("005-e.sql")


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_nowhere_to_be_found(place: str, world: World) -> None:
    assert world.secrets[place]
    assert world.heard.places_of(world.secrets[place]) == []


def test_the_search_finds_what_is_there(world: World) -> None:
    """In each place that is searched is what should be there: an empty one would prove nothing."""
    expected = {
        "output": "001-a", "json": '"run_id"', "pickles": "MigrationFailed", "crash dumps": "Traceback", "exceptions": "22P02",
        "ledger and audit log": "001-a.sql", "bucket": "manifest.json", "alerts": "incident", "HTML report": "001-a",
        "server log": "current_setting('lockstep.token", "pg_stat_activity": "lockstep/", "process list": "pg_dump",
    }  # fmt: skip
    assert set(world.heard.texts) == set(expected)
    assert [where for where, text in expected.items() if where not in world.heard.places_of(text)] == []


#: Where what a file says may be quoted: to whoever runs it, and in the server's own log.
TO_WHOEVER_RUNS_IT = {"output", "json", "pickles", "crash dumps", "exceptions", "server log", "pg_stat_activity"}


def test_what_files_and_rows_hold_is_told_to_whoever_runs_them_and_kept_nowhere(world: World) -> None:
    assert "output" in world.heard.places_of(LITERAL)  # the excerpt
    for text in (LITERAL, ROW):
        assert set(world.heard.places_of(text)) <= TO_WHOEVER_RUNS_IT, text


@pytest.fixture(scope="module")
def quiet(world: World) -> Heard:
    """What is said and kept with `[privacy] excerpts = false`, of all that can quote something."""
    project, before = world.project, world.heard
    configure(world, "[privacy]\nexcerpts = false\n")
    world.heard = Heard()
    call = world.call
    failing = {
        f"SELECT 1;\nINSERT INTO public.users VALUES ('{KEY}', '{LITERAL}');": "unique violation (constraint users_pkey, table public.users",
        f"ALTER TABLE public.users ADD CONSTRAINT c CHECK (email <> '{ROW}' AND email <> '{LITERAL}');": "check violation (constraint c",
        "ALTER TABLE public.users ALTER COLUMN age TYPE int USING age::int;": "invalid text representation",
        f'SELECT "{LITERAL}" FROM public.users;': "undefined column",
        f"DO $$ BEGIN RAISE EXCEPTION '{RAISED}' USING DETAIL = '{ROW}', HINT = '{ROW}'; END $$;": "raise exception",
        f"DO $$ BEGIN PERFORM '{LITERAL}'::int; END $$;": "invalid text representation",
        f"-- lockstep: transaction=none\nSELECT '{LITERAL}'::int;": "invalid text representation",
    }  # fmt: skip
    for text, words in failing.items():
        project.write("006-f.sql", text)
        assert words in (said := call("sync", "dev", code=6)) and "006-f.sql" in said and "SQLSTATE" in said
    world.sync("dev")
    call("repair", "dev", "--forget", "6")
    # On prod's copy: as a report, and as what refuses a run.
    project.write("006-f.sql", list(failing)[1])
    assert "users" in call("rehearse", "prod", "--json", code=7)
    project.write("006-f.sql", list(failing)[2])
    call("sync", "prod", "--approve", "OPS-3", code=7)
    project.write("006-f.sql", f"CREATE INDEX ON public.users (email) WHERE email <> '{LITERAL}';")
    call("plan", "dev")
    call("validate", "--json", code=None)
    project.write("006-f.sql", "SELECT 1;")
    project.write("006-f.verify.sql", f'SELECT 1;\nSELECT false AS "{LITERAL}";')
    call("sync", "dev", code=6)
    project.remove("006-f.verify.sql")
    for broken in (f"SELECT '{LITERAL}' {RAISED};;SELEC {LITERAL};", f"SELECT 1;\nSELECT :{LITERAL};"):
        project.write("006-f.sql", broken)
        for command in (["validate"], ["validate", "--json"], ["sync", "dev"], ["plan"]):
            assert "006-f.sql" in call(*command, code=7)
    call("report", "--html", str(project.folder / "quiet.html"), code=None)
    world.heard.add("HTML report", (project.folder / "quiet.html").read_text())
    world.collect()
    made, world.heard = world.heard, before
    configure(world)
    return made


@pytest.mark.parametrize("what", [LITERAL, ROW, KEY, RAISED])
def test_without_excerpts_nothing_of_files_and_rows_is_told_to_anybody(what: str, quiet: Heard) -> None:
    assert set(quiet.places_of(what)) <= {"server log"}
    assert quiet.places_of(LITERAL)  # where it is the server's own, it is found
