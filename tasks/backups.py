"""Backups: restored into an environment, and put to the proof."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect.artifacts import create_table_artifact

from lockstep.errors import LockstepError
from lockstep.service.project import target_of
from lockstep.service.proving import damage, to_verify, verify_chosen
from lockstep.service.replacing import afterwards
from lockstep.service.reporting import proof_table
from lockstep.service.restoring import (
    Replacement,
    RestoreChoices,
    chosen_line,
    loss,
    refuse_unless_named,
    restore,
    restored_line,
)
from lockstep.service.store import open_store, programs_of
from lockstep.storage.verification import Level
from tasks.boundary import step
from tasks.run import current, safe


@step("restore", "{environment}: restore", retry=False)
def restore_backup(environment: str, backup: str, of: str | None, replace: bool, database: str | None) -> str:
    """Restore one backup. What would be lost is in the run's log before a database is replaced."""
    run = current()

    def confirm(replacement: Replacement) -> None:
        for line in loss(replacement):
            run.progress.note(environment, line.strip())
        refuse_unless_named(replacement, database, hint=f"replace, with confirm = {replacement.database}")

    into = target_of(run.settings, run.environment(environment), with_settings=False)
    whose = run.environment(of).name if of else environment
    choices = RestoreChoices(replace=replace, confirm=confirm, programs=programs_of(run.settings))
    with open_store(run.settings) as store:
        manifest = store.backups.resolve(backup, whose, datetime.now(UTC))
        run.progress.note(environment, chosen_line(manifest, backup))
        report = restore(store.stored(manifest), into, run.info, run.progress, choices)
    for line in (*report.notices, *afterwards(report)):
        run.progress.note(environment, line)
    return restored_line(report)


@step("backups", "look for backups")
def chosen() -> tuple[str, ...]:
    """Name the environments whose newest backup is to be verified."""
    run = current()
    return to_verify(run.settings, run.environments)


@step("verify backup", "{environment}: verify backup")
def verify_newest(environment: str, level: str) -> None:
    """Verify the newest backup of one environment, and record it. Raises when it does not hold."""
    run = current()
    try:
        proofs = verify_chosen(run.settings, run.info, run.progress, level=Level(level), environment=environment)
    except Exception as error:
        run.failures[environment] = safe(error)
        raise
    run.failures.pop(environment, None)  # of a try before this one
    run.proofs[environment] = proofs
    if (found := damage(proofs)) is not None:
        run.failures[environment] = found
        raise found


@step("report", "report")
def report_proofs() -> None:
    """Store a row per environment: its backup, and what came of it."""
    run = current()
    create_table_artifact(
        proof_table(run.proofs, run.failures), key="verify-backups", description=f"run {run.info.run_id}"
    )


def proven() -> str:
    """Return what all proofs are, in one line. Raises when one does not hold: the error itself, or all of them."""
    run = current()
    failures = list(run.failures.values())
    if len(failures) == 1:
        raise failures[0]
    if failures:
        every = LockstepError("\n".join(error.message for error in failures), hint="lockstep backups list")
        every.exit_code = max(error.exit_code for error in failures)
        raise every
    words = [f"{name}: {proof.text}" for name, proofs in run.proofs.items() for proof in proofs]
    return "; ".join(words) or "there is no backup, and no environment needs one"
