"""From what a rehearsal saw to its verdict: budgets from the settings, advice from the files, what they allow."""

from __future__ import annotations

from collections.abc import Iterable

from lockstep.config import Environment, Settings
from lockstep.core.migration import Folder
from lockstep.core.rehearsal.judging import allowances_of, copy_differs, judge, reduced_copy
from lockstep.core.rehearsal.lacking import excused, lacking_problems
from lockstep.core.rehearsal.proof import RevertProof
from lockstep.core.rehearsal.verdict import Note, Problem, Verdict
from lockstep.service.rehearsal.budgets import budgets_of
from lockstep.service.rehearsal.failing import failure_of
from lockstep.service.rehearsal.stage import Stage
from lockstep.service.rehearsal.trials import Tried


def reach_verdict(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    stage: Stage,
    tried: Tried,
    *,
    proofs: Iterable[RevertProof] = (),
    found: Iterable[Problem] = (),
    notes: Iterable[Note] = (),
) -> Verdict:
    """Return the verdict. `found` and `notes` come from the other trials."""
    problems = [*copy_differs(stage.proof.differences), *found]
    if (reduced := reduced_copy(stage.copy.tier)) is not None:
        problems.append(reduced)
    if tried.error is not None:
        step = tried.plan.steps[len(tried.files)]
        failure = failure_of(tried.error, tried.clone, step.migration.up)
        problems.append(excused(failure, tried.error.sqlstate, stage.copy))
    problems += lacking_problems(stage.copy, [step.migration.up for step in tried.plan.steps])
    return judge(
        tried.files,
        budgets_of(settings, environment),
        proofs=proofs,
        found=problems,
        notes=notes,
        allowances=allowances_of(step.migration.up for step in tried.plan.steps),
    )
