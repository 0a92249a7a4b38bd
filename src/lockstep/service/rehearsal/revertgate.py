"""The gate of a revert: in a protected environment it goes on when its way back is proven, and loses nothing.

Proven is what the rehearsal of the deploy found, for the very script that runs now, if that changes the schema alone and
nothing has been written since into what it drops. Otherwise the revert itself is tried on the backup that it takes
first, with the rows of now. One out of the middle is tried in every environment. Somebody may override it by name and
with a reason.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.comparison import compare as compare_files
from lockstep.core.duration import format_ms
from lockstep.core.migration import Folder, label
from lockstep.core.moments import utc_minute
from lockstep.core.rehearsal.proof import Dropped, Loss, losses_text
from lockstep.core.rehearsal.structural import structure_of
from lockstep.core.reverting import RevertPlan, plan_revert
from lockstep.errors import (
    IdentityMissing,
    LockstepError,
    ProgramMissing,
    RestoreFailed,
    RestoreRefused,
    RevertNotProven,
    ServerStartError,
)
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import Session
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.ledger import read_ledger, recorded_downs
from lockstep.service.progress import Progress
from lockstep.service.rehearsal.gate import who
from lockstep.service.rehearsal.losses import held_in
from lockstep.service.rehearsal.reverts import SAME, RevertTrial, try_revert
from lockstep.service.rehearsal.stage import open_stage
from lockstep.service.store import open_store
from lockstep.storage.manifest import Manifest

#: How long a look at what a revert would drop may take on the environment itself; then the copy is asked.
_LOOK_MS = 30_000
_LISTED = 5  # problems that the audit log keeps
#: Why nothing could be found out, on this machine.
_NOTHING_FOUND_OUT = (ProgramMissing, IdentityMissing, RestoreRefused, RestoreFailed, ServerStartError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of a revert before it runs."""

    problems: tuple[str, ...]
    losses: tuple[Loss, ...]
    ms: float | None
    source: str  # what says so, in words
    notes: tuple[str, ...] = ()
    by_ledger: bool = False  # of now; else of the backup that it was tried on
    drops: tuple[Dropped, ...] = ()  # that were empty on that backup

    @property
    def text(self) -> str:
        """In one line: `proven when it was rehearsed, …: takes about 12 ms, loses nothing`."""
        took = f"takes about {format_ms(round(self.ms))}, " if self.ms is not None else ""
        loses = f"loses {losses_text(self.losses)}" if self.losses else "loses nothing" if not self.problems else ""
        text = f"{took}{loses}".removesuffix(", ")
        return f"{self.source}{': ' if text else ''}{text}"


def pass_proof(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    manifest: Manifest | None,
    run: RunInfo,
    progress: Progress,
    session: Session,
    plan: RevertPlan,
    *,
    newer: Collection[int] = (),
    command: str,
    override: str | None = None,
) -> Found:
    """Let a revert go on when it is proven, or overridden; tell what it takes and loses before anything runs.

    `manifest`: of the backup that was just taken; None: there is none to try it on. `newer`: versions that stay above
    one that goes. `command`: to run it again. Raises RevertNotProven, BackupDamaged, which nobody overrides, and without
    `override` what else a restore raises.
    """
    name = environment.name
    found = find_proof(
        settings, environment, folder, manifest, run, progress, session, plan, newer=newer, give_up=override is None
    )
    if not found.problems:
        return found
    if override is None:
        raise RevertNotProven(
            target=session.target.name,
            reasons=found.problems,
            command=command,
            hint="configure [backup]" if manifest is None else None,
        )
    details = {
        "gate": "revert",
        "reason": override,
        "by": who(),
        "problems": list(found.problems[:_LISTED]),
        "reverts": [step.entry.name for step in plan.steps],
    }
    event = Event(event="override", run_id=run.run_id, orchestrator_url=run.orchestrator_url, details=details)
    write_event(session, event)
    for problem in found.problems:
        progress.note(name, f"not proven: {problem}")
    progress.note(name, f"revert: not proven, overridden by {details['by']}: {override}")
    return found


def refuse_untriable(
    session: Session, folder: Folder, plan: RevertPlan, *, newer: Collection[int], command: str
) -> None:
    """Before a backup is taken to try it on: one out of the middle needs the files and the downs of the newer ones.

    Raises RevertNotProven.
    """
    if not newer:
        return
    ledger = read_ledger(session)
    going = {step.entry.version for step in plan.steps if step.entry.version is not None}
    back = plan_revert(folder, ledger, recorded_downs(session), only=going | set(newer))
    reasons = [] if isinstance(back, RevertPlan) else [one.message for one in back]
    same = {row.version for row in compare_files(folder, ledger, session.target.settings) if row.state in SAME}
    if other := sorted(set(newer) - same):
        reasons.append(f"the files of {', '.join(map(str, other))} are not what was applied")
    if reasons:
        raise RevertNotProven(
            target=session.target.name,
            reasons=tuple(f"whether the newer ones can do without it cannot be tried: {one}" for one in reasons),
            command=command,
            hint="write what is missing, or revert the newer ones as well (--to)",
        )


def find_proof(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    manifest: Manifest | None,
    run: RunInfo,
    progress: Progress,
    session: Session,
    plan: RevertPlan,
    *,
    newer: Collection[int] = (),
    give_up: bool = False,
) -> Found:
    """Find out and tell what a revert takes and loses; nothing of the target is changed.

    `give_up`: what stops a trial on this machine is raised, else it is a problem like others.
    """
    found = None if newer else _by_the_ledger(session, plan, settings.project.ledger_schema)
    if found is None and manifest is None:
        found = Found(
            problems=(
                f"that {_shown(plan)} can go while newer ones stay has to be tried on a copy, and without [backup] "
                "there is none",
            ),
            losses=(),
            ms=None,
            source="nothing was tried",
        )
    if found is None:
        assert manifest is not None
        found = _by_a_trial(settings, environment, folder, manifest, run, progress, plan, newer, give_up)
    progress.note(environment.name, found.text)
    for note in found.notes:
        progress.note(environment.name, f"note: {note}")
    return found


def refuse_written_since(session: Session, plan: RevertPlan, found: Found, ledger_schema: str, *, command: str) -> None:
    """After a wait for approval: count what was written into what was empty on the backup that it was tried on.

    Raises RevertNotProven. What cannot be counted is passed over; what the downs do with rows themselves is not seen.
    """
    if found.by_ledger or found.problems or not found.drops:
        return
    if losses := _held_now(session, found.drops, ledger_schema):
        raise RevertNotProven(
            target=session.target.name,
            reasons=(f"it loses data that was written since the backup: {losses_text(losses)}",),
            command=command,
        )


# -- inside -------------------------------------------------------------------------------------------------------


def _by_the_ledger(session: Session, plan: RevertPlan, ledger_schema: str) -> Found | None:
    """What the rehearsals of the deploys said, and what is in the way of it by now. None: they do not say enough."""
    proofs = [(step, step.entry.revert_proof) for step in plan.steps]
    if any(proof is None or not proof.covers(step.down.checksum) or step.resume for step, proof in proofs):
        return None
    if not _as_on_the_copy(plan):
        return None
    drops = [one for step, proof in proofs if proof is not None for one in proof.drops]
    losses = _held_now(session, drops, ledger_schema)
    if losses is None:
        return None
    known = [proof for _, proof in proofs if proof is not None]
    oldest = min(known, key=lambda one: one.at)
    taken = [one.ms for one in known if one.ms is not None]
    return Found(
        problems=(f"it loses data: {losses_text(losses)}",) if losses else (),
        losses=losses,
        ms=sum(taken) if len(taken) == len(known) else None,
        source=f"proven when it was rehearsed, {utc_minute(oldest.at)}",
        by_ledger=True,
    )


def _as_on_the_copy(plan: RevertPlan) -> bool:
    """Tell whether the downs do here what they did on the copy, whatever rows were written since."""
    for number, step in enumerate(plan.steps):
        structure = structure_of(step.down.script())
        if structure is None or step.entry.revert_proof is None:
            return False
        if structure.renames and number < len(plan.steps) - 1:
            return False  # what the next ones drop has another name as yet
        counted = {(one.relation.rpartition(".")[2], one.column) for one in step.entry.revert_proof.drops}
        if any(one not in counted and (one[0], None) not in counted for one in structure.drops):
            return False  # on the copy there was none, or nobody looked
    return True


def _held_now(session: Session, drops: Collection[Dropped], ledger_schema: str) -> tuple[Loss, ...] | None:
    """Count what is by now in all that the downs drop. None: it cannot be counted here, or not soon enough."""
    connection = session.connection
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL row_security = off; SET LOCAL statement_timeout = {_LOOK_MS}".encode())
            return held_in(connection, drops, ledger_schema)
    except psycopg.Error:
        if connection.closed:
            raise
        return None


def _by_a_trial(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    manifest: Manifest,
    run: RunInfo,
    progress: Progress,
    plan: RevertPlan,
    newer: Collection[int],
    give_up: bool,
) -> Found:
    name = environment.name
    progress.started(name, "trial of the revert")
    try:
        with (
            open_store(settings) as store,
            open_stage(settings, environment, store.stored(manifest), progress) as stage,
        ):
            trial = try_revert(stage, folder, run, plan.steps, newer=newer)
            took = stage.copy.restore_ms
    except _NOTHING_FOUND_OUT as error:
        progress.finished(name, "trial of the revert", "could not be made", None)
        if give_up:
            raise
        return Found(
            problems=(_first_line(error),), losses=(), ms=None, source=f"tried on backup {manifest.id} in vain"
        )
    progress.finished(name, "trial of the revert", "not proven" if trial.problems else "proven", took)
    return _of_trial(trial, manifest)


def _of_trial(trial: RevertTrial, manifest: Manifest) -> Found:
    return Found(
        problems=trial.problems,
        losses=trial.losses,
        ms=trial.ms,
        source=f"tried on backup {manifest.id}",
        notes=trial.notes,
        drops=trial.drops,
    )


def _shown(plan: RevertPlan) -> str:
    return ", ".join(label(step.entry.name) for step in plan.steps)


def _first_line(error: LockstepError) -> str:
    return error.message.splitlines()[0]
