"""A migration: one ordered SQL file with what stands beside it (its down, its verify script)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

from lockstep.core.checksum import content_digest
from lockstep.core.directives import NONE, Directives
from lockstep.core.text import printable

if TYPE_CHECKING:
    from lockstep.core.statements import Script
    from lockstep.core.units import Unit


class Kind(Enum):
    """Kind of a ledger entry, as stored."""

    VERSIONED = "versioned"  # ran once, in order
    REPEATABLE = "repeatable"  # re-applied when its content changes
    BASELINE = "baseline"  # declared as present already, never ran here


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlFile:
    """One SQL file as read."""

    name: str  # file name, relative to the migrations folder
    text: str  # decoded: no BOM, LF
    checksum: str  # SHA-256 (hex) of `text`
    directives: Directives = NONE

    @property
    def transactional(self) -> bool:
        """Whether it runs in one transaction. A backfill never does."""
        return self.directives.transactional and not self.directives.repeat_until_empty

    def script(self) -> Script:
        """Parse it. Raises MigrationFileError."""
        from lockstep.core.statements import parse_script  # late: a status parses nothing

        return parse_script(self.text, self.name, transactional=self.transactional)

    def units(self) -> tuple[Unit, ...]:
        """What runs and is recorded as one, of a file outside of a transaction. Raises MigrationFileError."""
        return _units(self.script(), self.directives.repeat_until_empty)

    def check(self) -> None:
        """Raise MigrationFileError for anything in it that could not be run."""
        if self.transactional:
            self.script()
        else:
            self.units()

    @property
    def content_digest(self) -> str | None:
        """Digest over the SQL tokens; None when it does not scan."""
        return content_digest(self.text)


@lru_cache(maxsize=64)
def _units(script: Script, backfill: bool) -> tuple[Unit, ...]:
    from lockstep.core.units import units_of

    return units_of(script, backfill=backfill)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What one number (or one repeatable name) stands for on disk."""

    up: SqlFile  # what applies it
    version: int | None  # sortable key; None for a repeatable
    down: SqlFile | None = None  # what takes it back
    verify: SqlFile | None = None  # queries that must hold afterwards

    @property
    def name(self) -> str:
        return self.up.name

    @property
    def kind(self) -> Kind:
        return Kind.REPEATABLE if self.version is None else Kind.VERSIONED

    @property
    def label(self) -> str:
        """The name as people say it: without folder and ending."""
        return label(self.name)


def label(name: str) -> str:
    """Return a migration's name without folder and `.sql`, on one line whatever a ledger holds."""
    return printable(name).rsplit("/", 1)[-1].removesuffix(".sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """All migrations of a project, ordered, plus what is wrong with the folder itself."""

    path: str  # as configured, for messages
    migrations: tuple[Migration, ...]  # versioned by version, then repeatables by name
    duplicates: tuple[tuple[str, ...], ...] = ()  # names that share a number (ups, or downs of one number)
    stray: tuple[tuple[str, str], ...] = ()  # (file name, what is wrong with it)
    orphans: tuple[str, ...] = ()  # downs and verify scripts without an up

    @property
    def versioned(self) -> tuple[Migration, ...]:
        return tuple(m for m in self.migrations if m.version is not None)

    @property
    def repeatable(self) -> tuple[Migration, ...]:
        return tuple(m for m in self.migrations if m.version is None)


def order(migrations: list[Migration]) -> tuple[Migration, ...]:
    """Sort: versioned by version, then repeatables by name."""
    return tuple(sorted(migrations, key=lambda m: (m.version is None, m.version or 0, m.name)))
