"""Whether a migration that was begun and did not finish may go on, and from where; pure, like the planner.

It may when what was done is still what the file says, and when nothing is in doubt. A person settles the rest with
`lockstep repair`.
"""

from __future__ import annotations

from lockstep.core.comparison import Row
from lockstep.core.counting import counted
from lockstep.core.ledger import Entry, EntryState, Progress
from lockstep.core.migration import SqlFile
from lockstep.core.traits import Check
from lockstep.core.units import Unit, UnitKind, done_digest
from lockstep.errors import MigrationFileError


def why_not_resume(row: Row) -> tuple[str, str] | None:
    """Return (what is in the way, the next command) for a migration that was begun; None: it goes on."""
    entry = row.entry
    assert entry is not None
    version = row.version if row.version is not None else row.name
    begun = f"{row.name} was started and did not finish"
    settle = (
        f"look at what it left behind, then say what is true: lockstep repair ENV --record {version} (all of it is "
        f"there) or --forget {version} (none of it is)"
    )
    if entry.progress is None:
        return begun, settle
    if entry.progress.reverting:
        return f"{row.name}: its revert was begun and did not finish", "lockstep revert ENV --steps 1"
    if row.migration is None:
        return (
            f"{begun}, and its file is gone",
            f"bring the file back (git log -- {row.name}); or, when nothing of it is left in the database: "
            f"lockstep repair ENV --forget {version}",
        )
    return doubt(row.migration.up, entry, entry.progress, str(version), settle)


def doubt(file: SqlFile, entry: Entry, progress: Progress, version: str, settle: str) -> tuple[str, str] | None:
    """Return why a file cannot go on after `progress`; None: it can. A file that does not parse says so elsewhere."""
    if file.transactional:
        return (
            f"{file.name} was begun outside of a transaction, and now has lost its directive transaction=none",
            f"put the directive back, or {settle}",
        )
    if progress.backfill != file.directives.repeat_until_empty:
        return (
            f"{file.name} was begun {'as a backfill' if progress.backfill else 'unit by unit'}, and is something else now",
            f"put its directives back (git log -- {file.name}), or {settle}",
        )
    try:
        units = file.units()
    except MigrationFileError:
        return None
    if done_digest(units, progress.units) != progress.digest or progress.units > len(units):
        return (
            f"{file.name}: statements that ran already were changed since ({ran(entry)})",
            f"restore them as they were (git log -- {file.name}), or {settle}",
        )
    if progress.attempted:
        unit = units[progress.units] if progress.units < len(units) else None
        if unit is None or unit.digest != progress.attempted:
            return (
                f"{file.name}: the statement after those was begun, and was changed since ({ran(entry)})",
                f"restore it (git log -- {file.name}); or, when nothing of it is left: "
                f"lockstep repair ENV --statement-undone {version}",
            )
        if is_unknown(file, unit):
            return (
                f"{file.name}:{unit.line}: this statement was begun, and nobody can tell whether it took effect",
                f"look, then: lockstep repair ENV --statement-done {version} (it did; go on behind it) or "
                f"--statement-undone {version} (it did not; run it again)",
            )
    return None


def is_unknown(file: SqlFile, unit: Unit) -> bool:
    """Whether a unit commits by itself, so that nobody can tell how far it came."""
    return unit.kind is UnitKind.ALONE and unit.recheck(file.script()).check is Check.UNKNOWN


def ran(entry: Entry) -> str:
    """How far an entry came, in words."""
    if entry.progress is not None and entry.progress.backfill:
        return f"{batches(entry.progress)} done"
    return f"{entry.statements_done or 0} of {entry.statements_total or 0} statements done"


def batches(progress: Progress) -> str:
    """How far a backfill came: `30,000 rows in 6 batches`."""
    return f"{counted(progress.rows, 'row')} in {committed_batches(progress)}"


def committed_batches(progress: Progress) -> str:
    """The batches of a backfill by its ledger entry, whose rows are those before the last one: `6 batches`."""
    return counted(progress.batches, "batch", "batches")


def resume_point(row: Row, checksum: str, *, newer: bool) -> Progress | None:
    """Return where a migration that was begun goes on; None: it was not begun, or begins anew.

    A repeatable begins anew when a setting that it uses has changed, or when a versioned migration was applied since it
    began (`newer`): what it did may be gone.
    """
    if row.entry is None or row.entry.state is EntryState.APPLIED or row.entry.progress is None:
        return None
    progress = row.entry.progress
    uses = row.migration is not None and bool(row.migration.up.directives.uses)
    if row.version is None and (newer or (uses and row.entry.checksum != checksum)):
        return Progress(backfill=progress.backfill)
    return progress
