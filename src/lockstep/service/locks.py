"""Locks and hazards of the project's files, for `validate` and `plan`. Parses texts; touches no database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from lockstep.config import Settings
from lockstep.core.findings import Finding
from lockstep.core.locking.hazards import find_hazards
from lockstep.core.locking.known import Known
from lockstep.core.locking.lock_report import FileLocks
from lockstep.core.locking.locks import script_locks
from lockstep.core.locking.nodes import names_in, nodes
from lockstep.core.migration import Folder, SqlFile
from lockstep.core.planner import Plan
from lockstep.errors import MigrationFileError
from lockstep.service.project import read_folder


def hazards(files: Iterable[SqlFile]) -> list[Finding]:
    """Return the hazards of files in their order; what an earlier one says about the schema helps with the later ones.

    Every file must parse.
    """
    known = Known()
    return [finding for file in files for finding in find_hazards(file, known)]


def parsing(files: Iterable[SqlFile]) -> Iterator[SqlFile]:
    """The files that parse. What is wrong with the others is `validate`'s business."""
    for file in files:
        try:
            file.script()
        except MigrationFileError:
            continue
        yield file


def folder_locks(folder: Folder) -> tuple[FileLocks, ...]:
    """Return the locks of all ups and downs, in order. A file that does not parse is left out: `validate` says so."""
    known, found = Known(), []
    for migration in folder.migrations:
        # A down knows what its up has made.
        for file in (migration.up, migration.down):
            if file is not None and (locks := _locks(file, known if file is migration.up else known.copy())):
                found.append(locks)
    return tuple(found)


def project_locks(settings: Settings) -> tuple[FileLocks, ...]:
    """Return the locks of all files of a project that can be read and parsed. Raises UsageError without a folder."""
    return folder_locks(read_folder(settings, []))


def plan_locks(plan: Plan, folder: Folder | None = None) -> tuple[FileLocks, ...]:
    """Return the locks of each step of a plan, in order. Raises MigrationFileError.

    With the folder, what its earlier files say of the relations that the plan names is known.
    """
    known = told(plan, folder) if folder else Known()
    return tuple(
        FileLocks(file=step.name, statements=script_locks(step.migration.up.script(), known)) for step in plan.steps
    )


def plan_hazards(plan: Plan, folder: Folder) -> tuple[tuple[Finding, ...], ...]:
    """Return the hazards of each step of a plan, in order: those that `validate` finds. Raises MigrationFileError.

    What an earlier step of the plan makes is not there yet, so nobody can be kept waiting for it.
    """
    known, found = told(plan, folder), []
    for step in plan.steps:
        found.append(tuple(find_hazards(step.migration.up, known)))
        known.unseen |= known.new
    return tuple(found)


def told(plan: Plan, folder: Folder) -> Known:
    """What the files before a plan say of the relations that it names.

    Only files that hold one of these names are parsed: of a thousand that are applied already, that is a few.
    """
    pending = {step.name for step in plan.steps}
    names = {name for step in plan.steps for name in names_in(step.migration.up.script())}
    known = Known()
    for file in (migration.up for migration in folder.versioned if migration.name not in pending):
        if not any(name in file.text for name in names):
            continue
        with suppress(MigrationFileError):
            script = file.script()
            known.next_file()
            for statement, node in zip(script.statements, nodes(script), strict=True):
                known.learn(statement.kind, node)
    return known


def _locks(file: SqlFile, known: Known) -> FileLocks | None:
    try:
        return FileLocks(file=file.name, statements=script_locks(file.script(), known))
    except MigrationFileError:
        return None
