"""`sync`: bring environments up to date in promotion order, with the deploy's own gates, without Prefect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.counting import counted
from lockstep.core.duration import format_ms
from lockstep.core.migration import Folder
from lockstep.core.planner import Plan, Step
from lockstep.core.runs import Ran
from lockstep.errors import ChangedOtherwise, Held, LockstepError
from lockstep.postgres.entries import RunInfo
from lockstep.service.applying import Applied, ApplyRun, open_apply
from lockstep.service.planning import TargetPlan, plan_target
from lockstep.service.progress import Progress
from lockstep.service.promotion import refuse_unpromoted
from lockstep.service.recording import LISTED, Recording, look_again, tell

if TYPE_CHECKING:
    from lockstep.core.rehearsal.outcome import Beside
    from lockstep.service.ailing import Health
    from lockstep.service.approval.prompting import Prompt
    from lockstep.service.rehearsal.gate import Passed


@dataclass(slots=True, kw_only=True)
class EnvironmentResult:
    """What happened to one environment."""

    environment: str
    target: str = ""  # shown name
    plan_digest: str = ""
    applied: list[Applied] = field(default_factory=list)
    earlier: tuple[Applied, ...] = ()  # applied by this run before it waited, or before it was tried again
    backup_key: str | None = None  # of the dump in the bucket
    rehearsal: Passed | None = None  # that let the run go on
    recording: Recording | None = None  # what the run did to the schema
    health: Health | None = None  # before anything was applied; None: nobody looked
    audit: AuditEnd | None = None  # where the audit log ended when the run let go of the lock; None: nothing changed
    error: LockstepError | None = None  # why it stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What happened, environment by environment."""

    run_id: str
    results: tuple[EnvironmentResult, ...]
    not_started: tuple[str, ...]  # environments behind the one that failed

    @property
    def error(self) -> LockstepError | None:
        return next((r.error for r in self.results if r.error), None)


def sync(
    settings: Settings,
    environments: Sequence[Environment],
    folder: Folder,
    run: RunInfo,
    progress: Progress,
    *,
    to_version: int | None = None,
    include: Iterable[int] = (),
    wait_seconds: float = 0.0,
    override: str | None = None,
    prompt: Prompt | None = None,
) -> SyncReport:
    """Apply what is pending, environment after environment; stop at the first that fails. Never raises for a target.

    `override`: go on although a rehearsal did not pass, for this reason. `prompt` answers for approvals; without it a
    protected environment waits, under its lock, until somebody answers elsewhere.
    """
    results: list[EnvironmentResult] = []
    unchecked = list(environments)  # their backups' needs; looked at once, when something is to be applied
    for index, environment in enumerate(environments):
        result = EnvironmentResult(environment=environment.name)
        results.append(result)
        try:
            _one(
                settings, environment, folder, run, progress, result,
                to_version=to_version, include=tuple(include), wait_seconds=wait_seconds,
                done=tuple(r.environment for r in results[:-1]), unchecked=unchecked, override=override, prompt=prompt,
            )  # fmt: skip
        except LockstepError as error:
            result.error = error
            rest = tuple(e.name for e in environments[index + 1 :])
            return SyncReport(run_id=run.run_id, results=tuple(results), not_started=rest)
    return SyncReport(run_id=run.run_id, results=tuple(results), not_started=())


def _one(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    run: RunInfo,
    progress: Progress,
    result: EnvironmentResult,
    *,
    to_version: int | None,
    include: tuple[int, ...],
    wait_seconds: float,
    done: tuple[str, ...],
    unchecked: list[Environment],
    override: str | None,
    prompt: Prompt | None,
) -> None:
    name = environment.name
    # Under the lock from the plan to the last migration, the backup included: what is told is what runs, and a run
    # that waited for another one plans after it.
    with open_apply(
        settings, environment, folder, run, to_version=to_version, include=include, wait_seconds=wait_seconds
    ) as applying:
        plan = applying.plan
        result.target, result.plan_digest, result.applied = applying.target, plan.digest, applying.applied
        result.recording = applying.recording
        tell_plan(progress, name, applying.target, plan)
        tell(applying.recording, lambda text: progress.note(name, text))
        refuse_unpromoted(settings, environment, applying.target, plan, progress, done=done)
        if plan.steps:
            later, unchecked[:] = later_protected(unchecked, environment), []
            if later:
                check_later(settings, later, run, progress, name)
        if plan.steps and environment.protected:
            from lockstep.service.approved import pass_gates  # late: 15 ms of imports

            result.backup_key, result.rehearsal = pass_gates(
                settings, environment, folder, run, progress,
                target=applying.target, plan=plan, to_version=to_version, include=include, override=override,
                prompt=prompt,
            )  # fmt: skip
            rely_on(applying, settings, result)
            look_again(settings, environment, applying.work, applying.recording)
            tell(applying.recording, lambda text: progress.note(name, text))
        if plan.steps:
            look_before(settings, environment, result)
        applying.hurried = not environment.protected
        try:
            for step in plan.steps:
                apply_step(applying, step, progress, name)
        except (KeyboardInterrupt, SystemExit):
            count = f"{len(result.applied)} of {len(plan.steps)}"
            progress.note(
                name,
                f"interrupted: {count} done; lockstep status {name} shows how far the next one came, "
                f"lockstep sync {name} goes on",
            )
            raise
        finally:
            note_audit_end(applying, result)
    if result.applied:
        verify_applied(settings, environment, folder, progress, result)
        look_after(settings, environment, run, progress, result)
    refuse_held(result.target, plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEnd:
    """Where an audit log ended: `lockstep history ENV --verify --head ROW:HASH` compares the log with it."""

    row: int  # number of the newest event
    hash: str  # of it

    @property
    def text(self) -> str:
        return f"{self.row}:{self.hash}"


# -- the parts, which the deploy flow runs one by one as tasks ---------------------------------------------------------


def preview_target(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    progress: Progress,
    result: EnvironmentResult,
    *,
    to_version: int | None = None,
    include: Iterable[int] = (),
) -> TargetPlan:
    """Make the plan, tell it, and note it in `result`. Read-only."""
    preview = plan_target(settings, environment, folder, to_version=to_version, include=include)
    result.target = preview.target
    result.plan_digest = preview.plan.digest
    tell_plan(progress, environment.name, preview.target, preview.plan)
    return preview


def later_protected(environments: Sequence[Environment], now: Environment) -> tuple[Environment, ...]:
    """Return the protected environments whose turn comes later. The one whose turn it is finds out by its own backup."""
    names = [environment.name for environment in environments]
    if now.name not in names:
        return ()
    return tuple(e for e in environments[names.index(now.name) + 1 :] if e.protected)


def check_later(settings: Settings, later: Sequence[Environment], run: RunInfo, progress: Progress, name: str) -> None:
    """Look, before `name` is changed, whether the backups of later environments could be taken. Raises what they would."""
    from lockstep.service.drifting import refuse_later_drift  # late: a run with nothing to do need not know
    from lockstep.service.safeguard import preflight

    for environment in later:
        try:
            preflight(settings, environment, run, progress)
        except LockstepError:
            progress.note(name, f"nothing was applied: {environment.name}, which comes later, could not be backed up")
            raise
        refuse_later_drift(settings, environment)


def rely_on(applying: ApplyRun, settings: Settings, result: EnvironmentResult) -> None:
    """Give a run what its rehearsal found out: it goes into the ledger with each migration."""
    if result.rehearsal is not None:
        applying.rehearsal = result.rehearsal.rehearsal
        applying.overridden = result.rehearsal.override is not None
        applying.derive_timeout = settings.rehearsal.derive_statement_timeout


def apply_step(applying: ApplyRun, step: Step, progress: Progress, name: str) -> Applied:
    """Apply the next step under the lock, and tell it. Raises what ApplyRun.apply raises."""
    progress.started(name, applying.about(step))
    done = applying.apply(
        step,
        lambda tries, why: progress.note(name, f"{step.label}: waiting for a lock (try {tries}: {why})"),
        lambda text: progress.note(name, text),
    )
    progress.finished(name, step.label, "applied", done.execution_ms)
    return done


def note_audit_end(applying: ApplyRun, result: EnvironmentResult) -> None:
    """Note in `result` where the audit log ends, under the lock, when the run changed something. Never raises for it."""
    if not applying.applied:
        return
    from lockstep.postgres.auditchain import read_end  # late: a run with nothing to do need not know

    with suppress(psycopg.Error, LockstepError):
        if (end := read_end(applying.work.session)) is not None:
            result.audit = AuditEnd(row=end[0], hash=end[1])


def verify_applied(
    settings: Settings, environment: Environment, folder: Folder, progress: Progress, result: EnvironmentResult
) -> None:
    """Verify what `result` says was applied, and tell it. Raises what `verify` raises."""
    from lockstep.service.verifying import verify

    checked = verify(settings, environment, folder, [applied.name for applied in result.applied])
    word = counted(checked.scripts, "verify script holds", "verify scripts hold")
    scripts = f", {word}" if checked.scripts else ""
    took = format_ms(sum(a.execution_ms for a in result.applied))
    rows = predicted_and_actual(result)
    rehearsed = sum(one.rehearsed_ms for one in rows)
    times = f" (rehearsed {format_ms(round(rehearsed))})" if rows else ""
    said = f"{checked.migrations} applied and verified in {took}{times}{scripts}"
    recording = result.recording
    tell(recording, lambda text: progress.note(environment.name, text))
    if recording is None or recording.after is None:
        progress.note(environment.name, said)
        return
    from lockstep.service.predicting import REHEARSAL, check_changes

    ran = [Ran(one.name, one.file_checksum, "applied") for one in result.applied]
    rehearsal = result.rehearsal.rehearsal if result.rehearsal else None
    changed = check_changes(settings, environment, recording, ran, checked.applied, rehearsal=rehearsal)
    progress.note(environment.name, f"{said}; {changed.text}")
    for text in () if environment.stops_on_drift else changed.otherwise:
        progress.note(environment.name, text)
    if changed.otherwise and environment.stops_on_drift:
        raise ChangedOtherwise(
            target=result.target,
            environment=environment.name,
            source=changed.source or "",
            rehearsed=changed.source == REHEARSAL,
            lines=changed.otherwise[:LISTED],
            more_lines=max(0, len(changed.otherwise) - LISTED),
        )


def look_before(settings: Settings, environment: Environment, result: EnvironmentResult) -> None:
    """Note how a protected target is before anything is applied. Never raises, takes a second at most."""
    if environment.protected:
        from lockstep.service.ailing import look  # late: most runs are on dev

        result.health = look(settings, environment)


def look_after(
    settings: Settings, environment: Environment, run: RunInfo, progress: Progress, result: EnvironmentResult
) -> None:
    """Tell what ails the target since, and run the application's check. Raises CheckFailed."""
    if result.health is not None:
        from lockstep.service.ailing import tell_new

        tell_new(settings, environment, result.health, progress)
    if environment.table.check is not None:
        from lockstep.service.checking import check_applied

        check_applied(settings, environment, run, progress, result)


def predicted_and_actual(result: EnvironmentResult) -> tuple[Beside, ...]:
    """Return each migration that was applied and rehearsed, with both times."""
    from lockstep.core.rehearsal.outcome import beside

    rehearsal = result.rehearsal.rehearsal if result.rehearsal else None
    if rehearsal is None:
        return ()
    found = (
        beside(rehearsal.file(one.name), rehearsal.calibration, actual_ms=one.execution_ms, tries=one.tries)
        for one in result.applied
    )
    return tuple(one for one in found if one is not None)


def summary(applied: Mapping[str, int], *, whole: bool) -> str:
    """How a good run ended, in one sentence. `applied`: environment -> count. `whole`: all environments took part."""
    count = sum(applied.values())
    where = ", ".join(name for name, number in applied.items() if number)
    if not count:
        return "in step: nothing to do" if whole else "nothing to do"
    return f"in step: {count} applied ({where})" if whole else f"{count} applied ({where})"


def refuse_held(target: str, plan: Plan) -> None:
    """Raise Held when the plan stopped before a version that was reverted."""
    if (hold := plan.stopped_by) is not None:
        raise Held(target=target, file=hold.name, version=hold.version)


def tell_plan(progress: Progress, name: str, target: str, plan: Plan) -> None:
    """Tell what a plan is going to do, and what it warns of."""
    count = len(plan.steps)
    what = f"{counted(count, 'migration')} to apply" if count else "nothing to do"
    progress.note(name, f"{target.removeprefix(name).strip(' ()')}: {what}")
    for notice in plan.notices if plan.steps else ():
        progress.note(name, f"note: {notice.message}")
    for step in plan.steps:
        if not step.migration.up.script().statements:
            progress.note(name, f"note: {step.name} holds no statement; once applied, it cannot be filled in any more")
