"""The deploy flow. Defines nothing but the flow: Prefect loads this file under a name of its own, perhaps twice."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from lockstep.service.deploying import ONE_TASK_EACH
from tasks.alerts import alert_recovered
from tasks.approval import approve
from tasks.boundary import Ending
from tasks.gate import back_up, check_backup, check_drift, preflight, rehearse, relies_on_backup, unchecked, wanted
from tasks.migration import apply_all, apply_migration, locked
from tasks.parameters import DeployParameters
from tasks.plan import plan, planned, stop_if_held
from tasks.report import reported, summarised
from tasks.run import first_name, opened, project_of
from tasks.stopping import on_cancellation, on_crashed
from tasks.validation import validate
from tasks.verification import check, has_check, note_health, verify


@flow(
    name="deploy",
    flow_run_name=first_name,
    persist_result=False,
    on_cancellation=[on_cancellation],
    on_crashed=[on_crashed],
)
def deploy(
    environments: list[str] | None = None,
    to_version: int | None = None,
    include: list[int] | None = None,
    dry_run: bool = False,
    reason: str | None = None,
    override: str | None = None,
    expected_plans: dict[str, str] | None = None,
    project: str | None = None,
) -> State[None]:
    """Bring environments up to date, one after the other in promotion order, and stop at the first that fails.

    A protected environment is backed up to S3 before anything runs on it, and what is pending is rehearsed on that
    backup: what would fail, block others for too long or cannot be tried is refused. Then the run waits until somebody
    approves it. Each migration is one transaction,
    unless its file says otherwise; one that was begun and did not finish goes on where it stopped.

    Args:
        environments: Which environments of lockstep.toml; empty means all of them. Order is always that of promotion.
        to_version: Stop after this version; empty means everything that is pending.
        include: Versions to run although they were reverted here (held) or are out of order.
        dry_run: Only plan, and store what would be applied. Nothing is changed, no backup is taken.
        reason: Why, or a ticket's number. It goes into the report.
        override: Go on although the rehearsal did not pass, for this reason. The audit log keeps who said so.
        expected_plans: What was shown to whoever started this: environment to plan digest, and environment/file to
            checksum. `lockstep deploy` fills it in. An environment whose plan is another one is refused. Leave it
            empty here.
        project: The folder with lockstep.toml, where it is not the one that this flow lies in.
    """
    with (
        Ending() as end,
        opened(
            project_of(__file__, project),
            environments,
            asked=DeployParameters.of(
                environments=environments,
                to_version=to_version,
                include=include,
                dry_run=dry_run,
                reason=reason,
                override=override,
                expected_plans=expected_plans,
            ),
        ) as run,
        summarised(),
    ):
        validate()
        for environment in run.names:
            with reported(environment):
                plan(environment)
                todo = planned(environment)
                if todo.labels and not dry_run:
                    for later in unchecked(environment):
                        preflight(later)  # before anything is changed
                    while todo.protected:
                        check_drift(environment)
                        back_up(environment)
                        rehearse(environment)
                        approve(environment, wanted(environment))  # here the process may end, and another one go on
                        check_backup(environment)
                        if relies_on_backup(environment):
                            break
                    note_health(environment)
                    with locked(environment, todo.digest):
                        if len(todo.labels) <= ONE_TASK_EACH:
                            for migration in todo.labels:
                                apply_migration(environment, migration)
                        else:
                            apply_all(environment, len(todo.labels))
                    verify(environment)
                    if has_check(environment):
                        check(environment)
                stop_if_held(environment)
        if not dry_run:
            alert_recovered([*run.names, None])
        end.done(run.summary)
    return end.state
