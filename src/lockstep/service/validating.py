"""`validate`: all that can be said about the files without a database. Reads files; runs squawk; changes nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from lockstep.config import Settings
from lockstep.core.directives import misplaced
from lockstep.core.findings import Finding, Severity
from lockstep.core.hazards import RULES
from lockstep.core.migration import Folder, SqlFile
from lockstep.core.planner import gaps
from lockstep.core.text import excerpt
from lockstep.errors import MigrationFileError, UsageError
from lockstep.service.locks import hazards
from lockstep.service.project import read_folder

#: Lockstep sets both timeouts itself for every file, and takes over a file's own outer BEGIN/COMMIT (anything else of
#: that kind is an error of the parser's): these rules say nothing here.
_NOT_HERE = (
    "require-lock-timeout", "require-statement-timeout", "require-timeout-settings", "transaction-nesting",
)  # fmt: skip
#: What is said without squawk: syntax by PostgreSQL's own parser, and the hazards, with their rewrites, by core.hazards.
_OURS = {"syntax-error", "ban-concurrent-index-creation-in-transaction", *RULES}


class _Squawk(msgspec.Struct):
    """One row of squawk's JSON report."""

    file: str
    line: int  # from 0
    column: int  # from 0
    message: str
    rule_name: str
    help: str | None = None


def validate(settings: Settings) -> tuple[Finding, ...]:
    """Return all findings, in the order of files and lines. An unreadable file does not hide the others."""
    broken: list[MigrationFileError] = []
    folder = read_folder(settings, broken)
    found = [_from_error("file", error) for error in broken]
    found += _names(folder)
    scripts: list[SqlFile] = []
    for migration in folder.migrations:
        for file in (migration.up, migration.down, migration.verify):
            if file is None:
                continue
            found += _directives(file)
            if not file.directives.transactional or file.directives.repeat_until_empty:
                found.append(
                    Finding(
                        severity=Severity.WARNING,
                        rule="not-run-yet",
                        file=file.name,
                        line=1,
                        column=None,
                        message="this version of Lockstep does not run files outside of a transaction",
                        hint="run it by hand (psql -f), then: lockstep repair ENV --record VERSION",
                    )
                )
            try:
                file.script()
            except MigrationFileError as error:
                found.append(_from_error("parse", error))
            else:
                if file is migration.up:
                    scripts.append(file)
                    if not file.script().statements:
                        found.append(_empty(file))
        if migration.version is not None and migration.down is None and not migration.up.directives.irreversible:
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
    found += _lint(settings, scripts)
    found += hazards(scripts)
    return tuple(sorted(found, key=lambda f: (f.file, f.line or 0, f.column or 0, f.rule)))


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


def _names(folder: Folder) -> Iterable[Finding]:
    def finding(severity: Severity, rule: str, file: str, message: str, hint: str | None = None) -> Finding:
        return Finding(severity=severity, rule=rule, file=file, line=None, column=None, message=message, hint=hint)

    for names in folder.duplicates:
        message = f"has the same number as {', '.join(names[:-1])}"
        yield finding(Severity.ERROR, "duplicate", names[-1], message, "give one of them the next free number")
    for name, problem in folder.stray:
        yield finding(Severity.ERROR, "name", name, problem, "rename it, or move it out of the folder")
    for name in folder.orphans:
        yield finding(
            Severity.WARNING, "orphan", name, "no migration has this number", "remove it, or add its migration"
        )
    for notice in gaps(folder):
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


def _lint(settings: Settings, files: list[SqlFile]) -> list[Finding]:
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
        [program, "--reporter", "json", "--assume-in-transaction", *excluded, *by_path],
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
        found.append(
            Finding(
                severity=Severity.WARNING,
                rule=row.rule_name,
                file=file.name,
                line=row.line + 1,
                column=row.column + 1,
                message=row.message,
                hint=row.help,
                excerpt=excerpt(file.text, row.line + 1, row.column + 1),
            )
        )
    return found
