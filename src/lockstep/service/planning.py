"""`plan`: what a deploy would do on one target, and exactly what would be sent. Read-only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockstep.config import Environment, Settings
from lockstep.core.ledger import Ledger
from lockstep.core.migration import Folder
from lockstep.core.planner import Plan, PlanOptions, plan
from lockstep.errors import PlanRefused
from lockstep.postgres.connection import Session, Target, open_session
from lockstep.postgres.ledger import read_ledger
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id

if TYPE_CHECKING:
    from lockstep.core.findings import Finding
    from lockstep.core.locking.lock_report import FileLocks


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPlan:
    """The plan of one target."""

    environment: str
    target: str  # shown name
    plan: Plan
    sql: str | None = None  # all that would be sent, when asked for
    locks: tuple[FileLocks, ...] = ()  # of each step, in order
    hazards: tuple[tuple[Finding, ...], ...] = ()  # of each step, in order: what `validate` says about locks
    backup_note: str | None = None  # what a person should know of the backup that would be taken first


def options_for(target: Target, *, to_version: int | None = None, include: Iterable[int] = ()) -> PlanOptions:
    """Return the planner's options for a target."""
    return PlanOptions(to_version=to_version, include=frozenset(include), settings=target.settings)


def make_plan(session: Session, folder: Folder, options: PlanOptions, *, action: str = "applied") -> Plan:
    """Read the ledger and plan. Every pending file is parsed. Raises PlanRefused, MigrationFileError, LedgerError."""
    return plan_of(read_ledger(session), folder, options, target=session.target.name, action=action)


def plan_of(ledger: Ledger, folder: Folder, options: PlanOptions, *, target: str, action: str = "applied") -> Plan:
    """Plan for what a ledger holds, as `make_plan` does. `target`: its shown name."""
    result = plan(folder, ledger, options)
    if not isinstance(result, Plan):
        raise PlanRefused(target=target, reasons=result, action=action)
    for step in result.steps:
        step.migration.up.check()
        if step.migration.verify is not None:
            step.migration.verify.script()
    return result


def plan_target(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    *,
    to_version: int | None = None,
    include: Iterable[int] = (),
    with_sql: bool = False,
) -> TargetPlan:
    """Return the plan of one environment. Read-only. Raises as `make_plan` does, Unreachable, and ConfigError."""
    target = target_of(settings, environment)
    session = open_session(target, run_id=new_run_id(), read_only=True)
    try:
        made = make_plan(session, folder, options_for(target, to_version=to_version, include=include), action="planned")
        from lockstep.service.locks import plan_hazards, plan_locks  # late: they parse, and a sync needs neither

        text = None
        if with_sql:
            from lockstep.service.sending import sent

            text = sent(session, made, hurried=not environment.protected)
        return TargetPlan(
            environment=environment.name,
            target=target.name,
            plan=made,
            sql=text,
            locks=plan_locks(made, folder),
            hazards=plan_hazards(made, folder),
            backup_note=_backup_note(settings, environment) if made.steps else None,
        )
    finally:
        session.close()


def _backup_note(settings: Settings, environment: Environment) -> str | None:
    """Say it while planning, and not when a restore is urgent. Raises ConfigError for a bad public key."""
    if not environment.protected or settings.backup is None or not settings.backup.encrypt_to:
        return None
    from lockstep.service.store import unreadable_backups

    return unreadable_backups(settings)
