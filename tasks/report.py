"""What a run leaves to read: a table per environment and a short report. It never turns a good run into a failed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from lockstep.core.rehearsal.markdown import rehearsal_markdown
from lockstep.core.rehearsal.report import Rehearsal
from lockstep.errors import LockstepError, MigrationFailed
from lockstep.service.deploying import artifact_key
from lockstep.service.morning import overview_line, overview_markdown
from lockstep.service.reporting import (
    Outcome,
    deploy_report,
    environment_line,
    environment_table,
    status_table,
)
from lockstep.service.status import target_status
from tasks.boundary import step
from tasks.history import report_history
from tasks.plan import begin
from tasks.run import Run, current, safe
from tasks.status import seen


@step("report", "{environment}: report")
def report_environment(environment: str) -> None:
    """Store the environment's table: migration, state, execution ms, checksum."""
    run = current()
    outcome = _outcome(run, environment)
    if outcome.plan is None:
        return
    read = target_status(run.settings, run.environment(environment), run.folder) if outcome.plan.steps else None
    create_table_artifact(
        environment_table(outcome, read if read and read.error is None else None),
        key=artifact_key("deploy", environment),
        description=environment_line(outcome),
    )


def store_rehearsal(environment: str, rehearsal: Rehearsal) -> None:
    """Store a rehearsal's report, which is what whoever approves reads. Trouble with it is told and stops nothing."""
    try:
        create_markdown_artifact(
            rehearsal_markdown(rehearsal),
            key=artifact_key("rehearsal", environment),
            description=f"run {rehearsal.run_id}",
        )
    except Exception as error:
        current().progress.note(environment, f"the rehearsal's report could not be stored: {safe(error).message}")


@step("report", "report")
def report_deploy() -> None:
    """Store the report of the whole run."""
    run = current()
    started = [name for name in run.names if name in run.results]
    create_markdown_artifact(
        deploy_report(
            [_outcome(run, name) for name in started],
            run_id=run.info.run_id,
            reason=run.asked.reason,
            not_started=[name for name in run.names if name not in run.results],
            error=run.error,
        ),
        key="deploy",
        description=run.summary,
    )


@step("report", "report")
def report_status() -> None:
    """Store what the morning is told: the overview, and the whole matrix as a table of its own.

    A look at some environments alone has keys of its own: it is no answer for all, and replaces none.
    """
    found = seen()
    whole, line = current().whole, overview_line(found)
    names = "-".join(one.environment for one in found.environments)
    part = "" if whole else f"Only {', '.join(one.environment for one in found.environments)}. "
    create_markdown_artifact(
        (f"**{part.strip()}** The other environments were not looked at.\n\n" if part else "")
        + overview_markdown(found),
        key="overview" if whole else artifact_key("overview", names),
        description=f"{part}{line}",
    )
    create_table_artifact(
        status_table([one.status for one in found.environments]),
        key="status" if whole else artifact_key("status", names),
        description=f"{part}{line}",
    )


@contextmanager
def reported(environment: str) -> Iterator[None]:
    """Make an environment's table when its turn ends, well or not. An error goes on to stop the run."""
    result = begin(environment)
    try:
        yield
    except Exception as error:
        result.error = safe(error)
        _quietly(report_environment, environment)
        raise
    _quietly(report_environment, environment)


@contextmanager
def summarised() -> Iterator[None]:
    """Make the report of the whole run when it ends, well or not."""
    try:
        yield
    except Exception as error:
        current().error = safe(error)
        _quietly(report_deploy)
        _history()
        raise
    _quietly(report_deploy)
    _history()


def _history() -> None:
    """How long things took, where something ran."""
    run = current()
    ran = [
        name
        for name, result in run.results.items()
        if result.applied or result.earlier or isinstance(result.error, MigrationFailed)
    ]
    if ran and not run.asked.dry_run:
        report_history(run.names, pictures=False)  # somebody may wait for this run; the night has the pictures


def _quietly(make: Callable[..., None], *arguments: str) -> None:
    try:
        make(*arguments)
    except LockstepError as error:
        where = arguments[0] if arguments else "report"
        current().progress.note(where, f"the report could not be stored: {error.message}")


def _outcome(run: Run, environment: str) -> Outcome:
    preview = run.plans.get(environment)
    return Outcome(
        result=run.results[environment],
        plan=preview.plan if preview else None,
        protected=run.environment(environment).protected,
        dry_run=run.asked.dry_run,
    )
