"""One measured call of a tool: wall time, its own CPU time, and the server's for it. Databases that it works in."""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from bench.tools import Tool
from lockstep.postgres.throwaway import ThrowawayServer

_TICKS = os.sysconf("SC_CLK_TCK")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one call took, in seconds."""

    wall: float
    cpu: float  # user and system time of the tool's process
    server_cpu: float  # user and system time of its database sessions, in steps of 10 ms
    trips: int = 0  # round trips, where they were counted


class CommandFailed(Exception):
    """A tool did not do what it was called for."""


@dataclass(slots=True, kw_only=True)
class Database:
    """One tool's folder and its own fresh database. Never dropped: that would slow down what follows."""

    tool: Tool
    folder: Path
    server: ThrowawayServer
    name: str
    port: int  # the server's, or a proxy's

    def call(self, words: Sequence[str]) -> Sample:
        """Call the tool once. Raises CommandFailed with what it wrote."""
        before = _server_cpu(self.server)
        with tempfile.TemporaryFile() as out:
            started = time.perf_counter()
            process = subprocess.Popen(words, cwd=self.folder, env=self._environment(), stdout=out, stderr=out)
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                out.seek(0)
                text = out.read().decode(errors="replace")[-2_000:]
                raise CommandFailed(
                    f"{self.tool.name}: {' '.join(words[-2:])} ended with {process.returncode}:\n{text}"
                )
        return Sample(wall=wall, cpu=usage.ru_utime + usage.ru_stime, server_cpu=_settled(self.server) - before)

    def _environment(self) -> dict[str, str]:
        # Nor what changes how Python starts: a user's has its modules compiled, and buffers its output.
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("PG", "PYTHON")) or n == "PYTHONPATH"}
        return {**kept, "DATABASE_URL": address(self.server, self.name, self.port), "NO_COLOR": "1"}

    def expect(self, entries: int) -> None:
        """Raise CommandFailed unless the tool's table holds that many rows."""
        with psycopg.connect(self.server.url(self.name)) as connection:
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(self.tool.ledger))
            row = connection.execute(query).fetchone()
        if row is None or row[0] != entries:
            raise CommandFailed(f"{self.tool.name}: {row} entries, {entries} expected")

    def durable(self, yes: bool) -> None:
        """Whether COMMIT waits for the disk in new sessions of this database (for filling it quickly)."""
        self._admin(
            sql.SQL("ALTER DATABASE {} SET synchronous_commit = {}").format(
                sql.Identifier(self.name), sql.SQL("on" if yes else "off")
            )
        )

    def settle(self) -> None:
        """Let the server do what earlier runs left to do."""
        self._admin(sql.SQL("CHECKPOINT"))

    def _admin(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute(statement)


def address(server: ThrowawayServer, name: str, port: int) -> str:
    """The URL of a database, by way of `port`. Without TLS, which the throw-away server does not have."""
    parts = urlsplit(server.url(name))
    place = f"{parts.netloc.rpartition(':')[0]}:{port}"
    return urlunsplit(parts._replace(netloc=place, query="sslmode=disable"))


def new_database(server: ThrowawayServer, tool: Tool, folder: Path, *, port: int | None = None) -> Database:
    """Make a fresh database for a tool that works in `folder`."""
    name = f"b{next(_numbers)}"
    made = Database(tool=tool, folder=folder, server=server, name=name, port=port or server.port)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return made


def _server_cpu(server: ThrowawayServer) -> float:
    """CPU seconds of the server's ended sessions: what the kernel adds to the parent when a child is reaped."""
    pid = (server.folder / "data" / "postmaster.pid").read_text().split()[0]
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / _TICKS


def _settled(server: ThrowawayServer) -> float:
    """The same, once the call's own sessions have ended."""
    time.sleep(0.05)
    return _server_cpu(server)
