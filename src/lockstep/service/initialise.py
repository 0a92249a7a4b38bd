"""`init`: create the ledger of a target, or upgrade an older table in place."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.config import Environment, Settings
from lockstep.core.migration import Folder
from lockstep.postgres.audit import Event
from lockstep.postgres.connection import guard, open_session, refuse_standby
from lockstep.postgres.ledger import read_ledger
from lockstep.postgres.ledger_setup import Upgraded, create_ledger
from lockstep.postgres.lock import take_lock
from lockstep.service.project import recognition, target_of
from lockstep.service.recording import own_changes_recorded
from lockstep.service.run import new_run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialised:
    """What `init` did on one target."""

    target: str  # shown name
    ledger: str  # schema-qualified
    upgrade: Upgraded
    entries: int  # rows of the ledger now
    occupied: int  # tables that are there while the ledger is empty: a baseline is needed


def initialise(settings: Settings, environment: Environment, folder: Folder) -> Initialised:
    """Create or upgrade the ledger. Idempotent; takes the lock; one transaction.

    Raises Unreachable, LockHeld, LedgerForeign, LedgerError, UsageError on a standby.
    """
    target = target_of(settings, environment, with_settings=False)
    run_id = new_run_id()
    session = open_session(target, run_id=run_id)
    try:
        refuse_standby(session)
        take_lock(session)
        with guard(target), own_changes_recorded(session, run_id):
            upgrade = create_ledger(
                session,
                recognise=recognition(settings, folder).known,
                reader=settings.project.ledger_reader,
                approvers=settings.approval.approvers,
                event=Event(event="init", run_id=run_id),
            )
        ledger = read_ledger(session)
        return Initialised(
            target=target.name,
            ledger=target.ledger,
            upgrade=upgrade,
            entries=len(ledger.entries),
            occupied=ledger.occupied,
        )
    finally:
        session.close()
