"""Trial A: the plan on a clone, by the engine itself, statement by statement in the real run's transactions, traced."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lockstep.core.changes import Change
from lockstep.core.fingerprint import Fingerprint
from lockstep.core.migration import Folder
from lockstep.core.planner import Plan
from lockstep.core.rehearsal.calibration import Pair
from lockstep.core.rehearsal.trace import FileTrace
from lockstep.errors import MigrationFailed
from lockstep.postgres.connection import Target
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.fingerprint import read_live
from lockstep.postgres.timings import read_rehearsed
from lockstep.postgres.tracing import TracingWatch
from lockstep.service.applying import open_apply
from lockstep.service.progress import Progress
from lockstep.service.rehearsal.stage import Clone
from lockstep.service.syncing import apply_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What trial A gave."""

    clone: Clone  # as the plan left it
    plan: Plan
    files: tuple[FileTrace, ...]  # of the steps that went through
    states: tuple[Fingerprint, ...]  # before the plan, then after each of these steps
    changes: tuple[Change, ...]  # of the whole plan
    pairs: tuple[Pair, ...]  # what earlier rehearsals said, and what came of them, by the copy's audit log
    error: MigrationFailed | None = None  # of the step after them
    held: str | None = None  # the step after them, which was not to be tried


def try_plan(
    clone: Clone,
    folder: Folder,
    run: RunInfo,
    progress: Progress,
    *,
    to_version: int | None = None,
    include: Iterable[int] = (),
    expected_digest: str | None = None,
    hold: Callable[[Plan], str | None] | None = None,
) -> Tried:
    """Apply the plan to a clone, traced. A migration that fails is no error here, but a finding.

    `hold` names the step that it stops before, if any: one that a copy cannot be trusted with.

    Raises StalePlan when the plan that the copy's ledger gives is not the expected one, PlanRefused, Unreachable.
    """
    watches: list[TracingWatch] = []

    def watch(target: Target, run_id: str) -> TracingWatch:
        watches.append(TracingWatch(target, run_id))
        return watches[-1]

    files: list[FileTrace] = []
    states: list[Fingerprint] = []
    error: MigrationFailed | None = None
    with open_apply(
        clone.settings,
        clone.environment,
        folder,
        run,
        to_version=to_version,
        include=include,
        expected_digest=expected_digest,
        watch=watch,
    ) as applying:
        watching = watches[0]
        states.append(read_live(applying.work.session).fingerprint)
        pairs = read_rehearsed(applying.work.session)
        held = hold(applying.plan) if hold else None
        for step in applying.plan.steps:
            if step.name == held:
                break
            watching.begin_file(applying.work.session, step.name, step.migration.up)
            try:
                apply_step(applying, step, progress, clone.environment.name)
            except MigrationFailed as failed:
                error = failed
                break
            files.append(watching.end_file(applying.work.session))
            states.append(read_live(applying.work.session).fingerprint)
        plan, recording = applying.plan, applying.recording
    return Tried(
        clone=clone,
        plan=plan,
        files=tuple(files),
        states=tuple(states),
        changes=recording.changes,
        pairs=pairs,
        error=error,
        held=held if error is None else None,
    )
