"""The gate of a deploy: the plan is rehearsed on the backup that was just taken, and only *passed* lets it go on.

A doubt is no pass: where nothing could be found out, it *could not verify*. Somebody may override either by name and
with a reason, and the audit log keeps it. A damaged backup cannot be overridden: another one is taken.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.duration import format_ms
from lockstep.core.migration import Folder
from lockstep.core.rehearsal.rendering import problems_text
from lockstep.core.rehearsal.report import Rehearsal
from lockstep.core.rehearsal.rules import BINDING
from lockstep.core.rehearsal.summary import headline
from lockstep.core.rehearsal.verdict import Outcome, Problem
from lockstep.errors import (
    BackupDamaged,
    IdentityMissing,
    LockstepError,
    ProgramMissing,
    RehearsalRefused,
    RestoreFailed,
    RestoreRefused,
    ServerStartError,
)
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import open_session
from lockstep.postgres.entries import RunInfo
from lockstep.service.progress import Progress
from lockstep.service.project import target_of
from lockstep.service.rehearsal.rehearse import rehearse
from lockstep.service.store import open_store
from lockstep.storage.manifest import Manifest

#: Why nothing could be found out, on this machine, about a backup that may well be good.
_NOTHING_FOUND_OUT = (ProgramMissing, IdentityMissing, RestoreRefused, RestoreFailed, ServerStartError)
_LISTED = 5  # problems in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A gate that let a run go on."""

    rehearsal: Rehearsal | None  # None: nothing could be found out, and that was overridden
    key: str | None  # of its document in the bucket
    override: str | None = None  # the reason that somebody gave; None: it passed
    reused: bool = False  # this attempt of the run made it before
    aged: bool = False  # the backup was too old as soon as it was rehearsed, and that was overridden


def pass_rehearsal(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    manifest: Manifest,
    run: RunInfo,
    progress: Progress,
    *,
    target: str,
    expected_digest: str,
    attempt: int = 1,
    to_version: int | None = None,
    include: Iterable[int] = (),
    override: str | None = None,
    seen: Callable[[Rehearsal], None] = lambda _found: None,
) -> Passed:
    """Rehearse a plan on a backup, keep what was found beside it, and go on only when it passed, or is overridden.

    A try that finds its own rehearsal of the same plan uses it again. `seen` gets what was found, whatever comes of it. Raises RehearsalRefused, StalePlan, BackupDamaged,
    BucketError, Unreachable.
    """
    name = environment.name
    with open_store(settings) as store:
        found = store.backups.rehearsal(manifest, run.run_id, attempt)
        reused = found is not None and found.plan_digest == expected_digest
        trouble: LockstepError | None = None
        if not reused:
            try:
                found = rehearse(
                    settings, environment, folder, store.stored(manifest), run, progress,
                    attempt=attempt, to_version=to_version, include=include, expected_digest=expected_digest,
                )  # fmt: skip
            except BackupDamaged:
                raise
            except _NOTHING_FOUND_OUT as error:
                found, trouble = None, error
        key = None
        if found is not None:
            key = store.backups.record_rehearsal(manifest, found) if not reused else None
    if reused:
        assert found is not None
        progress.note(name, f"rehearsal of {found.at:%H:%M} UTC is used again: {found.verdict.outcome.value}")
    outcome = found.verdict.outcome if found else Outcome.UNVERIFIED
    reasons = _reasons(found, trouble)
    shown = problems_text(found.verdict.problems[:_LISTED]) if found else f"  {reasons[0]}"
    if not reused:
        _log(settings, environment, run, progress, "rehearse", _details(manifest, found, outcome, reasons, key), found)
    if found is not None:
        seen(found)
    # One that is used again may age: the run looks once more before it applies, and takes both anew.
    aged = None if reused else _aged(settings, manifest)
    if aged is not None:
        outcome = Outcome.UNVERIFIED if outcome is Outcome.PASSED else outcome
        reasons, shown = [*reasons, aged], f"{shown}\n  {aged}".lstrip("\n")
    if outcome is Outcome.PASSED:
        assert found is not None
        progress.note(name, f"rehearsal {headline(found)}")
        return Passed(rehearsal=found, key=key, reused=reused)
    if override is None:
        _log(settings, environment, run, progress, "refuse", _refused(outcome, reasons), None)
        file = next((one.file for one in found.verdict.problems if one.file), None) if found else None
        raise RehearsalRefused(
            target=target,
            environment=name,
            outcome=outcome.value,
            problems=shown,
            more=max(0, len(reasons) - _LISTED),
            found=found is not None,
            again="deploy" if run.orchestrator_url else "sync",
            back=_back(environment, folder, file) if file else "",
            file=file,
            hopeless=found is not None and any(one.rule in BINDING for one in found.verdict.problems),
        )
    _log(
        settings, environment, run, progress, "override",
        {"gate": "rehearsal", "outcome": outcome.value, "reason": override, "by": who(), "problems": reasons[:_LISTED]},
        None,
    )  # fmt: skip
    progress.note(name, f"rehearsal: {outcome.value}, overridden by {who()}: {override}")
    return Passed(rehearsal=found, key=key, override=override, reused=reused, aged=aged is not None)


def _aged(settings: Settings, manifest: Manifest) -> str | None:
    """Say that a backup is too old to be relied on; None when it is not."""
    age = round((datetime.now(UTC) - manifest.taken_at).total_seconds() * 1_000)
    limit = settings.rehearsal.max_backup_age_ms
    if age <= limit:
        return None
    return (
        f"the backup is {format_ms(age)} old by now, and max_backup_age is {format_ms(limit)}: what was written since is not "
        "in the copy that was rehearsed"
    )


def _reasons(found: Rehearsal | None, trouble: LockstepError | None) -> list[str]:
    if found is None:
        assert trouble is not None
        return [f"{trouble.message}" + (f" → {trouble.hint}" if trouble.hint else "")]
    return [_text(one) for one in found.verdict.problems]


def _text(problem: Problem) -> str:
    place = ":".join(str(part) for part in (problem.file, problem.line) if part is not None)
    return f"{place}: {problem.message} ({problem.rule})" if place else f"{problem.message} ({problem.rule})"


def who() -> str:
    """Who is at work on this machine: alice@laptop."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _back(environment: Environment, folder: Folder, file: str) -> str:
    """The commands that take a file back where it was applied before this environment's turn."""
    versions = [one.version for one in folder.versioned if one.version is not None]
    own = next((one.version for one in folder.versioned if file in (one.name, one.verify and one.verify.name)), None)
    if own is None:
        return ""
    older = max((one for one in versions if one < own), default=None)
    to = "none" if older is None else older
    return " and ".join(f"lockstep revert {name} --to {to}" for name in environment.table.after)


def _refused(outcome: Outcome, reasons: list[str]) -> dict[str, object]:
    message = f"the rehearsal {outcome.value}: {'; '.join(reasons[:_LISTED])}"
    return {"why": "RehearsalRefused", "message": message[:500]}


def _details(
    manifest: Manifest, found: Rehearsal | None, outcome: Outcome, reasons: list[str], key: str | None
) -> dict[str, object]:
    details: dict[str, object] = {"backup": manifest.id, "outcome": outcome.value}
    if found is not None:
        details |= {"plan": found.plan_digest, "changes": found.change_digest, "key": key, "tier": found.copy.tier}
        if (worst := found.worst) is not None:
            details["worst"] = {"relation": worst.relation, "mode": worst.mode.value, "ms": round(worst.ms)}
    return details | ({"problems": reasons[:_LISTED]} if reasons else {})


def _log(
    settings: Settings,
    environment: Environment,
    run: RunInfo,
    progress: Progress,
    event: str,
    details: dict[str, object],
    found: Rehearsal | None,
) -> None:
    """Write into the environment's audit log. An override that cannot be logged is none; a rehearsal stands without."""
    made = Event(
        event=event,
        run_id=run.run_id,
        orchestrator_url=run.orchestrator_url,
        duration_ms=found.duration_ms if found else None,
        details=details,
    )
    session = open_session(target_of(settings, environment, with_settings=False), run_id=run.run_id)
    try:
        write_event(session, made)
    except psycopg.Error as error:
        if event == "override":
            raise
        progress.note(environment.name, f"the rehearsal is not in the audit log: SQLSTATE {error.sqlstate}")
    finally:
        session.close()
