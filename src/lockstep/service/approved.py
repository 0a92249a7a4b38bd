"""The gates of a protected environment in one go, for `sync`: backup, rehearsal, approval. The flow has them as tasks.

`revert` has gates of its own (`service.reverting`), and asks for approval here as well.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from lockstep.config import Environment, Settings
from lockstep.core.approval import Approval, Standing
from lockstep.core.migration import Folder
from lockstep.core.planner import Plan
from lockstep.core.rehearsal.summary import headline
from lockstep.core.rehearsal.verdict import Outcome
from lockstep.core.reverting import RevertPlan
from lockstep.postgres.entries import RunInfo
from lockstep.service.approval import gate
from lockstep.service.progress import Progress
from lockstep.service.rehearsal.gate import Passed, pass_rehearsal
from lockstep.service.safeguard import refuse_restless, stale, take_backup
from lockstep.storage.manifest import Manifest

if TYPE_CHECKING:
    from lockstep.service.approval.prompting import Prompt
    from lockstep.service.rehearsal.revertgate import Found


def wanted(
    target: str, plan: Plan, passed: Passed, manifest: Manifest, *, again: str, flow_run: str | None = None
) -> gate.Wanted:
    """Return what is to be approved: a plan, and the changes that its rehearsal made."""
    rehearsal = passed.rehearsal
    said = headline(rehearsal) if rehearsal else Outcome.UNVERIFIED.value
    outcome = rehearsal.verdict.outcome if rehearsal else Outcome.UNVERIFIED
    if outcome is Outcome.PASSED:  # and was overridden: on a backup that was too old by then
        outcome = Outcome.UNVERIFIED
    return gate.Wanted(
        target=target,
        plan_digest=plan.digest,
        change_digest=rehearsal.change_digest if rehearsal else None,
        what=tuple(step.name for step in plan.steps),
        headline=f"{said}, overridden: {passed.override}" if passed.override else said,
        backup=manifest.id,
        flow_run=flow_run,
        again=again,
        schema_token=manifest.ledger.schema_token if manifest.ledger else None,
        overridden=outcome.value if passed.override is not None else None,
    )


def wanted_revert(
    target: str,
    plan: RevertPlan,
    found: Found,
    manifest: Manifest | None,
    *,
    override: str | None,
    flow_run: str | None = None,
) -> gate.Wanted:
    """Return what is to be approved of a revert: the downs that run, and what is known of them."""
    said = f"revert: {found.text}"
    return gate.Wanted(
        target=target,
        plan_digest=plan.digest,
        change_digest=None,
        what=tuple(step.entry.name for step in plan.steps),
        headline=f"{said}; not proven, overridden: {override}" if found.problems else said,
        backup=manifest.id if manifest is not None else None,
        flow_run=flow_run,
        again="revert",
        # Whoever approves a loss approves this one: when it grew meanwhile, it is asked for anew.
        overridden=f"not proven: {'; '.join(found.problems)}" if found.problems else None,
    )


def _nobody_there(settings: Settings, asked: Approval, prompt: Prompt | None) -> bool:
    """Whether somebody else has to be told that a run waits: nobody at this terminal could approve it."""
    waits = asked.standing is Standing.WAITING
    return waits and bool(settings.alerts.urls) and (prompt is None or settings.approval.two_person)


def approved(
    settings: Settings,
    environment: Environment,
    run: RunInfo,
    wanted: gate.Wanted,
    progress: Progress,
    prompt: Prompt | None,
) -> None:
    """Ask for approval, and wait in this process until it is given. Raises NotApproved, RunWaits."""
    asked = gate.ask(settings, environment, run, wanted, progress)
    if _nobody_there(settings, asked, prompt):
        from lockstep.service.alerting.syncs import alert_waiting  # late: only where alerts go somewhere

        alert_waiting(settings, asked, progress)
    asked = gate.wait(settings, environment, run, asked, progress, prompt=prompt)
    gate.pass_on(wanted.target, environment.name, asked, again=wanted.again)
    if asked.answer is not None:
        reason = f": {asked.answer.reason}" if asked.answer.reason else ""
        progress.note(environment.name, f"approved by {asked.answer.by} ({asked.answer.role}){reason}")


def pass_gates(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    run: RunInfo,
    progress: Progress,
    *,
    target: str,
    plan: Plan,
    to_version: int | None,
    include: tuple[int, ...],
    override: str | None,
    prompt: Prompt | None,
) -> tuple[str, Passed]:
    """Back up, rehearse, and wait for approval; return the backup's key and what the rehearsal let pass.

    A backup that has aged meanwhile, or whose schema is not the one any more, is taken again with its rehearsal; the
    approval holds when plan and changes are the same. Raises what the gates raise: nothing of the target is changed.
    """
    name = environment.name
    gate.refuse_overtaking(settings, environment, run, progress)
    for tries in count(1):
        manifest = take_backup(settings, environment, run, progress).manifest
        passed = pass_rehearsal(
            settings, environment, folder, manifest, run, progress,
            target=target, expected_digest=plan.digest, to_version=to_version, include=include, override=override,
        )  # fmt: skip
        approved(settings, environment, run, wanted(target, plan, passed, manifest, again="sync"), progress, prompt)
        why = stale(settings, environment, run, manifest, at_any_age=passed.aged)
        if why is None:
            return manifest.key, passed
        refuse_restless(target, why, tries)
        progress.note(name, f"{why}: backed up and rehearsed again")
    raise AssertionError
