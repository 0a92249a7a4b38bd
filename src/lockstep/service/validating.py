"""`validate`: all that can be said about the files without a database. Reads files; runs squawk; changes nothing.

With a base revision it also says what would go wrong once this branch is merged into it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

import msgspec

from lockstep.config import Settings
from lockstep.core.branching import Branches, against_base, moved_with
from lockstep.core.directives import misplaced
from lockstep.core.filename import Part, version_and_part
from lockstep.core.findings import Base, CheckedFile, Finding, Report, Severity
from lockstep.core.locking.hazards import RULES
from lockstep.core.migration import Folder, SqlFile
from lockstep.core.nearest import nearest
from lockstep.core.planner import gaps
from lockstep.core.text import excerpt
from lockstep.errors import MigrationFileError, UsageError
from lockstep.service.locks import hazards
from lockstep.service.project import read_folder, snapshot
from lockstep.service.revision import path_from_root, read_revisions

#: Lockstep sets both timeouts itself for every file, and takes over a file's own outer BEGIN/COMMIT (anything else of
#: that kind is an error of the parser's): these rules say nothing here.
_NOT_HERE = (
    "require-lock-timeout", "require-statement-timeout", "require-timeout-settings", "transaction-nesting",
)  # fmt: skip
#: What is said without squawk: syntax by PostgreSQL's own parser, and the hazards, with their rewrites, by core.hazards.
_OURS = {"syntax-error", "ban-concurrent-index-creation-in-transaction", *RULES}


#: What squawk says of a column that is being made as if it were being changed: message and help.
_WORDED = {
    "prefer-text-field": (
        "to change the length of a `varchar(n)` later takes an `ACCESS EXCLUSIVE` lock, and a shorter one writes the table anew",
        "Use `text`, with a CHECK constraint where the length matters.",
    ),
}

#: What squawk is told of how a file runs. One outside of a transaction is resumed by Lockstep, so it need not be made
#: to bear being run twice.
_WITHIN = {
    "transaction": ["--assume-in-transaction"],
    "session": ["--no-assume-in-transaction", "--exclude", "prefer-robust-stmts"],
}


class _Squawk(msgspec.Struct):
    """One row of squawk's JSON report."""

    file: str
    line: int  # from 0
    column: int  # from 0
    message: str
    rule_name: str
    help: str | None = None


def validate(settings: Settings, base: str | None = None, unapplied: Collection[int] = ()) -> Report:
    """Return all findings, in the order of files and lines. An unreadable file does not hide the others.

    With `base`, a git revision, this branch is compared with it; the versions in `unapplied` may have been changed or
    removed. Raises UsageError when the revision cannot be read, or an unapplied version is not on it.
    """
    broken: list[MigrationFileError] = []
    folder = read_folder(settings, broken)
    found = [_from_error("file", error) for error in broken]
    branches, compared = _branches(settings, base) if base is not None else (None, None)
    against = _against(branches, folder, unapplied) if branches else ()
    found += against
    unread = {place for error in broken if (place := version_and_part(error.file))}
    found += _names(folder, branches, against, {version for version, part in unread if part is Part.UP})
    scripts: list[SqlFile] = []
    for migration in folder.migrations:
        for file in (migration.up, migration.down, migration.verify):
            if file is None:
                continue
            found += _directives(file)
            try:
                file.check()
            except MigrationFileError as error:
                found.append(_from_error("parse", error))
            else:
                if file is migration.up:
                    scripts.append(file)
                    if not file.script().statements:
                        found.append(_empty(file))
        version = migration.version
        without_down = version is not None and migration.down is None and (version, Part.DOWN) not in unread
        if without_down and not migration.up.directives.irreversible:
            found.append(
                Finding(
                    severity=Severity.WARNING,
                    rule="missing-down",
                    file=migration.name,
                    line=None,
                    column=None,
                    message="there is no down script",
                    hint=f"add {migration.label}.down.sql, or say why there is no way back at the head of the file: "
                    '-- lockstep: irreversible="the reason"',
                )
            )
    found += _lint(settings, [file for file in scripts if file.transactional], within="transaction")
    found += _lint(settings, [file for file in scripts if not file.transactional], within="session")
    found += hazards(scripts)
    found = _with_misnamed(found, folder)
    return Report(
        findings=tuple(sorted(found, key=lambda f: (f.file, f.line or 0, f.column or 0, f.rule))),
        files=_files(folder, broken),
        folder=folder.path,
        path=path_from_root(settings.migrations_folder, settings.folder),
        base=compared,
    )


def _with_misnamed(found: list[Finding], folder: Folder) -> list[Finding]:
    """Tell at a finding that its file accepts a rule that there is not, and whose name is like this one's."""
    accepted = {m.up.name: [a.rule for a in m.up.directives.allow] for m in folder.versioned if m.up.directives.allow}
    if not accepted:
        return found
    rules = {finding.rule for finding in found}

    def told(finding: Finding) -> Finding:
        wrong = next((a for a in accepted.get(finding.file, ()) if a not in rules and nearest(a, [finding.rule])), None)
        if wrong is None:
            return finding
        said = f"its head has allow={wrong}; did you mean '{finding.rule}'?"
        return replace(finding, hint=f"{said}\n{finding.hint}" if finding.hint else said)

    return [told(finding) for finding in found]


def _branches(settings: Settings, revision: str) -> tuple[Branches, Base]:
    read = read_revisions(settings.migrations_folder, revision)
    branches = Branches(
        ancestor=read.ancestor,
        base=read.base,
        here=snapshot(settings),
        revision=revision,
        folder=settings.project.migrations,
    )
    base = Base(revision=revision, commit=read.commit, merge_base=read.merge_base, migrations=len(read.base.ups()))
    return branches, base


def _against(branches: Branches, folder: Folder, unapplied: Collection[int]) -> tuple[Finding, ...]:
    """The comparison with the base. A file may accept its own warnings; its errors are for the command line alone."""
    unknown = set(unapplied) - {file.version for file in branches.base.ups().values()}
    if unknown:
        raise UsageError(
            f"--unapplied {min(unknown)}: {branches.revision} has no migration of that number",
            hint="give the number of a file that is on it and that you change",
        )
    allowed = {m.up.name: {a.rule for a in m.up.directives.allow} for m in folder.versioned}
    return tuple(
        finding
        for finding in against_base(branches, unapplied)
        if finding.severity is Severity.ERROR or finding.rule not in allowed.get(finding.file, ())
    )


def _files(folder: Folder, broken: list[MigrationFileError]) -> tuple[CheckedFile, ...]:
    parts = [part for m in folder.migrations for part in (m.up, m.down, m.verify) if part]
    texts: dict[str, str | None] = {error.file: None for error in broken}
    texts |= dict.fromkeys(name for names in folder.duplicates for name in names)
    texts |= dict.fromkeys((*folder.orphans, *(name for name, _ in folder.stray)))
    texts |= {part.name: part.text for part in parts}
    return tuple(CheckedFile(name=name, text=texts[name]) for name in sorted(texts))


def _from_error(rule: str, error: MigrationFileError) -> Finding:
    return Finding(
        severity=Severity.ERROR,
        rule=rule,
        file=error.file,
        line=error.line,
        column=error.column,
        message=error.problem,
        hint=error.hint,
        excerpt=error.excerpt,
    )


def _names(
    folder: Folder, branches: Branches | None, against: tuple[Finding, ...], unread: Collection[int]
) -> Iterable[Finding]:
    """What the names alone tell. `unread`: versions whose file is there and has a finding of its own."""

    def finding(severity: Severity, rule: str, file: str, message: str, hint: str | None = None) -> Finding:
        return Finding(severity=severity, rule=rule, file=file, line=None, column=None, message=message, hint=hint)

    elsewhere: tuple[int, ...] = ()
    moving: set[str] = set()  # what the comparison with the base gives another number already
    if branches:
        elsewhere = tuple(file.version for file in branches.base.ups().values())
        twins = [finding.file for finding in against if finding.rule == "duplicate-on-base"]
        moving = {name for twin in twins for name in moved_with(branches, twin)}
    for names in folder.duplicates:
        if len(set(names) - moving) <= 1 and moving.intersection(names):
            continue
        message = f"has the same number as {', '.join(names[:-1])}"
        yield finding(Severity.ERROR, "duplicate", names[-1], message, "give one of them the next free number")
    for name, problem in folder.stray:
        yield finding(Severity.ERROR, "name", name, problem, "rename it, or move it out of the folder")
    for name in folder.orphans:
        if (place := version_and_part(name)) and place[0] in unread:
            continue
        yield finding(
            Severity.WARNING, "orphan", name, "no migration has this number", "remove it, or add its migration"
        )
    for notice in gaps(folder, (*elsewhere, *unread)):
        yield finding(
            Severity.WARNING, "gap", folder.path, notice.message, "fine if it was renumbered or removed on purpose"
        )


def _empty(file: SqlFile) -> Finding:
    return Finding(
        severity=Severity.WARNING,
        rule="empty",
        file=file.name,
        line=None,
        column=None,
        message="there is no statement in it; once applied, it cannot be filled in any more",
        hint="write it, or remove it",
    )


def _directives(file: SqlFile) -> Iterable[Finding]:
    for line in misplaced(file.text):
        yield Finding(
            severity=Severity.WARNING,
            rule="misplaced-directive",
            file=file.name,
            line=line,
            column=None,
            message="a directive below the head of the file has no effect",
            hint="move it above the first statement",
        )


def _lint(settings: Settings, files: list[SqlFile], *, within: str) -> list[Finding]:
    """Run squawk over the ups. A finding that the file allows, with its reason, is left out."""
    if not files:
        return []
    program = shutil.which("squawk", path=str(Path(sys.executable).parent)) or shutil.which("squawk")
    if program is None:
        raise UsageError("the linter squawk is not installed", hint="pip install squawk-cli")
    by_path = {str(settings.migrations_folder / file.name): file for file in files}
    excluded = [word for rule in _NOT_HERE for word in ("--exclude", rule)]
    # Exit codes 0 and 1 are both answers; anything else shows in the output, which is no JSON then.
    done = subprocess.run(
        [program, "--reporter", "json", *_WITHIN[within], *excluded, *by_path],
        check=False,
        capture_output=True,
        cwd=settings.folder,
    )
    try:
        rows = msgspec.json.decode(done.stdout or b"[]", type=list[_Squawk])
    except msgspec.DecodeError:
        raise UsageError(f"squawk failed: {done.stderr.decode(errors='replace').strip()[:500]}") from None
    found = []
    for row in rows:
        file = by_path[row.file]
        if row.rule_name in _OURS or row.rule_name in {a.rule for a in file.directives.allow}:
            continue
        message, advice = _WORDED.get(row.rule_name, (row.message, row.help))
        found.append(
            Finding(
                severity=Severity.WARNING,
                rule=row.rule_name,
                file=file.name,
                line=row.line + 1,
                column=row.column + 1,
                message=message,
                hint=advice,
                excerpt=excerpt(file.text, row.line + 1, row.column + 1),
            )
        )
    return found
