"""What a run leaves to read in the orchestrator: the table of an environment, the matrix, a short report in Markdown.

Turns results into rows and text; stores nothing. Times are absolute, since these are read days later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockstep.core.comparison import State
from lockstep.core.duration import format_ms
from lockstep.core.markdown import block, code, text
from lockstep.core.matrix import names, row_of, summary, words
from lockstep.core.migration import label
from lockstep.core.planner import Plan
from lockstep.core.rehearsal.summary import headline
from lockstep.errors import LockstepError, MigrationFailed
from lockstep.service.status import TargetStatus
from lockstep.service.syncing import EnvironmentResult

if TYPE_CHECKING:
    from lockstep.core.reverting import RevertStep
    from lockstep.service.health import HealthReport
    from lockstep.service.proving import Proof
    from lockstep.service.revertpreview import RevertPreview

Cell = str | int | None
Table = list[dict[str, Cell]]

_SHOWN = 12  # characters of a checksum or digest: enough to compare by eye


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One environment of a deploy, as its report sees it."""

    result: EnvironmentResult
    plan: Plan | None  # None: it did not come to a plan
    protected: bool
    dry_run: bool


def environment_table(outcome: Outcome, now: TargetStatus | None) -> Table:
    """Return a row per migration of the plan: migration, state, execution ms, checksum; what was rehearsed beside it.

    `now` is the ledger after the run, which knows best; without it (unreachable) the run's own memory serves.
    """
    if outcome.plan is None:
        return []
    applied = {done.name: done for done in outcome.result.applied}
    error = outcome.result.error
    failed = error.file if isinstance(error, MigrationFailed) else None
    rows: Table = [
        {
            "migration": one.label,
            "state": "applied",
            "execution ms": one.execution_ms,
            **_rehearsed(outcome.result, one.name),
            "checksum": one.checksum[:_SHOWN],
        }
        for one in outcome.result.earlier
    ]
    for step in outcome.plan.steps:
        row = row_of(now.rows, step.name, step.migration.version) if now else None
        entry = row.entry if row and row.state is State.APPLIED else None
        ms = entry.execution_ms if entry else None
        if step.name in applied:
            state = "applied"
            ms = applied[step.name].execution_ms if ms is None else ms
        elif step.name == failed:
            whole = step.migration.up.transactional
            state = "failed, rolled back" if whole else f"{words(row) if row else 'failed'}, what is done stays"
        elif error is not None and not outcome.dry_run:
            state = row.state.value if row else "not applied"
        else:
            state = "to apply" if outcome.dry_run else "pending"
        rows.append(
            {
                "migration": step.label,
                "state": state,
                "execution ms": ms,
                **_rehearsed(outcome.result, step.name),
                "checksum": step.checksum[:_SHOWN],
            }
        )
    return rows


def _rehearsal_line(result: EnvironmentResult) -> str:
    passed = result.rehearsal
    if passed is None:
        return ""
    what = headline(passed.rehearsal) if passed.rehearsal else "could not verify"
    return f"; rehearsal {text(what)}" + (f", **overridden**: {text(passed.override)}" if passed.override else "")


def _rehearsed(result: EnvironmentResult, name: str) -> dict[str, Cell]:
    """What the rehearsal says of one migration: its time, and how long others would wait; nothing without one."""
    rehearsal = result.rehearsal.rehearsal if result.rehearsal else None
    if rehearsal is None:
        return {}
    trace = rehearsal.file(name)
    worst = trace.worst if trace else None
    return {
        "rehearsed ms": round(trace.work_ms) if trace else None,
        "blocks others ms": round(worst.ms) if worst else 0 if trace else None,
    }


def environment_line(outcome: Outcome) -> str:
    """Return what happened to one environment, in one sentence of Markdown."""
    result, plan = outcome.result, outcome.plan
    place = result.target.removeprefix(result.environment).strip(" ()")
    head = f"**{text(result.environment)}**" + (f" ({text(place)})" if place else "")
    ran = [*result.earlier, *result.applied]
    total = len(result.earlier) + (len(plan.steps) if plan else 0)
    done = len(ran)
    if result.error is not None:
        what = f"**failed**: {done} of {total} applied" if plan else "**failed** before anything was applied"
    elif outcome.dry_run:
        what = f"{total} to apply (dry run: nothing was changed)" if total else "nothing to do"
    elif total:
        took = format_ms(sum(one.execution_ms for one in ran))
        what = f"{done} applied and verified in {took}"
    else:
        what = "nothing to do, up to date"
    backup = f"; backup {code(result.backup_key)}" if result.backup_key else ""
    backup += _rehearsal_line(result)
    digest = f"; plan `{result.plan_digest[:_SHOWN]}`" if result.plan_digest else ""
    audit = f"; audit log {code(result.audit.text)}" if result.audit else ""
    return f"{head}: {what}{backup}{digest}{audit}"


def deploy_report(
    outcomes: Sequence[Outcome],
    *,
    run_id: str,
    reason: str | None,
    not_started: Sequence[str],
    error: LockstepError | None,
) -> str:
    """Return the report of a whole deploy in Markdown."""
    lines = [f"Run {code(run_id)}" + (f", reason: {text(reason)}" if reason else ""), ""]
    lines += [f"- {environment_line(one)}" for one in outcomes]
    lines += [f"- **{text(name)}**: not started" for name in not_started]
    lines += _error_lines(error)
    return "\n".join(lines)


def revert_table(
    preview: RevertPreview | None,
    now: TargetStatus | None,
    done: Sequence[tuple[str, int]],
    error: LockstepError | None,
    *,
    dry_run: bool,
) -> Table:
    """Return a row per migration of a revert: migration, state, execution ms.

    `now` is the ledger after it, which knows best; without it (unreachable) the run's own memory serves.
    """
    if preview is None:
        return []
    rows: Table = [
        {"migration": label(name), "state": "reverted", "execution ms": ms} for name, ms in (*preview.earlier, *done)
    ]
    taken = {name for name, _ in done}
    for step in preview.plan.steps:
        if step.entry.name not in taken:
            failed = isinstance(error, MigrationFailed) and error.file == step.down.name
            state = "to take back" if dry_run else _left(step, now, failed=failed)
            rows.append({"migration": label(step.entry.name), "state": state, "execution ms": None})
    return rows


def _left(step: RevertStep, now: TargetStatus | None, *, failed: bool) -> str:
    """What a migration is that was not taken back, or whose answer was lost."""
    if now is None or now.error is not None:
        return "not known: the ledger could not be read"
    row = row_of(now.rows, step.entry.name, step.entry.version)
    if row is None or row.entry is None:
        return "reverted"  # the answer was lost, and the ledger has it
    if failed:
        whole = step.down.transactional
        return f"its revert failed, rolled back: {words(row)}" if whole else f"its revert failed half-way: {words(row)}"
    return f"still {words(row)}"


def revert_report(
    environment: str,
    preview: RevertPreview | None,
    now: TargetStatus | None,
    done: Sequence[tuple[str, int]],
    known: str | None,
    *,
    run_id: str,
    reason: str | None,
    backup_key: str | None,
    error: LockstepError | None,
) -> str:
    """Return the report of a revert in Markdown. `known`: what was known of it before it ran."""
    lines = [f"Run {code(run_id)}" + (f", reason: {text(reason)}" if reason else ""), ""]
    total = len(preview.earlier) + len(preview.plan.steps) if preview else 0
    count = (len(preview.earlier) if preview else 0) + len(done)
    lines += [
        f"- **{text(environment)}**: {count} of {total} reverted"
        if total
        else f"- **{text(environment)}**: nothing to revert"
    ]
    lines += [f"- before it ran: {text(known)}"] if known else []
    lines += [f"- backup {code(backup_key)}"] if backup_key else []
    if now is not None:
        lines += [f"- now: {text(status_line(now))}"]
    return "\n".join([*lines, *_error_lines(error)])


def _error_lines(error: LockstepError | None) -> list[str]:
    if error is None:
        return []
    lines = ["", block(error.message)]
    if error.hint:
        command = re.fullmatch(r"lockstep [\w .:-]+", error.hint)
        lines += [f"Next: {code(error.hint)}" if command else f"Next: {text(error.hint)}"]
    return lines


def status_table(found: Sequence[TargetStatus]) -> Table:
    """Return the matrix: a row per migration, a column per environment. An unreadable one says so in every row."""
    columns = {one.environment: one.rows for one in found if one.error is None}
    rows: Table = []
    for name, version in names(columns):
        cells: dict[str, Cell] = {"migration": label(name)}
        for one in found:
            cells[one.environment] = _cell(one, name, version)
        rows.append(cells)
    return rows


def proof_table(proofs: Mapping[str, Sequence[Proof]], failures: Mapping[str, LockstepError]) -> Table:
    """Return a row per backup that was verified, and per environment where it came to none."""
    rows: Table = []
    for name, found in proofs.items():
        for proof in found:
            result = "; ".join(proof.findings) or proof.text
            rows.append({"environment": name, "backup": proof.backup, "level": proof.level.value, "result": result})
    rows += [
        {"environment": name, "backup": None, "level": None, "result": error.message}
        for name, error in failures.items()
        if name not in proofs
    ]
    return rows


def health_table(reports: Sequence[HealthReport]) -> Table:
    """Return a row per finding, worst first in each environment, and per environment that could not be read."""
    rows: Table = []
    for one in reports:
        if one.error is not None:
            rows.append({"environment": one.environment, "severity": "not readable", "what": one.error.message})
        rows += [
            {
                "environment": one.environment,
                "severity": finding.severity.value,
                "check": finding.check,
                "object": finding.object,
                "what": finding.text,
                "run": finding.fix,
            }
            for finding in one.findings
        ]
    return rows


def _cell(one: TargetStatus, name: str, version: int | None) -> str:
    if one.error is not None:
        return "not readable"
    row = row_of(one.rows, name, version)
    if row is None:
        return "—"
    return words(row) + (f" {row.entry.applied_at:%Y-%m-%d %H:%M} UTC" if row.entry else "")


def status_line(one: TargetStatus) -> str:
    """Return what an environment is, in one sentence."""
    if one.error is not None:
        return one.error.message
    return summary(one.environment, one.rows) if one.initialised else f"no ledger yet → lockstep init {one.environment}"
