"""`revert`: run the down scripts of applied versions, newest first, each by its own directives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from lockstep.config import Environment, Settings
from lockstep.core.ledger import Ledger
from lockstep.core.ledger import Progress as Reached
from lockstep.core.migration import Folder, Kind, label
from lockstep.core.reverting import RevertPlan, RevertStep, plan_revert
from lockstep.core.runs import Ran
from lockstep.errors import MigrationFailed, PlanRefused, StalePlan, Unreachable
from lockstep.postgres.connection import Session, Target
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.executor import Attempt, Done, Waiting, outcome_text
from lockstep.postgres.ledger import read_ledger, recorded_downs
from lockstep.postgres.message import Message, transaction_message
from lockstep.postgres.watch import Watch
from lockstep.service.piecewise import PieceRun, Telling
from lockstep.service.progress import Progress, Silent
from lockstep.service.recording import Recording, recorded, tell
from lockstep.service.safeguard import refuse_restless, stale, take_backup
from lockstep.service.worksession import WorkSession, work_session

if TYPE_CHECKING:
    from lockstep.service.approval.prompting import Prompt
    from lockstep.storage.manifest import Manifest


def _silent(_text: str) -> None:
    return None


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
    recording: Recording  # of the schema; complete once the run is closed
    versions: frozenset[int] = frozenset()  # of the ledger, before anything
    reverted: list[tuple[str, int]] = field(default_factory=list)  # (file name, ms)

    def newer_than(self, version: int) -> tuple[int, ...]:
        """Return the versions above one, oldest first."""
        return tuple(sorted(one for one in self.versions if one > version))

    def revert(self, step: RevertStep, waiting: Waiting | None = None, tell: Telling = _silent) -> int:
        """Take one migration back: one transaction, or unit by unit where its down asks for it. Returns milliseconds.

        Raises MigrationFailed, Unreachable.
        """
        self.work.under_way = step.entry.name
        try:
            done = self._transaction(step, waiting) if step.down.transactional else self._pieces(step, waiting, tell)
        except MigrationFailed as error:
            error.hint = error.hint or f"mend {error.file}, then revert again"
            raise
        self.reverted.append((step.entry.name, done.duration_ms))
        self.work.entries = self._entries_without(step)
        self.work.under_way = None
        self.work.keep_clean(done, self._outcome)
        return done.duration_ms

    def _transaction(self, step: RevertStep, waiting: Waiting | None) -> Done:
        script = step.down.script()

        def compose(attempt: Attempt) -> Message:
            rows = self.work.scribe.reverted(step, self.reason, attempt.waited)
            return transaction_message(
                self.work.frame, step.down, script, rows, lock_timeout_ms=attempt.lock_timeout_ms
            )

        outcome = outcome_text(step.down.name, len(self.reverted), len(self.plan.steps))
        try:
            return self.work.send(
                compose, name=step.entry.name, version=step.entry.version, outcome=outcome, waiting=waiting
            )
        except Unreachable as lost:
            return self._settle(step, lost)

    def _pieces(self, step: RevertStep, waiting: Waiting | None, tell: Telling) -> Done:
        run = PieceRun(
            work=self.work,
            file=step.down,
            name=step.entry.name,
            version=step.entry.version,
            checksum=step.entry.checksum,
            progress=step.resume or Reached(reverting=True, backfill=step.down.directives.repeat_until_empty),
            begun=lambda scribe, statements: scribe.revert_begun(step, statements),
            finished=lambda scribe, _details: scribe.reverted(step, self.reason),
            done_before=f"{len(self.reverted)} of {len(self.plan.steps)} done",
            waiting=waiting,
            tell=tell,
        )
        return run.run()

    def _entries_without(self, step: RevertStep) -> dict[str, str | None]:
        """What the ledger holds once a step is taken back: repeatables run again then."""
        rest = {name: value for name, value in self.work.entries.items() if name != step.entry.name}
        return rest | {name: None for name in rest if name in self.repeatables}

    @property
    def _outcome(self) -> str:
        return f"{len(self.reverted)} of {len(self.plan.steps)} done."

    def _settle(self, step: RevertStep, lost: Unreachable) -> Done:
        """A lost answer to COMMIT is no failure: the entry went in the same transaction."""
        entries = self.work.reconnect(lost, self._outcome, step.entry.name)
        what = label(step.entry.name)
        if all(entry.name != step.entry.name for entry in entries):
            self.work.refuse_changed(entries, self._entries_without(step), f"{self._outcome} {what} was taken back.")
            return Done(duration_ms=0, tries=1, session_is_clean=True)
        raise Unreachable(
            target=self.target,
            reason=f"{lost.reason}. {self._outcome} The revert of {what} was rolled back, it is still applied.",
            hint=f"lockstep status {self.work.session.target.environment}, then revert again",
        )


def make_revert(
    session: Session,
    folder: Folder,
    ledger: Ledger,
    *,
    to_version: int | None,
    steps: int | None,
    only: Collection[int],
) -> RevertPlan:
    """Plan a revert; every down is parsed. Read-only. Raises PlanRefused, MigrationFileError."""
    made = plan_revert(folder, ledger, recorded_downs(session), to_version=to_version, steps=steps, only=only)
    if not isinstance(made, RevertPlan):
        raise PlanRefused(target=session.target.name, reasons=made, action="reverted")
    for step in made.steps:
        step.down.check()
    return made


@contextmanager
def open_revert(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    run: RunInfo,
    *,
    to_version: int | None = None,
    steps: int | None = None,
    only: Collection[int] = (),
    reason: str | None = None,
    expected_digest: str | None = None,
    wait_seconds: float = 0.0,
    watch: Callable[[Target, str], Watch] = Watch,
) -> Iterator[RevertRun]:
    """Take the lock, plan the revert under it, and yield the run.

    Raises PlanRefused, StalePlan when the plan is not `expected_digest`, and what `work_session` raises.
    """
    with work_session(settings, environment, run, wait_seconds=wait_seconds, watch=watch) as work:
        session = work.session
        ledger = read_ledger(session)
        made = make_revert(session, folder, ledger, to_version=to_version, steps=steps, only=only)
        if expected_digest is not None and made.digest != expected_digest:
            raise StalePlan(
                target=session.target.name,
                expected=expected_digest,
                actual=made.digest,
                again=f"lockstep revert {environment.name} with the same options",
            )
        work.entries = {e.name: e.checksum for e in ledger.entries}
        repeatables = frozenset(e.name for e in ledger.entries if e.kind is Kind.REPEATABLE)
        reverted: list[tuple[str, int]] = []
        before = dict(work.entries)

        def ran() -> list[Ran]:
            return [Ran(name, before.get(name), "reverted") for name, _ in reverted]

        with recorded(settings, environment, work, ran, something_to_do=bool(made.steps), may_stop=False) as recording:
            yield RevertRun(
                work=work,
                plan=made,
                target=session.target.name,
                reason=reason,
                repeatables=repeatables,
                recording=recording,
                versions=frozenset(e.version for e in ledger.entries if e.version is not None),
                reverted=reverted,
            )


def revert(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    run: RunInfo,
    progress: Progress,
    *,
    to_version: int | None = None,
    steps: int | None = None,
    only: int | None = None,
    reason: str | None = None,
    wait_seconds: float = 0.0,
    override: str | None = None,
    prompt: Prompt | None = None,
) -> Reverted:
    """Take migrations back, behind the same gates as a deploy; `only` one version, though newer ones stay.

    `override`: go on although it is not proven, for this reason. `prompt`: asks for approval at a terminal.
    Raises PlanRefused, RevertNotProven, NotApproved, MigrationFailed, BackupFailed, …
    """
    backup_key = None
    name = environment.name
    if environment.protected:
        from lockstep.service.approval.settling import refuse_overtaking

        refuse_overtaking(settings, environment, run, progress)
    with open_revert(
        settings,
        environment,
        folder,
        run,
        to_version=to_version,
        steps=steps,
        only=() if only is None else (only,),
        reason=reason,
        wait_seconds=wait_seconds,
    ) as reverting:
        newer = () if only is None else reverting.newer_than(only)
        if reverting.plan.steps and (environment.protected or newer):
            backup_key = _pass_gates(
                settings, environment, folder, run, progress, reverting,
                newer=newer, command=revert_command(name, to_version, steps, only), override=override, prompt=prompt,
            )  # fmt: skip
        tell(reverting.recording, lambda text: progress.note(name, text))
        for step in reverting.plan.steps:
            revert_step(reverting, step, progress, name)
    tell(reverting.recording, lambda text: progress.note(name, text))
    return Reverted(
        run_id=run.run_id, target=reverting.target, reverted=tuple(reverting.reverted), backup_key=backup_key
    )


def _pass_gates(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    run: RunInfo,
    progress: Progress,
    reverting: RevertRun,
    *,
    newer: Collection[int],
    command: str,
    override: str | None,
    prompt: Prompt | None,
) -> str | None:
    """Back up, prove the way back, and wait for approval, as the flow's tasks do; return the backup's key.

    A backup that has aged meanwhile, or whose schema is not the one any more, is taken again, and the way back proven on
    it; what was proven by counting rows is counted once more.
    """
    from lockstep.service.approved import approved, wanted_revert  # late: most reverts are on dev
    from lockstep.service.rehearsal.revertgate import (
        Found,
        find_proof,
        pass_proof,
        refuse_untriable,
        refuse_written_since,
    )

    name, work, plan = environment.name, reverting.work, reverting.plan

    def proven(manifest: Manifest | None, override: str | None) -> Found:
        return pass_proof(
            settings, environment, folder, manifest, run, progress, work.session, plan,
            newer=newer, command=command, override=override,
        )  # fmt: skip

    if override is None and settings.backup is not None:
        refuse_untriable(work.session, folder, plan, newer=newer, command=command)
    for tries in count(1):
        manifest = None
        if environment.protected or settings.backup is not None:
            if not environment.protected:
                progress.note(name, "newer ones stay, so it is tried on a copy first, and that is made of a backup")
            manifest = take_backup(settings, environment, run, progress).manifest
        found = proven(manifest, override)
        if not environment.protected:
            return manifest.key if manifest is not None else None
        assert manifest is not None
        wanted = wanted_revert(reverting.target, plan, found, manifest, override=override)
        approved(settings, environment, run, wanted, progress, prompt)
        work.keep_lock("Nothing was taken back.")
        why = stale(settings, environment, run, manifest)
        if why is None:
            if found.by_ledger and find_proof(
                settings, environment, folder, manifest, run, Silent(), work.session, plan, newer=newer
            ).problems != found.problems:  # fmt: skip
                if found.problems:
                    refuse_restless(reverting.target, "rows are written into what it drops", tries)
                    progress.note(name, "what it loses is not what was approved any more: asked again")
                    continue
                proven(manifest, None)  # who approved what loses nothing did not approve that it is overridden
            refuse_written_since(work.session, plan, found, settings.project.ledger_schema, command=command)
            return manifest.key
        refuse_restless(reverting.target, why, tries)
        progress.note(name, f"{why}: backed up again, and the way back proven again")
    raise AssertionError


# -- the parts, which the revert flow runs one by one as tasks ---------------------------------------------------------


def revert_step(reverting: RevertRun, step: RevertStep, progress: Progress, name: str) -> int:
    """Take the next migration back under the lock, and tell it. Raises what RevertRun.revert raises."""
    what = label(step.entry.name)
    if step.source == "ledger":
        progress.note(name, f"{what}: its down file is gone; the script that the ledger kept runs")
    elif step.differs:
        progress.note(name, f"{what}: its down file changed since it was applied; the file runs")
    progress.started(name, what)
    ms = reverting.revert(
        step,
        lambda tries, why: progress.note(name, f"waiting for a lock (try {tries}: {why})"),
        lambda text: progress.note(name, text),
    )
    progress.finished(name, what, "reverted", ms)
    return ms


def revert_command(environment: str, to_version: int | None, steps: int | None, only: int | None) -> str:
    """Return the command line of a revert."""
    if only is not None:
        return f"lockstep revert {environment} --only {only}"
    if steps is not None:
        return f"lockstep revert {environment} --steps {steps}"
    return f"lockstep revert {environment} --to {to_version if to_version is not None and to_version >= 0 else 'none'}"
