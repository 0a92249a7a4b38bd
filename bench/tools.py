"""The tools that are compared with, as a user calls them: how their files look, and their commands. See also `peers`.

Each works in a folder of its own, and finds its database in DATABASE_URL or in a word that stands for it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import layouts
from bench.layouts import Layout
from bench.places import PROGRAMS

Words = tuple[str, ...]  # a command; see `measuring.Database` for the words that stand for an address

_PYTHON = sys.executable
_FLOOR = str(Path(__file__).with_name("floor.py"))
BACK = 10  # migrations that are taken back


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool."""

    name: str
    version: Words
    release: Words | None = None  # what tells its version, where `version` does not
    apply: Words
    status: Words
    prepare: Words | None = None  # once per database, before the first apply
    revert: Callable[[int], Words] | None = None  # the newest number -> what takes ten back
    reverts: int = 1  # how many such calls that needs
    both: Words | None = None  # applies to two databases in one call; the second is OTHER_DATABASE_URL
    count: str  # SQL: how many are applied
    lay_out: Layout
    lay_out_both: Layout | None = None
    compiled: bool = False  # a native program
    core: bool = False  # takes part in every workload, with all repetitions
    needs: Words = ()  # programs or files that must be there
    remedy: str = "make bench installs it"
    environment: Mapping[str, str] = field(default_factory=dict)

    def shown_version(self) -> str:
        """What it says of itself, in one line with its name."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(self.release or self.version, check=True, capture_output=True, text=True, env=environment)
        said = next((line.strip() for line in reversed(done.stdout.splitlines()) if re.search(r"\d\.\d", line)), "")
        return said if not said or self.name in said.lower() else f"{self.name} {said}"

    def missing(self) -> str | None:
        """What of its needs is not there, with the way to get it; None when it can run."""
        found = os.environ.get("PATH", os.defpath) + os.pathsep + self.environment.get("PATH", "")
        gone = [need for need in self.needs if shutil.which(need, path=found) is None and not Path(need).exists()]
        return f"{', '.join(Path(one).name for one in gone)} not found; {self.remedy}" if gone else None


_DBMATE = (str(PROGRAMS / "dbmate"), "--migrations-dir", "migrations", "--no-dump-schema")
_SQLX = str(PROGRAMS / "sqlx")
_ONE = '[environments.dev]\nurl = "${DATABASE_URL}"\n'
_TWO = _ONE + '[environments.staging]\nurl = "${OTHER_DATABASE_URL}"\nafter = ["dev"]\nprotected = false\n'

LOCKSTEP = Tool(
    name="lockstep",
    version=(_PYTHON, "-m", "lockstep", "--version"),
    apply=(_PYTHON, "-m", "lockstep", "sync"),
    status=(_PYTHON, "-m", "lockstep", "status"),
    prepare=(_PYTHON, "-m", "lockstep", "init"),
    revert=lambda _: (_PYTHON, "-m", "lockstep", "revert", "dev", "--steps", str(BACK)),
    both=(_PYTHON, "-m", "lockstep", "sync"),
    count="SELECT count(*) FROM schema_migrations WHERE state = 'applied'",
    lay_out=layouts.in_migrations(layouts.one_file, lockstep__toml=_ONE),
    lay_out_both=layouts.in_migrations(layouts.one_file, lockstep__toml=_TWO),
    core=True,
)
FLOOR = Tool(
    name="floor",
    version=(_PYTHON, _FLOOR, "version"),
    apply=(_PYTHON, _FLOOR, "apply"),
    status=(_PYTHON, _FLOOR, "status"),
    count="SELECT count(*) FROM floor_migrations",
    lay_out=layouts.in_migrations(layouts.up_alone),
    core=True,
)
DBMATE = Tool(
    name="dbmate",
    version=(*_DBMATE[:1], "--version"),
    apply=(*_DBMATE, "migrate"),
    status=(*_DBMATE, "status"),
    revert=lambda _: (*_DBMATE, "rollback"),
    reverts=BACK,
    count="SELECT count(*) FROM schema_migrations",
    lay_out=layouts.in_migrations(layouts.dbmate),
    compiled=True,
    core=True,
    needs=_DBMATE[:1],
)
SQLX = Tool(
    name="sqlx",
    version=(_SQLX, "--version"),
    apply=(_SQLX, "migrate", "run"),
    status=(_SQLX, "migrate", "info"),
    revert=lambda newest: (_SQLX, "migrate", "revert", "--target-version", str(newest - BACK)),
    count="SELECT count(*) FROM _sqlx_migrations",
    lay_out=layouts.in_migrations(layouts.sqlx),
    compiled=True,
    core=True,
    needs=(_SQLX,),
)
