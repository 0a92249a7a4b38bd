"""The revert flow. Defines nothing but the flow: Prefect loads this file under a name of its own."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.alerts import alert_recovered
from tasks.approval import approve
from tasks.boundary import Ending
from tasks.gate import back_up, check_backup, relies_on_backup
from tasks.parameters import RevertParameters
from tasks.reverting import (
    locked_back,
    look_at_losses,
    plan_back,
    prove_back,
    reported_back,
    revert_name,
    take_back,
    wanted_back,
)
from tasks.run import opened, project_of
from tasks.stopping import on_cancellation, on_crashed


@flow(
    name="revert",
    flow_run_name=revert_name,
    persist_result=False,
    on_cancellation=[on_cancellation],
    on_crashed=[on_crashed],
)
def revert(
    environment: str,
    to_version: int | None = None,
    steps: int | None = None,
    only: int | None = None,
    reason: str | None = None,
    override: str | None = None,
    dry_run: bool = False,
    project: str | None = None,
) -> State[None]:
    """Take migrations back with their down scripts, newest first, and stop at the first that fails.

    A protected environment is backed up to S3 first. The way back has to be proven, by the rehearsal of the deploy or
    by a trial on that backup, and may lose nothing; then the run waits until somebody approves it. What was reverted is
    held: deploys stop before it until its file changes or it is included by name.

    Args:
        environment: The environment of lockstep.toml.
        to_version: The version that stays; everything above it goes. 0 takes everything back. One of to_version, steps
            and only is to be given.
        steps: How many to take back, from the newest on.
        only: This version alone, while newer ones stay; where a trial on a copy proves that they can.
        reason: Why, or a ticket's number. The audit log keeps it with each migration.
        override: Revert although it is not proven, or loses data, for this reason. The audit log keeps who said so.
        dry_run: Only show what would be taken back and lost. Nothing is changed, no backup is taken.
        project: The folder with lockstep.toml, where it is not the one that this flow lies in.
    """
    with Ending() as end:
        asked = RevertParameters.of(
            to_version=to_version, steps=steps, only=only, reason=reason, override=override, dry_run=dry_run
        )
        with opened(project_of(__file__, project), [environment]), reported_back(environment, asked) as back:
            plan_back(environment)
            if back.plan.labels and dry_run:
                look_at_losses(environment)
            elif back.plan.labels:
                while back.in_gates:
                    if back.with_backup:
                        back_up(environment)
                    prove_back(environment)
                    if back.protected:
                        approve(environment, wanted_back(back))  # here the process may end, and another one go on
                    if not back.with_backup:
                        break
                    check_backup(environment)
                    if relies_on_backup(environment):
                        break
                with locked_back(environment, back):
                    for part in back.parts:
                        take_back(environment, part)
            if not dry_run:
                alert_recovered([environment])
            end.done(back.summary)
    return end.state
