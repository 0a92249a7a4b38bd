"""The checks by their ids: what each looks for, and why that matters. docs/reference/health.md tells it to users."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One kind of finding."""

    id: str
    summary: str  # what it finds
    why: str  # what comes of it


def _check(name: str, summary: str, why: str) -> Check:
    return Check(id=name, summary=summary, why=why)


#: In the order of a report: what stops a database first, then what hurts, then what costs.
CHECKS = (
    _check(
        "xid-age",
        "A database uses up its transaction ids faster than VACUUM frees them.",
        "At 2^31 the server refuses every write until somebody has vacuumed.",
    ),
    _check(
        "multixact-age",
        "The same for multixact ids, which rows locked by several transactions take.",
        "At 2^31 the server refuses every write that needs one until somebody has vacuumed.",
    ),
    _check(
        "key-exhaustion",
        "A sequence, or the column that it feeds, comes to the end of its numbers.",
        "After the last number every INSERT fails.",
    ),
    _check(
        "checksum-failures",
        "Pages whose checksum was wrong were read from disk.",
        "Data is damaged: disk, memory, file system or their software lose what is written.",
    ),
    _check(
        "unsafe-settings",
        "fsync or full_page_writes is off.",
        "A crash of the machine can destroy the whole server's data.",
    ),
    _check(
        "autovacuum-off",
        "Autovacuum is switched off, for the server or for a table.",
        "Dead rows are not taken away, statistics grow stale, and only emergency vacuums keep ids from running out.",
    ),
    _check(
        "archiver-failing",
        "WAL cannot be archived.",
        "There is no point-in-time recovery from here on, and WAL fills the disk.",
    ),
    _check(
        "replication-slot",
        "A replication slot keeps much WAL, nobody reads it, or it has lost what it needs.",
        "WAL is kept until the slot is read: the disk fills, and then the server stops.",
    ),
    _check(
        "replication-lag",
        "A standby or subscriber is behind.",
        "Reads there are old, and a failover would lose what has not arrived.",
    ),
    _check(
        "connections",
        "Nearly all connections are in use.",
        "Past the limit nobody else gets in.",
    ),
    _check(
        "blocked-session",
        "A session waits for another one's lock.",
        "Whoever comes behind it for the same table waits as well.",
    ),
    _check(
        "idle-in-transaction",
        "A session sits in an open transaction and does nothing.",
        "It keeps its locks, and VACUUM cannot take away any row that died since it began.",
    ),
    _check(
        "long-transaction",
        "A transaction has been open for long.",
        "It keeps its locks, and VACUUM cannot take away any row that died since it began.",
    ),
    _check(
        "prepared-transaction",
        "A prepared transaction waits to be ended.",
        "It keeps its locks and holds VACUUM back, also over a restart, and nobody sees a session.",
    ),
    _check(
        "backup-age",
        "The newest backup of a protected environment, or the newest verified one, is old.",
        "What was changed since is lost with the server; a backup that was never restored may not be one.",
    ),
    _check(
        "invalid-index",
        "An index is invalid, and nobody builds it.",
        "No query uses it and every write still pays for it; a unique one does not ensure anything.",
    ),
    _check(
        "disabled-trigger",
        "A trigger is switched off, or those that keep a foreign key.",
        "What it ensures is not ensured; for a foreign key, rows may refer to nothing.",
    ),
    _check(
        "unvalidated-constraint",
        "A constraint was added NOT VALID and never validated.",
        "Old rows may break it, the planner does not rely on it, and a restore may fail on it.",
    ),
    _check(
        "no-primary-key",
        "A table has no primary key.",
        "Its rows cannot be told apart; logical replication refuses its updates and deletes.",
    ),
    _check(
        "dead-rows",
        "Much of a table is dead rows.",
        "Reads go over them and the table keeps growing: VACUUM does not come, or is held back.",
    ),
    _check(
        "stale-statistics",
        "A table was never analysed, or much of it changed since.",
        "The planner guesses, and a plan may be slower by orders of magnitude.",
    ),
    _check(
        "table-growth",
        "A table grew much since the last backup.",
        "The disk, backups and restores grow with it; often something is not cleaned up.",
    ),
    _check(
        "unindexed-foreign-key",
        "No index serves a foreign key on the side that refers.",
        "Each DELETE or key UPDATE on the other table reads this one whole, and holds its locks meanwhile.",
    ),
    _check(
        "duplicate-index",
        "Two indexes are the same.",
        "Each write pays twice, and no read gains.",
    ),
    _check(
        "redundant-index",
        "An index is the beginning of another one.",
        "The longer one serves the same queries, if more slowly where it is much larger; each write pays for both.",
    ),
    _check(
        "unused-index",
        "No query on this server has used an index since its counters began.",
        "Each write pays for it. A standby counts for itself: look there before you drop it.",
    ),
    _check(
        "checksums-off",
        "The server has no data checksums.",
        "Damage on disk is not noticed when it is read, and goes into backups.",
    ),
)  # fmt: skip

BY_ID = {check.id: check for check in CHECKS}
