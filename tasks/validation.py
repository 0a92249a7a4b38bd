"""The files alone, before any database is asked."""

from __future__ import annotations

from lockstep.core.findings import Severity
from lockstep.errors import MigrationFileError
from lockstep.service import validating
from tasks.boundary import step
from tasks.run import current


@step("validate", "validate")
def validate() -> None:
    """Check every migration file. Warnings are counted; the first error stops the run."""
    run = current()
    findings = validating.validate(run.settings).findings
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    warnings = len(findings) - len(errors)
    if errors:
        first = errors[0]
        more = f" (and {len(errors) - 1} more: lockstep validate)" if len(errors) > 1 else ""
        raise MigrationFileError(
            f"{first.message}{more}",
            file=first.file,
            line=first.line,
            column=first.column,
            excerpt=first.excerpt,
            hint=first.hint or "lockstep validate",
        )
    told = f", {warnings} warnings (lockstep validate shows them)" if warnings else ""
    count = len(run.folder.migrations)
    run.progress.note("validate", f"{count} migration{'s' if count != 1 else ''} checked{told}")
