"""`revert`: run the down scripts of applied versions, newest first, each in its own transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lockstep.config import Environment, Settings
from lockstep.core.migration import Folder, Kind, label
from lockstep.core.reverting import RevertPlan, RevertStep, plan_revert
from lockstep.errors import MigrationFailed, PlanRefused
from lockstep.postgres.ledger import read_ledger, recorded_downs
from lockstep.postgres.message import RunInfo, revert_message
from lockstep.service.applying import WorkSession, work_session
from lockstep.service.progress import Progress
from lockstep.service.safeguard import MISSING_GATES, take_backup

Waiting = Callable[[int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverted:
    """What a revert did."""

    run_id: str
    target: str  # shown name
    reverted: tuple[tuple[str, int], ...]  # (file name, ms), in the order it was done
    backup_key: str | None  # of the backup that was taken first


@dataclass(slots=True, kw_only=True)
class RevertRun:
    """A revert on its way, under the lock."""

    work: WorkSession
    plan: RevertPlan
    target: str  # shown name
    reason: str | None
    repeatables: frozenset[str]  # file names of the ledger's repeatable entries
    reverted: list[tuple[str, int]] = field(default_factory=list)  # (file name, ms)

    def revert(self, step: RevertStep, waiting: Waiting | None = None) -> int:
        """Take one migration back: one transaction. Returns milliseconds. Raises MigrationFailed, Unreachable."""
        session = self.work.session
        message = revert_message(
            step, session.target, self.work.run, session.baseline, session.connection, reason=self.reason
        )
        try:
            done = self.work.send(
                message,
                name=step.entry.name,
                version=step.entry.version,
                done=len(self.reverted),
                total=len(self.plan.steps),
                waiting=waiting,
            )
        except MigrationFailed as error:
            error.hint = error.hint or f"mend {error.file}, then revert again"
            raise
        self.reverted.append((step.entry.name, done.duration_ms))
        entries = self.work.entries
        del entries[step.entry.name]
        entries.update({name: None for name in entries if name in self.repeatables})
        self.work.keep_clean(done, f"{len(self.reverted)} of {len(self.plan.steps)} done.")
        return done.duration_ms


@contextmanager
def open_revert(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    run: RunInfo,
    *,
    to_version: int | None,
    steps: int | None,
    reason: str | None = None,
    wait_seconds: float = 0.0,
) -> Iterator[RevertRun]:
    """Take the lock, plan the revert under it, and yield the run. Raises PlanRefused and what `work_session` raises."""
    with work_session(settings, environment, run, wait_seconds=wait_seconds) as work:
        session = work.session
        ledger = read_ledger(session)
        made = plan_revert(folder, ledger, recorded_downs(session), to_version=to_version, steps=steps)
        if not isinstance(made, RevertPlan):
            raise PlanRefused(target=session.target.name, reasons=made, action="reverted")
        for step in made.steps:
            step.down.script()
        work.entries = {e.name: e.checksum for e in ledger.entries}
        repeatables = frozenset(e.name for e in ledger.entries if e.kind is Kind.REPEATABLE)
        yield RevertRun(work=work, plan=made, target=session.target.name, reason=reason, repeatables=repeatables)


def revert(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    run: RunInfo,
    progress: Progress,
    *,
    to_version: int | None,
    steps: int | None,
    reason: str | None = None,
    wait_seconds: float = 0.0,
) -> Reverted:
    """Take migrations back, behind the same gates as a deploy. Raises PlanRefused, MigrationFailed, BackupFailed, …"""
    backup_key = None
    name = environment.name
    with open_revert(
        settings, environment, folder, run, to_version=to_version, steps=steps, reason=reason, wait_seconds=wait_seconds
    ) as reverting:
        if environment.protected and reverting.plan.steps:
            backup_key = take_backup(settings, environment, run, progress).manifest.key
            progress.note(name, MISSING_GATES)
        for step in reverting.plan.steps:
            what = label(step.entry.name)
            if step.source == "ledger":
                progress.note(name, f"{what}: its down file is gone; the script that the ledger kept runs")
            elif step.differs:
                progress.note(name, f"{what}: its down file changed since it was applied; the file runs")
            progress.started(name, what)
            ms = reverting.revert(
                step, lambda tries, why: progress.note(name, f"waiting for a lock (try {tries}: {why})")
            )
            progress.finished(name, what, "reverted", ms)
        return Reverted(
            run_id=run.run_id, target=reverting.target, reverted=tuple(reverting.reverted), backup_key=backup_key
        )
