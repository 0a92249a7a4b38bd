"""Promotion: an environment gets only what the environments before it (`after`) have already."""

from __future__ import annotations

from collections.abc import Collection

from lockstep.config import Environment, Settings
from lockstep.core.ledger import EntryState
from lockstep.core.planner import Plan, Reason, Refusal
from lockstep.errors import LockstepError, PlanRefused
from lockstep.postgres.connection import open_session
from lockstep.postgres.ledger import read_ledger
from lockstep.service.progress import Progress
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id


def refuse_unpromoted(
    settings: Settings,
    environment: Environment,
    target: str,
    plan: Plan,
    progress: Progress,
    *,
    done: Collection[str] = (),
) -> None:
    """Refuse a plan with versions that an environment before this one does not have. Read-only there.

    `done` names environments that this very run brought up to date. An environment that cannot be asked is told, and
    does not stop a deploy. Raises PlanRefused.
    """
    versions = [step for step in plan.steps if step.migration.version is not None]
    for before in environment.table.after:
        if before in done or not versions:
            continue
        try:
            session = open_session(
                target_of(settings, settings.environment(before), with_settings=False),
                run_id=new_run_id(),
                read_only=True,
            )
            try:
                entries = read_ledger(session).entries
            finally:
                session.close()
        except LockstepError:
            progress.note(
                environment.name, f"note: {before} could not be asked whether it has these migrations already"
            )
            continue
        there = {entry.version for entry in entries if entry.state is EntryState.APPLIED}
        missing = tuple(step.name for step in versions if step.migration.version not in there)
        if missing:
            names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            refusal = Refusal(
                reason=Reason.NOT_PROMOTED,
                message=f"{names}: not applied on {before} yet, which comes before {environment.name}",
                hint=f"lockstep sync {before} {environment.name}",
                files=missing,
            )
            raise PlanRefused(target=target, reasons=(refusal,))
