"""A revert before it runs: what would be taken back and lost, and whether that is proven. The target is not changed.

`service.reverting` runs it; the revert flow looks first, since hours of waiting for approval may lie in between.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from lockstep.config import Environment, Settings
from lockstep.core.ledger import Ledger
from lockstep.core.migration import Folder, label
from lockstep.core.reverting import RevertPlan
from lockstep.errors import UsageError
from lockstep.postgres.audit import Wanted, read_log
from lockstep.postgres.connection import Session, open_session
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.ledger import read_ledger
from lockstep.service.progress import Progress
from lockstep.service.project import target_of
from lockstep.service.rehearsal.revertgate import (
    Found,
    find_proof,
    pass_proof,
    refuse_untriable,
    refuse_written_since,
)
from lockstep.service.reverting import make_revert, revert_command
from lockstep.service.store import open_store
from lockstep.storage.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is to be taken back. Exactly one of the three is given."""

    to_version: int | None = None
    steps: int | None = None
    only: int | None = None

    def command(self, environment: str) -> str:
        """The command line that does the same."""
        return revert_command(environment, self.to_version, self.steps, self.only)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertPreview:
    """What a revert would do on one target."""

    environment: str
    target: str  # shown name
    plan: RevertPlan
    newer: tuple[int, ...]  # versions that stay above one that goes
    stays: str | None  # digits of the newest version that stays, as its file has them; None: nothing stays
    earlier: tuple[tuple[str, int], ...] = ()  # taken back by this run before: (file name, ms)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label(step.entry.name) for step in self.plan.steps)


def preview_revert(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    run: RunInfo,
    choice: Choice,
    *,
    overridden: bool = False,
) -> RevertPreview:
    """Plan a revert. Read-only. A run that is tried again counts what it took back before.

    Raises PlanRefused, MigrationFileError, Unreachable, LedgerError, and where it is not `overridden` RevertNotProven for
    what could not even be tried.
    """
    session = open_session(target_of(settings, environment), run_id=run.run_id, read_only=True)
    try:
        ledger = read_ledger(session)
        found = read_log(session, limit=None, wanted=Wanted(run_id=run.run_id, event="revert"))
        earlier = [event for event in reversed(found) if event.migration_name is not None]
        steps, only = choice.steps, choice.only
        if steps is not None:
            steps = max(0, steps - len(earlier))
        elif only is not None and any(event.version == only for event in earlier):
            steps, only = 0, None
        plan = make_revert(
            session, folder, ledger,
            to_version=choice.to_version, steps=steps, only=() if only is None else (only,),
        )  # fmt: skip
        newer = _newer(ledger, only)
        if not overridden and settings.backup is not None:
            refuse_untriable(session, folder, plan, newer=newer, command=choice.command(environment.name))
        return RevertPreview(
            environment=environment.name,
            target=session.target.name,
            plan=plan,
            newer=newer,
            stays=_stays(ledger, plan),
            earlier=tuple((str(event.migration_name), event.duration_ms or 0) for event in earlier),
        )
    finally:
        session.close()


def prove(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    manifest: Manifest | None,
    run: RunInfo,
    progress: Progress,
    preview: RevertPreview,
    choice: Choice,
    *,
    override: str | None,
) -> Found:
    """Let a revert go on when it is proven, or overridden (logged). Raises what `pass_proof` raises."""
    session = open_session(target_of(settings, environment), run_id=run.run_id)
    try:
        return pass_proof(
            settings, environment, folder, manifest, run, progress, session, preview.plan,
            newer=preview.newer, command=choice.command(environment.name), override=override,
        )  # fmt: skip
    finally:
        session.close()


def refuse_lost_since(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    manifest: Manifest | None,
    run: RunInfo,
    progress: Progress,
    session: Session,
    plan: RevertPlan,
    choice: Choice,
    before: Found,
    *,
    override: str | None,
) -> None:
    """Under the lock: what was proven by counting rows is counted once more. Raises RevertNotProven.

    Who approved what loses nothing did not approve that it is overridden: `override` counts for what needed it before.
    """
    if before.by_ledger:
        pass_proof(
            settings, environment, folder, manifest, run, progress, session, plan,
            command=choice.command(environment.name), override=override if before.problems else None,
        )  # fmt: skip
    refuse_written_since(
        session, plan, before, settings.project.ledger_schema, command=choice.command(environment.name)
    )


def look_only(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    run: RunInfo,
    progress: Progress,
    preview: RevertPreview,
) -> Found | None:
    """Find out and tell what a revert would take and lose, for a dry run: by the ledger, else on the newest backup.

    None: there is nothing to try it on. Raises what a restore raises.
    """
    session = open_session(target_of(settings, environment), run_id=run.run_id, read_only=True)
    try:
        manifest = None
        if settings.backup is not None:
            with open_store(settings) as store:
                try:
                    manifest = store.backups.resolve("latest", environment.name, datetime.now(UTC))
                except UsageError:
                    manifest = None  # there is no backup yet
        if manifest is None and not preview.newer:
            progress.note(environment.name, "what it would lose is not known: there is no backup to try it on")
            return None
        return find_proof(
            settings, environment, folder, manifest, run, progress, session, preview.plan, newer=preview.newer
        )
    finally:
        session.close()


def tell_revert(progress: Progress, preview: RevertPreview) -> None:
    """Tell what is going to be taken back."""
    name, labels = preview.environment, preview.labels
    if preview.earlier:
        progress.note(name, f"{len(preview.earlier)} taken back by this run before")
    place = preview.target.removeprefix(name).strip(" ()")
    progress.note(name, f"{place}: to take back: {', '.join(labels)}" if labels else f"{place}: nothing to take back")


def _newer(ledger: Ledger, only: int | None) -> tuple[int, ...]:
    if only is None:
        return ()
    return tuple(sorted(e.version for e in ledger.entries if e.version is not None and e.version > only))


def _stays(ledger: Ledger, plan: RevertPlan) -> str | None:
    gone = {step.entry.name for step in plan.steps}
    rest = [e for e in ledger.entries if e.version is not None and e.name not in gone]
    newest = max(rest, key=lambda e: e.version or 0, default=None)
    if newest is None:
        return None
    match = re.match(r"\d+", newest.name)
    return match[0] if match else str(newest.version)
