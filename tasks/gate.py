"""What a protected environment needs before anything runs on it: a backup, and a rehearsal on it that passed."""

from __future__ import annotations

from lockstep.service.approval.gate import Wanted, refuse_overtaking
from lockstep.service.approved import wanted as what_is_wanted
from lockstep.service.drifting import refuse_drift, refuse_later_drift
from lockstep.service.rehearsal.gate import pass_rehearsal
from lockstep.service.safeguard import preflight as look
from lockstep.service.safeguard import refuse_restless, stale, take_backup
from lockstep.service.syncing import later_protected
from tasks.boundary import step
from tasks.report import store_rehearsal
from tasks.run import current, flow_run_of_deployment


@step("backup", "{environment}: backup")
def back_up(environment: str) -> None:
    """Back the whole database up to S3. A try that finds its own backup reuses it."""
    run = current()
    report = take_backup(run.settings, run.environment(environment), run.info, run.progress, attempt=run.attempt)
    run.results[environment].backup_key = report.manifest.key
    run.manifests[environment] = report.manifest


@step("rehearse", "{environment}: rehearse")
def rehearse(environment: str) -> None:
    """Try the plan on the backup that was just taken. A try that finds its own rehearsal of this plan uses it again."""
    run = current()
    planned = run.plans[environment]
    passed = pass_rehearsal(
        run.settings,
        run.environment(environment),
        run.folder,
        run.manifests[environment],
        run.info,
        run.progress,
        target=planned.target,
        expected_digest=planned.plan.digest,
        attempt=run.attempt,
        to_version=run.asked.to_version,
        include=run.asked.include,
        override=run.asked.override,
        seen=lambda found: store_rehearsal(environment, found),
    )
    run.results[environment].rehearsal = passed


@step("check for drift", "{environment}: check for drift")
def check_drift(environment: str) -> None:
    """Compare the schema with the recorded one before a backup is taken of it. Read-only."""
    run = current()
    if (found := refuse_drift(run.settings, run.environment(environment))) is not None:
        run.progress.note(environment, found)


def unchecked(environment: str) -> tuple[str, ...]:
    """Return, once in a run, the protected environments whose turn comes later."""
    run = current()
    if run.preflighted:
        return ()
    run.preflighted = True
    return tuple(one.name for one in later_protected(run.environments, run.environment(environment)))


@step("preflight", "{environment}: preflight")
def preflight(environment: str) -> None:
    """Look whether a backup could be taken when its turn comes, whether its schema drifted, and whether a run waits there."""
    run = current()
    look(run.settings, run.environment(environment), run.info, run.progress)
    refuse_later_drift(run.settings, run.environment(environment))
    refuse_overtaking(run.settings, run.environment(environment), run.info, run.progress)


def wanted(environment: str) -> Wanted:
    """Return what is to be approved: the plan, and the changes that its rehearsal made."""
    run = current()
    planned, passed = run.plans[environment], run.results[environment].rehearsal
    assert passed is not None  # `rehearse` came before
    manifest = run.manifests[environment]
    return what_is_wanted(
        planned.target, planned.plan, passed, manifest, again="deploy", flow_run=flow_run_of_deployment()
    )


@step("check the backup", "{environment}: check the backup")
def check_backup(environment: str) -> None:
    """Look whether the backup that was rehearsed can still be relied on, now that it is approved. Read-only."""
    run = current()
    passed = run.results[environment].rehearsal
    aged = stale(
        run.settings,
        run.environment(environment),
        run.info,
        run.manifests[environment],
        at_any_age=passed is not None and passed.aged,
    )
    if aged is not None:
        run.tries[environment] = run.tries.get(environment, 0) + 1
        refuse_restless(run.results[environment].target or environment, aged, run.tries[environment])
        run.progress.note(environment, f"{aged}: backed up and rehearsed again")
        run.manifests.pop(environment)


def relies_on_backup(environment: str) -> bool:
    """Whether `check_backup` let the backup stand."""
    return environment in current().manifests
