"""Alerts made of what is at hand: an error and what was done, a request for approval. It sends nothing.

No error of ours holds a secret. The server's own words about a migration may hold a row's value: they are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from lockstep.config import Settings
from lockstep.core.alert import DEPLOY, Alert, incident_id
from lockstep.core.approval import Approval
from lockstep.core.duration import format_ms
from lockstep.core.migration import label
from lockstep.core.rehearsal.report import Rehearsal
from lockstep.core.rehearsal.violation_words import general_words
from lockstep.errors import (
    BackupDamaged,
    BackupFailed,
    ChangedOtherwise,
    CheckFailed,
    DriftFound,
    LockHeld,
    LockstepError,
    MigrationFailed,
    MigrationFileError,
    NotApproved,
    RehearsalRefused,
    RestoreFailed,
    RevertNotProven,
    RunWaits,
)
from lockstep.service.alerting.server import project_name

#: Which step an error is of, where it says so by its class.
_STEPS: tuple[tuple[type[LockstepError], str], ...] = (
    (BackupFailed, "backup"),
    (BackupDamaged, "verify the backup"),
    (RestoreFailed, "restore"),
    (RehearsalRefused, "rehearse"),
    (RevertNotProven, "prove the revert"),
    (NotApproved, "approval"),
    (CheckFailed, "check"),
    (MigrationFileError, "validate"),
    (DriftFound, "check for drift"),
    (ChangedOtherwise, "verify"),
)

_SHOWN = 12  # characters of a digest: enough to compare by eye


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known besides an error."""

    environment: str | None = None
    step: str | None = None  # None: as the error tells
    run_id: str | None = None
    url: str | None = None  # of the run in the UI
    state: str = ""  # what was done before it
    ways_back: tuple[str, ...] = ()
    source: str = DEPLOY
    occasion: str | None = None  # None: as the error tells


def of_error(settings: Settings, error: LockstepError, known: Known) -> Alert | None:
    """Return the alert about an error that ended something. None: it is nobody's trouble (another run is at work)."""
    if isinstance(error, LockHeld | RunWaits):
        return None
    file = line = sqlstate = None
    if isinstance(error, MigrationFailed | MigrationFileError):
        file, line = error.file, error.line
    if isinstance(error, MigrationFailed):
        sqlstate = error.sqlstate
    migration = label(file.rpartition("/")[2]) if isinstance(error, MigrationFailed) and file else None
    occasion = known.occasion or _occasion(error)
    kind = type(error).__name__
    step = known.step or migration or next((name for kind, name in _STEPS if isinstance(error, kind)), None)
    what = migration or step or file
    outcome = error.outcome if isinstance(error, MigrationFailed) else ""
    state = "; ".join(part for part in (known.state, outcome) if part)
    return Alert(
        occasion=occasion,
        incident=incident_id(project_of(settings), known.environment, occasion, kind, what, known.source),
        at=datetime.now(UTC),
        environment=known.environment,
        headline=_headline(error, migration, step),
        run_id=known.run_id,
        url=known.url,
        step=step,
        migration=migration,
        file=_path(settings, file) if file else None,
        line=line,
        sqlstate=sqlstate,
        message=_message(error),
        state=state,
        ways_back=error.ways_back if isinstance(error, CheckFailed) else known.ways_back,
        next_command=error.hint,
        contacts=tuple(settings.project.contacts),
        runbook=settings.project.runbook,
        source=known.source,
    )


def of_waiting(settings: Settings, asked: Approval, *, url: str | None) -> Alert:
    """Return the alert that a run waits for somebody's approval."""
    request = asked.request
    digests = [f"plan: {request.plan_digest[:_SHOWN]}"]
    if request.change_digest:
        digests.append(f"changes: {request.change_digest[:_SHOWN]}")
    digests.append(f"expires: {request.expires_at:%Y-%m-%d %H:%M} UTC")
    files = "1 migration" if len(request.what) == 1 else f"{len(request.what)} migrations"
    return Alert(
        occasion="waiting",
        # Each request has a row of its own: one with other changes, or of another try, waits for somebody anew.
        incident=incident_id(project_of(settings), request.environment, "waiting", request.run_id, str(request.row)),
        at=datetime.now(UTC),
        environment=request.environment,
        headline=f"{files}, rehearsal {request.headline}",
        run_id=request.run_id,
        url=url,
        step="approval",
        message=f"rehearsal {request.headline}",
        what=request.what,
        digests=tuple(digests),
        next_command=f"lockstep approve {request.run_id}, or: lockstep reject {request.run_id} --reason …",
        contacts=tuple(settings.project.contacts),
        runbook=settings.project.runbook,
    )


def of_test(settings: Settings, way: str) -> Alert:
    """Return the alert that only proves that alerts arrive, by one way."""
    at = datetime.now(UTC)
    return Alert(
        occasion="test",
        incident=incident_id(project_of(settings), "test", way, at.isoformat()),
        at=at,
        environment=None,
        headline=f"alerts of {project_of(settings)} arrive {way}",
        message="Somebody called `lockstep alerts test`. Nothing happened, and nothing is to be done.",
        contacts=tuple(settings.project.contacts),
        runbook=settings.project.runbook,
    )


def ways_back(rehearsal: Rehearsal | None) -> tuple[str, ...]:
    """Return the measured ways back as lines: how, how long, what is lost, the command."""
    if rehearsal is None:
        return ()
    return tuple(
        f"{one.how}: {format_ms(one.ms) or 'time unknown'}, loses {one.loses or 'nothing'}"
        + (f": {one.command}" if one.command else "")
        for one in rehearsal.ways_back
    )


def done_before(applied: Iterable[str], total: int | None = None) -> str:
    """Return what state an environment is in, from the labels of what a run applied there."""
    names = list(applied)
    if not names:
        return "nothing was applied in this run"
    of = f" of {total}" if total is not None else ""
    return f"{len(names)}{of} applied in this run, and they stay: {', '.join(names[:10])}" + (
        f" and {len(names) - 10} more" if len(names) > 10 else ""
    )


def _occasion(error: LockstepError) -> str:
    if isinstance(error, NotApproved):
        return "not approved"
    return "drift" if isinstance(error, DriftFound | ChangedOtherwise) else "failed"


def _path(settings: Settings, file: str) -> str:
    folder = settings.project.migrations.rstrip("/")
    return file if file.startswith(f"{folder}/") else f"{folder}/{file}"


def _message(error: LockstepError) -> str:
    """The error's words. What the server says of a migration may hold a value of a row: then what it means."""
    if isinstance(error, RehearsalRefused):  # its problems name rows by their keys
        return error.message.split("\n", 1)[0]
    if not isinstance(error, MigrationFailed):
        return error.message
    place = ":".join(str(part) for part in (error.file, error.line) if part is not None)
    return f"{error.target}: {place}: {general_words(error)}"


def _headline(error: LockstepError, migration: str | None, step: str | None) -> str:
    if isinstance(error, MigrationFailed):
        code = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
        return f"{migration} failed{code}"
    first = error.message.split("\n", 1)[0]
    return f"{step}: {first}" if step else first


def project_of(settings: Settings) -> str:
    """Return what tells this project's incidents from those of others."""
    with suppress(LockstepError):
        return project_name(settings.folder)
    return "deploy"
