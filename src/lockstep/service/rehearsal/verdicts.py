"""From what a rehearsal saw to its verdict: budgets from the settings, advice from the files, what they allow."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.migration import Folder, SqlFile
from lockstep.core.rehearsal.absent import absent_problems, excused, rowless_problems
from lockstep.core.rehearsal.advice import advice_of
from lockstep.core.rehearsal.calibration import calibrate
from lockstep.core.rehearsal.corrections import corrections
from lockstep.core.rehearsal.judging import Place, allowances_of, copy_differs, judge, reduced_copy, with_failure
from lockstep.core.rehearsal.proof import RevertProof
from lockstep.core.rehearsal.verdict import Note, Problem, Verdict
from lockstep.errors import MigrationFailed
from lockstep.postgres.partitions import read_partitioned
from lockstep.service.locks import parsing, plan_locks
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
    """Return the verdict. `found` and `notes` come from the other trials, doubts among them."""
    steps = tried.plan.steps
    problems = [*copy_differs(stage.proof.differences), *found]
    if (reduced := reduced_copy(stage.copy.tier)) is not None:
        problems.append(reduced)
    problems += absent_problems(stage.copy, [step.migration.up for step in steps])
    if tried.error is not None:
        file = steps[len(tried.files)].migration.up
        failure = failure_of(tried.error, tried.clone, file)
        source = tried.error.failing.source if tried.error.failing else None
        failure = excused(failure, tried.error.sqlstate, stage.copy, source)
        problems = with_failure(problems, failure, _line(tried.error, file))
    told = {(one.file, one.line, one.rule) for one in problems}
    rowless = rowless_problems(stage.copy, tried.files)
    problems += [one for one in rowless if (one.file, one.line, one.rule) not in told]
    stopped = tried.error is not None or tried.held is not None
    left = [step.name for step in steps[len(tried.files) + 1 :]] if stopped else []
    return judge(
        tried.files,
        budgets_of(settings, environment, calibrate(tried.pairs)),
        proofs=proofs,
        found=problems,
        notes=(*notes, *corrections(tried.files, plan_locks(tried.plan, folder))),
        left=left,
        advice=_advice(folder, stage, tried),
        allowances=allowances_of(step.migration.up for step in steps),
    )


def _advice(folder: Folder, stage: Stage, tried: Tried) -> dict[Place, str]:
    """What to do instead of each statement of the plan that could be told off. Every file of the project is read."""
    with psycopg.connect(tried.clone.admin, autocommit=True) as connection:
        facts = read_partitioned(connection)
    ups = [migration.up for migration in folder.migrations]
    major = int(stage.copy.source_version.split(".")[0].split(" ")[0])
    return advice_of(parsing(ups), [step.name for step in tried.plan.steps], facts, major=major)


def _line(error: MigrationFailed, file: SqlFile) -> int | None:
    """Where the statement that failed begins."""
    if error.failing is None or error.failing.statement is None or error.file != file.name:
        return None
    return file.script().statements[error.failing.statement].line
