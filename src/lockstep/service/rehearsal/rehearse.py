"""The use case "rehearse": a backup restored, the plan tried on it, its way back proven, and what that comes to."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from lockstep import __version__
from lockstep.config import Environment, Settings
from lockstep.core.duration import format_ms
from lockstep.core.migration import Folder, SqlFile
from lockstep.core.rehearsal.calibration import calibrate
from lockstep.core.rehearsal.report import Rehearsal, predicted, uncovered
from lockstep.core.rehearsal.verdict import Note, Outcome, Problem
from lockstep.core.rehearsal.waysback import ways_back
from lockstep.errors import LockstepError, MigrationFailed, PlanRefused
from lockstep.postgres.entries import RunInfo
from lockstep.service.filling import StoredBackup
from lockstep.service.planning import plan_target
from lockstep.service.progress import Progress, Silent
from lockstep.service.rehearsal.doubts import doubts_of
from lockstep.service.rehearsal.proofs import prove, why
from lockstep.service.rehearsal.resuming import Resumed, resume_halfway
from lockstep.service.rehearsal.stage import open_stage
from lockstep.service.rehearsal.trials import Tried, try_plan
from lockstep.service.rehearsal.verdicts import reach_verdict


def rehearse(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    backup: StoredBackup,
    run: RunInfo,
    progress: Progress,
    *,
    attempt: int = 1,
    to_version: int | None = None,
    include: Iterable[int] = (),
    expected_digest: str | None = None,
) -> Rehearsal:
    """Rehearse what is pending on a copy of one environment. Its database is not asked; a failure is a finding.

    Raises what `open_stage` and `try_plan` raise: then nothing was found out.
    """
    started = time.monotonic()
    name, include = environment.name, tuple(include)
    progress.started(name, "rehearsal")
    with open_stage(settings, environment, backup, progress, run=run, files=may_run(folder, backup, include)) as stage:

        def step(what: str) -> None:
            progress.under_way(name, "rehearsal", what)

        step(f"restored in {format_ms(stage.copy.restore_ms)}; the plan is tried")
        if _named(folder, backup.manifest.database):
            stage.namesake(backup.manifest.database)
        clone = stage.clone()
        tried = try_plan(
            clone,
            folder,
            run,
            Silent(),
            to_version=to_version,
            include=include,
            expected_digest=expected_digest,
            hold=lambda plan: doubts_of(clone, plan).held(plan, isolated=stage.server.isolated),
        )
        try:
            resumed = resume_halfway(stage, tried, folder, run, to_version=to_version, include=include)
        except MigrationFailed as error:
            resumed = Resumed(problems=(_untried("what happens when it is cut off half-way", error),))
        step("the way back is tried")
        doubts = doubts_of(clone, tried.plan, tried.files)  # before the downs change the clone
        try:
            proofs = prove(stage, tried, folder, run, to_version=to_version, include=include, doubtful=doubts.downs)
        except MigrationFailed as error:
            proofs = ()
            resumed = replace(resumed, problems=(*resumed.problems, _untried("the way back", error)))
        verdict = reach_verdict(
            settings, environment, folder, stage, tried,
            proofs=proofs, found=(*doubts.ups, *resumed.problems), notes=(*resumed.notes, *_uncovered(settings, tried)),
        )  # fmt: skip
        changes, objects, digest = predicted(tried.changes, settings.project.schemas)
        took = round((time.monotonic() - started) * 1_000)
        found = Rehearsal(
            environment=name,
            run_id=run.run_id,
            attempt=attempt,
            at=datetime.now(UTC),
            duration_ms=took,
            plan_digest=tried.plan.digest,
            copy=stage.copy,
            verdict=verdict,
            files=tried.files,
            held=tried.plan.stopped_by.name if tried.plan.stopped_by else None,
            planned=tuple(step.name for step in tried.plan.steps),
            proofs=proofs,
            ways_back=ways_back(proofs, environment=name, plan=tried.plan, copy=stage.copy),
            changes=changes,
            objects=objects,
            change_digest=digest,
            roles=tuple(sorted(tried.states[-1].roles)),
            calibration=calibrate(tried.pairs),
            tool_version=__version__,
        )
    if verdict.outcome is Outcome.PASSED:
        progress.finished(name, "rehearsal", verdict.outcome.value, took)
    else:
        progress.note(name, f"  rehearsal  {verdict.outcome.value}  {format_ms(took)}")
    return found


def may_run(folder: Folder, backup: StoredBackup, include: Iterable[int] = ()) -> list[SqlFile]:
    """Return the files that a plan on this backup may run, its way back among them: which ones, only its ledger knows."""
    ledger = backup.manifest.ledger
    newest = ledger.version if ledger is not None and ledger.version is not None else -1
    wanted = [
        one for one in folder.migrations if one.version is None or one.version > newest or one.version in set(include)
    ]
    return [file for one in wanted for file in (one.up, one.down, one.verify) if file is not None]


def _untried(what: str, error: MigrationFailed) -> Problem:
    """A trial that could not be made, because a file that ran before does not run once more on the copy."""
    return Problem(
        outcome=Outcome.UNVERIFIED,
        rule="not-tried",
        message=f"{what} could not be tried: {why(error)}",
        file=error.file,
        line=error.line,
        advice="the plan itself ran on the copy; what it leaves outside of its database may be in its own way",
    )


def _uncovered(settings: Settings, tried: Tried) -> tuple[Note, ...]:
    """What a deploy changes where nobody compares it afterwards."""
    return tuple(
        Note(
            message=f"it changes the schema {name}, which is not among schemas under [project]: what the deploy changes "
            "there is not compared with this, and what others change there is no drift"
        )
        for name in uncovered(tried.changes, settings.project.schemas)
    )


def _named(folder: Folder, database: str) -> bool:
    """Whether a file of the project may name the database that it runs in."""
    pattern = re.compile(rf"\bdatabase\b[^;]{{0,200}}?{re.escape(database)}", re.IGNORECASE)
    files = (file for one in folder.migrations for file in (one.up, one.down) if file is not None)
    return any(pattern.search(file.text) for file in files)


def moved_on(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    found: Rehearsal,
    *,
    to_version: int | None = None,
    include: Iterable[int] = (),
) -> str | None:
    """Say that a deploy would do something else now than what was rehearsed; None when it would not. Read-only.

    An environment that cannot be asked says nothing: its own backup was enough for the rehearsal.
    """
    try:
        now = plan_target(settings, environment, folder, to_version=to_version, include=include)
    except PlanRefused as refused:
        return f"a deploy is refused there now: {refused.message.splitlines()[-1].strip()}"
    except LockstepError:
        return None
    if now.plan.digest == found.plan_digest:
        return None
    return (
        f"{environment.name} has moved on since this backup was taken: {len(now.plan.steps)} to apply there now, and "
        f"{len(found.planned)} here → lockstep rehearse {environment.name} --fresh"
    )
