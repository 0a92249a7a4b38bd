"""`status`: files against ledger for several targets at once. Read-only; an unreachable one does not hide the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lockstep.config import Environment, Settings
from lockstep.core.approval import Approval, Request, Standing
from lockstep.core.comparison import DISAGREEING, WAITING, Row, compare
from lockstep.core.ledger import Ledger
from lockstep.core.migration import Folder
from lockstep.errors import ExitCode, LedgerError, LedgerMissing, LockstepError
from lockstep.postgres.connection import Session, Target, open_session
from lockstep.postgres.ledger import read_ledger
from lockstep.postgres.states import State, read_newest
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id

if TYPE_CHECKING:
    from lockstep.postgres.audit import BackupRecord
    from lockstep.postgres.standing import Rehearsed
    from lockstep.service.parity import RecordedParity


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStatus:
    """What one target is."""

    environment: str
    target: str | None  # shown name; None when the configuration does not even say
    rows: tuple[Row, ...]  # empty when it could not be read
    initialised: bool
    error: LockstepError | None  # why it could not be read
    backups: BackupRecord | None = None  # of a protected environment with a ledger, as its audit log has it
    rehearsed: Rehearsed | None = None  # likewise, the newest rehearsal
    asked: tuple[Approval, ...] = ()  # likewise, requests for approval without an answer, oldest first
    schema: State | None = None  # the schema as it was last recorded; None: never, or a run was cut off since

    @property
    def waiting(self) -> tuple[Request, ...]:
        """Return what waits for somebody's approval; what expired and nobody logged that yet is none of it."""
        return tuple(one.request for one in self.asked if one.standing is Standing.WAITING)

    @property
    def exit_code(self) -> ExitCode:
        """What `status --check` says of it."""
        if self.error is not None:
            return self.error.exit_code
        states = {row.state for row in self.rows}
        if states & DISAGREEING:
            return ExitCode.DISAGREES
        return ExitCode.PENDING if states & WAITING else ExitCode.DONE


def status(settings: Settings, environments: Sequence[Environment], folder: Folder) -> tuple[TargetStatus, ...]:
    """Return the status of each environment, in the given order. Never raises for a single target's trouble."""
    if not environments:
        return ()
    if len(environments) == 1:
        return (target_status(settings, environments[0], folder),)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(8, len(environments))) as pool:
        return tuple(pool.map(lambda e: target_status(settings, e, folder), environments))


def parity(settings: Settings, found: Sequence[TargetStatus]) -> tuple[RecordedParity, ...]:
    """Compare the recorded schemas of environments that have the same migrations. Read-only, mostly a look-up."""
    states = {one.environment: one for one in found if one.schema is not None}
    if not any(before in states for name in states for before in settings.environment(name).table.after):
        return ()
    from lockstep.core.ledger import applied_set
    from lockstep.service.parity import recorded_parity  # late: what most calls do not need

    known = {
        name: (one.schema, applied_set(row.entry for row in one.rows if row.entry is not None))
        for name, one in states.items()
        if one.schema is not None
    }
    return recorded_parity(settings, known)


def _recorded(session: Session) -> State | None:
    try:
        return read_newest(session)
    except LedgerError:  # a ledger of an older form, or one whose states this role may not see
        return None


def target_status(settings: Settings, environment: Environment, folder: Folder) -> TargetStatus:
    """Return the status of one environment; its trouble is in `error`."""
    name: str | None = None
    try:
        target = status_target(settings, environment, folder)
        name = target.name
        session = open_session(target, run_id=new_run_id(), read_only=True)
        try:
            return session_status(session, environment, folder)
        finally:
            session.close()
    except LockstepError as error:
        return unread(environment, name, error)


def status_target(settings: Settings, environment: Environment, folder: Folder) -> Target:
    """Return the target with what its status needs. Raises ConfigError."""
    return target_of(settings, environment, with_settings=any(m.up.directives.uses for m in folder.repeatable))


def unread(environment: Environment, target: str | None, error: LockstepError) -> TargetStatus:
    """Return the status of an environment that could not be read."""
    return TargetStatus(environment=environment.name, target=target, rows=(), initialised=False, error=error)


def session_status(session: Session, environment: Environment, folder: Folder) -> TargetStatus:
    """Read the status over an open session, in two or three round trips. Raises what keeps it from being read."""
    target = session.target
    try:
        ledger = read_ledger(session)
        standing = None
        asked: tuple[Approval, ...] = ()
        if environment.protected:
            from lockstep.postgres.standing import read_standing  # late: what most environments do not need
            from lockstep.service.approval.records import records_of

            standing = read_standing(session)
            asked = records_of(
                standing.approvals,
                standing.starters,
                now=standing.approvals[-1][6] if standing.approvals else datetime.now(UTC),
            ).open()
        schema = _recorded(session)
    except LedgerMissing:
        rows = compare(folder, Ledger(), {})
        return TargetStatus(environment=environment.name, target=target.name, rows=rows, initialised=False, error=None)
    return TargetStatus(
        environment=environment.name,
        target=target.name,
        rows=compare(folder, ledger, target.settings),
        initialised=True,
        error=None,
        backups=standing.backups if standing else None,
        rehearsed=standing.rehearsed if standing else None,
        asked=asked,
        schema=schema,
    )
