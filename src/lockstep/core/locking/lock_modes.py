"""PostgreSQL's eight modes of table locks, and what each keeps waiting."""

from __future__ import annotations

from enum import Enum


class Mode(Enum):
    """A table-level lock mode, by its name in the manual, weakest first (manual: Explicit Locking, table 13.2)."""

    ACCESS_SHARE = "ACCESS SHARE"  # SELECT
    ROW_SHARE = "ROW SHARE"  # SELECT … FOR UPDATE
    ROW_EXCLUSIVE = "ROW EXCLUSIVE"  # INSERT, UPDATE, DELETE
    SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"  # VACUUM, ANALYZE, CREATE INDEX CONCURRENTLY, VALIDATE
    SHARE = "SHARE"  # CREATE INDEX
    SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"  # CREATE TRIGGER, a new foreign key
    EXCLUSIVE = "EXCLUSIVE"  # REFRESH MATERIALIZED VIEW CONCURRENTLY
    ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"  # most of ALTER TABLE, DROP, TRUNCATE

    @property
    def rank(self) -> int:
        """Strength, from 0."""
        return _ORDER[self]

    @property
    def blocks(self) -> str:
        """What of the application's daily traffic waits for it: `nothing`, `writes`, or `reads and writes`."""
        if self is Mode.ACCESS_EXCLUSIVE:
            return "reads and writes"
        return "writes" if self.rank >= Mode.SHARE.rank else "nothing"

    @property
    def strong(self) -> bool:
        """Whether reads or writes wait for it."""
        return self.rank >= Mode.SHARE.rank


_ORDER = {mode: rank for rank, mode in enumerate(Mode)}


def strongest(modes: list[Mode]) -> Mode | None:
    """Return the strongest of them; None of none."""
    return max(modes, key=lambda mode: mode.rank, default=None)
