"""All that a rehearsal found, as one document: shown to who approves, kept beside the backup, compared afterwards.

Holds no row of anybody's and no setting's value. docs/reference/rehearsal.md describes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from lockstep.core.changes import Change, Touched, touched
from lockstep.core.fingerprint import SchemaObject
from lockstep.core.rehearsal.calibration import Calibration
from lockstep.core.rehearsal.proof import RevertProof, WayBack
from lockstep.core.rehearsal.trace import FileTrace, Window
from lockstep.core.rehearsal.verdict import Verdict
from lockstep.core.rehearsal.windows import worst_window

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What the plan was tried on."""

    backup: str  # its id
    taken_at: datetime  # of the backup
    size: int  # bytes of the database on the server that it was restored into
    tier: str = "full"  # full, touched tables, schema only
    server_version: str  # of the server that it was tried on
    source_version: str  # of the server that the backup is of
    restore_ms: int
    isolated: bool  # no network at all
    notes: tuple[str, ...] = ()  # what was left out, stands in for something, or is not as in the source
    rowless: tuple[str, ...] = ()  # tables whose rows were not restored, of a copy that is not full
    lacking: tuple[str, ...] = ()  # extensions of the source that the server does not have
    stand_ins: tuple[str, ...] = ()  # schemas that are not in the backup: their tables here hold keys alone
    service: str | None = None  # the database service that the source is of; it may allow more than PostgreSQL does
    left_out: tuple[str, ...] = ()  # objects that are not there without them: TABLE public.docs
    other_versions: tuple[str, ...] = ()  # extensions that are of another version here than in the source
    unfilled: tuple[str, ...] = ()  # materialized views that are empty here, and have rows in the source


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """One rehearsal."""

    format: int = FORMAT
    environment: str
    run_id: str
    attempt: int = 1
    at: datetime  # when it ended
    duration_ms: int  # restore included
    plan_digest: str
    copy: Copy
    verdict: Verdict
    files: tuple[FileTrace, ...]  # of trial A, in order; up to the one that failed
    held: str | None = None  # the plan stops before this file, which was reverted there
    planned: tuple[str, ...] = ()  # migration_name of every step of the plan, in order
    proofs: tuple[RevertProof, ...] = ()
    ways_back: tuple[WayBack, ...] = ()
    changes: tuple[Touched, ...] = ()  # the change set that the deploy should have
    objects: tuple[SchemaObject, ...] = ()  # what is there after it of the objects that it makes or alters
    change_digest: str = ""  # SHA-256 (hex) over the change set: what an approval covers
    roles: tuple[str, ...] = ()  # that the copy's server knew
    calibration: Calibration | None = None  # of the environment, by its audit log; None: nothing to go by yet
    tool_version: str = ""

    def file(self, name: str) -> FileTrace | None:
        """Return one migration's trace; None where it did not come to it."""
        return next((file for file in self.files if file.name == name), None)

    @property
    def worst(self) -> Window | None:
        """The window that blocks others longest, of all files."""
        windows = [window for file in self.files if (window := worst_window(file)) is not None]
        return max(windows, key=lambda one: one.ms, default=None)


def change_digest(changes: Iterable[Touched]) -> str:
    """Return 64 hex digits over a change set: equal for the same objects with the same digests before and after."""
    whole = hashlib.sha256()
    for one in sorted(changes, key=lambda one: one.key):
        before, after = (None if side is None else side.exact for side in (one.before, one.after))
        whole.update(repr((one.key, before, after)).encode())
    return whole.hexdigest()


def objects_after(changes: Iterable[Change]) -> tuple[SchemaObject, ...]:
    """Return what a change set leaves of the objects that it makes or alters."""
    return tuple(one.after._replace(xid=None) for one in changes if one.after is not None)


def predicted(
    changes: tuple[Change, ...], schemas: Collection[str]
) -> tuple[tuple[Touched, ...], tuple[SchemaObject, ...], str]:
    """Return change set, objects and digest of what a plan did on the copy, as the report keeps them.

    On the copy all schemas are compared, in production those that are configured: what is of others is left out.
    """
    covered = tuple(one for one in changes if not one.key[1] or one.key[1] in schemas)
    kept = touched(covered)
    return kept, objects_after(covered), change_digest(kept)


def uncovered(changes: Iterable[Change], schemas: Collection[str]) -> tuple[str, ...]:
    """Return the schemas that a plan changed and that are not configured, sorted."""
    return tuple(sorted({one.key[1] for one in changes if one.key[1] and one.key[1] not in schemas}))
