"""Large input: the server's memory and ours stay bounded, whatever a file holds or returns."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.proxy import CountingProxy
from tests.project import Project
from tests.summary import LINES

MIB = 1024 * 1024


class Watching:
    """Reads the highest memory (VmHWM, MiB) of a run's backends from the kernel while the run goes on."""

    def __init__(self, project: Project) -> None:
        self.highest = 0.0
        self._project = project
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        import psycopg

        with psycopg.connect(self._project.urls["dev"], autocommit=True) as connection:
            while not self._stop.is_set():
                rows = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'lockstep/%' AND datname = current_database()"
                ).fetchall()
                for (pid,) in rows:
                    self.highest = max(self.highest, _peak(pid))
                time.sleep(0.02)

    def __enter__(self) -> Watching:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _peak(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    kilobytes = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
    return int(kilobytes) / 1024


#: What `lockstep` does, and the process's own highest memory (kB) as the last line. (getrusage would count the parent's.)
_MEASURED = """
import sys
from lockstep.cli.main import main
code = main(["sync"])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""


def run_measured(project: Project) -> tuple[int, float, str]:
    """Run `lockstep sync` as a process of its own: (exit code, its highest memory in MiB, what it said)."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED],
        cwd=project.folder, env=project.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, int(done.stdout.split()[-1]) / 1024, done.stderr


@pytest.fixture
def small(project: Project) -> tuple[Project, float, float]:
    """A project, and what a small migration takes: memory of the backend and ours, in MiB."""
    project.run("init")
    project.write("001-small.sql", "CREATE TABLE t (id bigint, note text);\nSELECT pg_sleep(0.2);")
    with Watching(project) as backend:
        code, ours, said = run_measured(project)
    assert code == 0, said
    return project, backend.highest, ours


@pytest.mark.slow
@pytest.mark.parametrize("head", ["", "-- lockstep: transaction=none\n"])
def test_a_file_of_sixteen_megabytes_takes_little_memory_on_both_sides(
    head: str, small: tuple[Project, float, float]
) -> None:
    project, server_small, ours_small = small
    row = "(%d, 'a note of some thirty bytes é')"
    inserts = [
        "INSERT INTO t VALUES " + ",".join(row % (n * 500 + m) for m in range(500)) + ";\n"
        for n in range(16 * MIB // 21_500)
    ]
    text = "".join(inserts)
    assert len(text) > 15 * MIB
    project.write("002-large.sql", head + (f"BEGIN;\n{text}COMMIT;" if head else text))
    with Watching(project) as backend:
        code, ours, said = run_measured(project)
    assert code == 0, said
    assert project.query("SELECT count(*) FROM t") == [(len(inserts) * 500,)]
    more_there, more_here = backend.highest - server_small, ours - ours_small
    kind = "outside of a transaction" if head else "in one transaction"
    LINES.append(f"16 MiB file, {kind}: server +{more_there:.0f} MiB, ours +{more_here:.0f} MiB over a small one")
    assert more_there < 100, "sent in one message its parse tree alone would take 16 times its size"
    assert more_here < 12 * 16, "a few times the text, not the tree of all of it"


def test_a_file_that_is_too_large_for_a_message_goes_in_pieces_inside_one_transaction(
    server: ThrowawayServer, project: Project
) -> None:
    project.run("init")
    inserts = [f"INSERT INTO t VALUES ({n}, 'a long note {'x' * 8_000}');\n" for n in range(280)]
    text = "CREATE TABLE t (id bigint, note text);\n" + "".join(inserts)
    assert len(text) > 2 * MIB
    plain = project.urls["dev"]
    for end, code in (("SELECT 1 / 0;", 6), ("", 0)):
        project.write("001-large.sql", text + end)
        with CountingProxy(server.port) as proxy:
            project.urls["dev"] = plain.replace(f":{server.port}/", f":{proxy.port}/")
            assert project.run("sync").code == code
        project.urls["dev"] = plain
        pieces = [len(piece) for texts in proxy.queries for piece in texts if "a long note" in piece]
        assert len(pieces) == 3 and max(pieces) < 1.1 * MIB
        if code:
            assert project.query("SELECT to_regclass('t'), (SELECT count(*) FROM schema_migrations)") == [(None, 0)]
    own = "SELECT xmin::text FROM schema_migrations_log WHERE event = 'apply'"
    assert project.query(f"SELECT count(*), min(xmin::text) = ({own}), max(xmin::text) = ({own}) FROM t") == [
        (len(inserts), True, True)
    ]


def test_a_large_result_is_not_kept(small: tuple[Project, float, float]) -> None:
    project, _, ours_small = small
    project.write("002-result.sql", "SELECT g, repeat('x', 1000) FROM generate_series(1, 200000) g;")
    code, ours, said = run_measured(project)
    assert code == 0, said
    LINES.append(f"200 MB of result: ours +{ours - ours_small:.0f} MiB over a small one")
    assert ours - ours_small < 40


def test_a_statement_beyond_what_can_be_sent_is_refused_with_its_line(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE t (note text);\nINSERT INTO t VALUES ('" + "x" * (65 * MIB) + "');")
    done = project.run("sync")
    assert done.code == 7
    assert "001-a.sql:2: one statement of 65 MiB; the largest that is sent is 64 MiB" in done.err
    assert project.query("SELECT count(*) FROM schema_migrations") == [(0,)]


@pytest.mark.slow
def test_a_file_of_two_hundred_megabytes_takes_bounded_memory_on_both_sides(
    small: tuple[Project, float, float],
) -> None:
    project, server_small, ours_small = small
    row = "(%d, 'a note of some thirty bytes é')"
    size = inserts = 0
    with (project.folder / "migrations" / "002-large.sql").open("w") as file:
        while size < 200 * MIB:
            size += file.write(
                "INSERT INTO t VALUES " + ",".join(row % m for m in range(inserts, inserts + 500)) + ";\n"
            )
            inserts += 500
    with Watching(project) as backend:
        code, ours, said = run_measured(project)
    assert code == 0, said
    assert project.query("SELECT count(*) FROM t") == [(inserts,)]
    more_there, more_here = backend.highest - server_small, ours - ours_small
    LINES.append(f"200 MiB file: server +{more_there:.0f} MiB, ours +{more_here:.0f} MiB over a small one")
    assert more_there < 100
    assert more_here < 12 * 200


@pytest.mark.slow
def test_ten_thousand_files_and_fifty_thousand_statements_are_applied(project: Project) -> None:
    project.run("init")
    for number in range(1, 10_000):
        project.write(f"{number:05d}-step.sql", f"SELECT {number};")
    statements = "INSERT INTO t VALUES (1);\n" * 50_000
    project.write("10000-many.sql", f"CREATE TABLE t (id int);\n{statements}")
    code, ours, said = run_measured(project)
    assert code == 0, said
    assert project.query("SELECT count(*) FROM t") == [(50_000,)]
    assert project.query("SELECT count(*) FROM schema_migrations") == [(10_000,)]
    LINES.append(f"10,000 files, one of 50,000 statements: ours {ours:.0f} MiB")
    assert ours < 1_000
