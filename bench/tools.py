"""The tools that are compared, as a user calls them: how their files look, and their commands.

Each works in a folder of its own with the files in `migrations/`, and finds its database in DATABASE_URL.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
    head: str = ""  # what its files begin with
    tail: str = ""  # and end with
    settings: str | None = None  # a lockstep.toml

    def lay_out(self, folder: Path, first: int, last: int, text: Callable[[int], str]) -> None:
        """Write the migrations `first` to `last` into the folder; `text` is the SQL of one."""
        files = folder / "migrations"
        files.mkdir(parents=True, exist_ok=True)
        if self.settings is not None:
            (folder / "lockstep.toml").write_text(self.settings)
        for number in range(first, last + 1):
            (files / f"{number:06d}_change_{number}.sql").write_text(f"{self.head}{text(number)}{self.tail}")

    def shown_version(self) -> str:
        """What it says of itself, in one line."""
        done = subprocess.run(self.version, check=True, capture_output=True, text=True)
        return done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""


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
    head="-- migrate:up\n",
    tail="-- migrate:down\n",
)
SQLX = Tool(
    name="sqlx",
    version=(_SQLX, "--version"),
    apply=(_SQLX, "migrate", "run"),
    status=(_SQLX, "migrate", "info"),
    ledger="_sqlx_migrations",
)
TOOLS = (LOCKSTEP, FLOOR, DBMATE, SQLX)
