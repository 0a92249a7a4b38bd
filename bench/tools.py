"""The tools that are compared, as a user calls them: how their files look, and their commands.

Each works in a folder of its own with the files in `migrations/`, and finds its database in DATABASE_URL.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.migrations import migration

_PROGRAMS = Path(sys.executable).parent  # where pip puts what wheels hold
_PYTHON = sys.executable
_FLOOR = str(Path(__file__).with_name("floor.py"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool."""

    name: str
    version: tuple[str, ...]  # commands, each as a list of words
    apply: tuple[str, ...]
    status: tuple[str, ...]
    prepare: tuple[str, ...] | None = None  # once per database, before the first apply
    ledger: str  # its table
    text: Callable[[int], str] = migration  # what one of its files holds
    settings: str | None = None  # a lockstep.toml

    def lay_out(self, folder: Path, first: int, last: int) -> None:
        """Write the migrations `first` to `last` into the folder."""
        files = folder / "migrations"
        files.mkdir(parents=True, exist_ok=True)
        if self.settings is not None:
            (folder / "lockstep.toml").write_text(self.settings)
        for number in range(first, last + 1):
            (files / f"{number:06d}_change_{number}.sql").write_text(self.text(number))

    def shown_version(self) -> str:
        """What it says of itself, in one line."""
        done = subprocess.run(self.version, check=True, capture_output=True, text=True)
        return done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""


def _dbmate_text(number: int) -> str:
    return f"-- migrate:up\n{migration(number)}\n-- migrate:down\n"


_DBMATE = (str(_PROGRAMS / "dbmate"), "--migrations-dir", "migrations", "--no-dump-schema")
_SQLX = str(_PROGRAMS / "sqlx")

LOCKSTEP = Tool(
    name="lockstep",
    version=(_PYTHON, "-m", "lockstep", "--version"),
    apply=(_PYTHON, "-m", "lockstep", "sync"),
    status=(_PYTHON, "-m", "lockstep", "status"),
    prepare=(_PYTHON, "-m", "lockstep", "init"),
    ledger="schema_migrations",
    settings='[environments.dev]\nurl = "${DATABASE_URL}"\n',
)
FLOOR = Tool(
    name="floor",
    version=(_PYTHON, _FLOOR, "version"),
    apply=(_PYTHON, _FLOOR, "apply"),
    status=(_PYTHON, _FLOOR, "status"),
    ledger="floor_migrations",
)
DBMATE = Tool(
    name="dbmate",
    version=(*_DBMATE[:1], "--version"),
    apply=(*_DBMATE, "migrate"),
    status=(*_DBMATE, "status"),
    ledger="schema_migrations",
    text=_dbmate_text,
)
SQLX = Tool(
    name="sqlx",
    version=(_SQLX, "--version"),
    apply=(_SQLX, "migrate", "run"),
    status=(_SQLX, "migrate", "info"),
    ledger="_sqlx_migrations",
)
TOOLS = (LOCKSTEP, FLOOR, DBMATE, SQLX)
