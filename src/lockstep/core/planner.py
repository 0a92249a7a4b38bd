"""What should run: a pure, total function of files, ledger and options.

For every input it returns either a `Plan` or the reasons why there is none. The matrix, the plan table, the rehearsal,
the approval and the executor all use that one `Plan`, so what was shown is what runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

from lockstep.core.checksum import settings_digest
from lockstep.core.comparison import BEGUN, Row, State, compare, effective_checksum
from lockstep.core.counting import counted
from lockstep.core.ledger import Entry, Hold, Ledger, Progress
from lockstep.core.migration import Folder, Migration, label
from lockstep.core.text import printable
from lockstep.errors import ExitCode


class Reason(Enum):
    """Why there is no plan."""

    DUPLICATE = "duplicate"  # two files at one number
    STRAY = "stray"  # a .sql file whose name says no number
    CHANGED = "changed"  # an applied file has other SQL now
    MISSING = "missing"  # an applied file is gone
    OUT_OF_ORDER = "out of order"  # a new file is older than the newest applied
    FAILED = "failed"  # a migration outside of a transaction stopped in the middle, and cannot simply go on
    OCCUPIED = "occupied"  # tables are there and no ledger entry: baseline first
    UNKNOWN_VERSION = "unknown version"  # an option names a version that is not there
    UNSET = "unset"  # a setting that a file uses is not configured
    NO_WAY_BACK = "no way back"  # cannot be reverted
    NOT_PROMOTED = "not promoted"  # an environment before this one does not have it yet


_EXIT = {
    Reason.DUPLICATE: ExitCode.REFUSED,
    Reason.STRAY: ExitCode.REFUSED,
    Reason.CHANGED: ExitCode.DISAGREES,
    Reason.MISSING: ExitCode.DISAGREES,
    Reason.OUT_OF_ORDER: ExitCode.DISAGREES,
    Reason.FAILED: ExitCode.DISAGREES,
    Reason.OCCUPIED: ExitCode.DISAGREES,
    Reason.UNKNOWN_VERSION: ExitCode.USAGE,
    Reason.UNSET: ExitCode.USAGE,
    Reason.NO_WAY_BACK: ExitCode.REFUSED,
    Reason.NOT_PROMOTED: ExitCode.REFUSED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason why there is no plan."""

    reason: Reason
    message: str  # one line; names file and version
    hint: str | None = None  # the next command
    files: tuple[str, ...] = ()  # file names concerned

    @property
    def exit_code(self) -> ExitCode:
        return _EXIT[self.reason]


class Warn(Enum):
    """What a plan mentions without refusing."""

    GAP = "gap"  # a number is skipped
    REFORMATTED = "reformatted"  # comments or white space changed since it was applied
    UNVERIFIED = "unverified"  # recorded by an older tool, checksum not recognised
    INCLUDED = "included"  # runs because --include asked for it
    NO_DOWN = "no down"  # pending, and there is no way back
    MANUAL = "manual"  # a step that a person must do
    RESUMED = "resumed"  # was begun earlier, and goes on where it stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One warning of a plan."""

    kind: Warn
    message: str  # one line


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What the caller asks for."""

    to_version: int | None = None  # stop after this version; repeatables wait then
    include: frozenset[int] = frozenset()  # versions to run although held or out of order
    settings: Mapping[str, str] = field(default_factory=dict)  # setting values of the environment, secrets included

    def public(self, salt: str) -> dict[str, object]:
        """What the digest covers: values of settings only as a salted digest."""
        return {
            "to": self.to_version,
            "include": sorted(self.include),
            "settings": {n: settings_digest({n: v}, salt) for n, v in sorted(self.settings.items())},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One migration to run."""

    migration: Migration
    checksum: str  # what the ledger will record
    again: bool  # a repeatable that runs again
    resume: Progress | None = None  # it was begun earlier, and goes on from here
    begun_as: str | None = None  # the name of the entry that is there already

    @property
    def name(self) -> str:
        return self.migration.name

    @property
    def label(self) -> str:
        return label(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would run on one target, in order."""

    steps: tuple[Step, ...]
    rows: tuple[Row, ...]  # the whole comparison it was made from
    notices: tuple[Notice, ...]
    stopped_by: Hold | None  # a held version that it stops before
    digest: str  # SHA-256 (hex): files, ledger, options, settings


def plan(folder: Folder, ledger: Ledger, options: PlanOptions) -> Plan | tuple[Refusal, ...]:
    """Return the plan for one target, or all reasons why there is none. Never raises on any combination."""
    rows = compare(folder, ledger, options.settings)
    refusals = [*folder_refusals(folder), *_row_refusals(rows, ledger, options), *_option_refusals(folder, options)]
    steps: list[Step] = []
    stopped_by: Hold | None = None
    for row in rows:
        if row.migration is None or row.state not in _RUNS or stopped_by is not None:
            continue
        if row.version is not None and options.to_version is not None and row.version > options.to_version:
            continue
        if row.version is None and options.to_version is not None:
            continue
        if row.state is State.HELD and row.version not in options.include:
            stopped_by = row.hold
            continue
        checksum = effective_checksum(row.migration, options.settings, ledger.salt)
        step = Step(
            migration=row.migration,
            checksum=checksum,
            again=row.version is None and row.entry is not None,
            resume=_resume_point(row, checksum, rows, steps),
            begun_as=row.entry.name if row.entry is not None else None,
        )
        refusals += _step_refusals(step, options)
        steps.append(step)
    if refusals:
        return tuple(refusals)
    return Plan(
        steps=tuple(steps),
        rows=rows,
        notices=tuple(_notices(folder, rows, steps, options)),
        stopped_by=stopped_by,
        digest=_digest(steps, ledger, options),
    )


_RUNS = frozenset({State.PENDING, State.TO_REAPPLY, State.HELD, State.OUT_OF_ORDER, *BEGUN})


def _resume_point(row: Row, checksum: str, rows: tuple[Row, ...], steps: list[Step]) -> Progress | None:
    if row.entry is None or row.state not in BEGUN:
        return None
    from lockstep.core.resuming import resume_point  # late: few plans need it

    began = row.entry.applied_at
    newer = any(step.migration.version is not None for step in steps) or any(
        r.version is not None and r.entry is not None and r.entry.applied_at > began for r in rows
    )
    return resume_point(row, checksum, newer=newer)


def folder_refusals(folder: Folder) -> list[Refusal]:
    """Return what is wrong with the folder itself: numbers used twice, names without one."""
    found = [
        Refusal(
            reason=Reason.DUPLICATE,
            message=f"{' and '.join(names)} have the same number",
            hint=f"give one of them the next free number: {_next_free(folder)}",
            files=names,
        )
        for names in folder.duplicates
    ]
    found += [
        Refusal(
            reason=Reason.STRAY,
            message=f"{printable(name)}: {problem}",
            hint="rename or move the file",
            files=(printable(name),),
        )
        for name, problem in folder.stray
    ]
    return found


def _next_free(folder: Folder) -> int:
    return max((m.version or 0 for m in folder.migrations), default=0) + 1


def _row_refusals(rows: tuple[Row, ...], ledger: Ledger, options: PlanOptions) -> list[Refusal]:
    found: list[Refusal] = []
    for row in rows:
        if row.state in BEGUN and (problem := _why_not_resume(row)) is not None:
            found.append(Refusal(reason=Reason.FAILED, message=problem[0], hint=problem[1], files=(row.name,)))
        make = _ROW_REFUSALS.get(row.state)
        if make is not None and not (row.state is State.OUT_OF_ORDER and row.version in options.include):
            found.append(make(row, ledger))
    if ledger.occupied and any(row.version is not None and row.state in _RUNS for row in rows):
        found.append(
            Refusal(
                reason=Reason.OCCUPIED,
                message=f"the ledger is empty, but the database holds {ledger.occupied} "
                f"{'table' if ledger.occupied == 1 else 'tables'} already: applying from the start could collide with them",
                hint="lockstep baseline ENV --version N says how far it is (none: nothing of the folder is in it yet)",
            )
        )
    return found


def _changed(row: Row, ledger: Ledger) -> Refusal:
    return Refusal(
        reason=Reason.CHANGED,
        message=f"{row.name} was changed after it was applied",
        hint=f"restore the file as it was applied (git log -- {row.name}) and write a new migration",
        files=(row.name,),
    )


def _missing(row: Row, ledger: Ledger) -> Refusal:
    return Refusal(
        reason=Reason.MISSING,
        message=f"{row.name} is applied, but its file is gone",
        hint=f"bring the file back (git log -- {row.name}); "
        f"if it was removed on purpose: lockstep repair ENV --forget {row.version or row.name}",
        files=(row.name,),
    )


def _out_of_order(row: Row, ledger: Ledger) -> Refusal:
    return Refusal(
        reason=Reason.OUT_OF_ORDER,
        message=f"{row.name} is not applied, but version {ledger.head} already is",
        hint=f"renumber it above {ledger.head}; or, if it does not depend on the order: "
        f"lockstep sync ENV --include {row.version}",
        files=(row.name,),
    )


_ROW_REFUSALS = {
    State.CHANGED: _changed,
    State.MISSING: _missing,
    State.OUT_OF_ORDER: _out_of_order,
}


def _option_refusals(folder: Folder, options: PlanOptions) -> list[Refusal]:
    known = {m.version for m in folder.migrations if m.version is not None}
    asked = set(options.include) | ({options.to_version} if options.to_version is not None else set())
    return [
        Refusal(
            reason=Reason.UNKNOWN_VERSION,
            message=f"there is no migration {version} in {folder.path}",
            hint="lockstep status lists the versions",
        )
        for version in sorted(asked - known)
    ]


def _step_refusals(step: Step, options: PlanOptions) -> list[Refusal]:
    return [
        Refusal(
            reason=Reason.UNSET,
            message=f"{step.name} uses the setting {name}, which this environment does not have",
            hint=f'add it to lockstep.toml: settings = {{ {name} = "${{{name.upper()}}}" }}',
            files=(step.name,),
        )
        for name in step.migration.up.directives.uses
        if name not in options.settings
    ]


def _why_not_resume(row: Row) -> tuple[str, str] | None:
    from lockstep.core.resuming import (
        why_not_resume,  # late: it knows statements, which a plan without them does not need
    )

    return why_not_resume(row)


_LARGEST_COUNTER = 1_000_000  # above it numbers are dates, where gaps mean nothing


def _notices(folder: Folder, rows: tuple[Row, ...], steps: list[Step], options: PlanOptions) -> list[Notice]:
    found = gaps(folder)
    for row in rows:
        if row.state is State.REFORMATTED:
            found.append(
                Notice(
                    kind=Warn.REFORMATTED, message=f"{row.name}: comments or white space changed since it was applied"
                )
            )
        elif row.state is State.UNVERIFIED:
            found.append(
                Notice(
                    kind=Warn.UNVERIFIED,
                    message=f"{row.name} was recorded by an older tool; "
                    "whether the file is still the same cannot be proven (lockstep repair ENV accepts it)",
                )
            )
    entries = {row.name: row.entry for row in rows}
    for step in steps:
        entry = entries.get(step.name)
        if step.resume is not None and entry is not None:
            from lockstep.core.resuming import ran

            found.append(Notice(kind=Warn.RESUMED, message=f"{step.name} goes on where it stopped: {ran(entry)}"))
        if step.migration.version in options.include:
            found.append(Notice(kind=Warn.INCLUDED, message=f"{step.name} runs because of --include"))
        if step.migration.version is not None and step.migration.down is None:
            irreversible = step.migration.up.directives.irreversible
            why = f"is irreversible: {irreversible}" if irreversible else "has no down script: it cannot be reverted"
            found.append(Notice(kind=Warn.NO_DOWN, message=f"{step.name} {why}"))
        found += [
            Notice(kind=Warn.MANUAL, message=f"{step.name}: by hand: {text}")
            for text in step.migration.up.directives.manual
        ]
    return found


def gaps(folder: Folder, elsewhere: Iterable[int] = ()) -> list[Notice]:
    """Return a notice per hole in the numbering that no version `elsewhere` fills. Numbers that are dates have no holes."""
    versions = sorted({*elsewhere, *(m.version for m in folder.versioned if m.version is not None)})
    found = []
    for before, after in pairwise(versions):
        if after - before > 1 and after < _LARGEST_COUNTER:
            hole = f"{before + 1}" if after - before == 2 else f"{before + 1} to {after - 1}"
            found.append(Notice(kind=Warn.GAP, message=f"there is no migration {hole} (between {before} and {after})"))
    return found


def _digest(steps: list[Step], ledger: Ledger, options: PlanOptions) -> str:
    def side(step: Step) -> list[object]:
        m = step.migration
        return [m.name, step.checksum, m.down.checksum if m.down else None, m.verify.checksum if m.verify else None]

    content = {
        "format": 1,
        "steps": [side(step) for step in steps],
        "ledger": [_fact(e) for e in ledger.entries],
        "options": options.public(ledger.salt),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _fact(entry: Entry) -> list[object]:
    """What of an entry the digest covers."""
    fact: list[object] = [entry.name, entry.version, entry.kind.value, entry.state.value, entry.checksum]
    return fact if entry.progress is None else [*fact, [getattr(entry.progress, name) for name in Progress.__slots__]]


def described(step: Step) -> str:
    """How a step runs, in words: `one transaction, 2 statements`."""
    up = step.migration.up
    count = len(up.script().statements)
    statements = counted(count, "statement")
    if up.directives.repeat_until_empty:
        return "a backfill in batches"
    if up.transactional:
        return f"one transaction, {statements}"
    if step.resume is not None and step.resume.units:
        left = len(up.units()) - step.resume.units
        return f"goes on outside of a transaction, {counted(left, 'unit')} left"
    units = len(up.units())
    return f"outside of a transaction, {statements} in {counted(units, 'unit')}"
