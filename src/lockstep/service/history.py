"""`history`: the audit log of a target, and whether its chain is whole. Read-only."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.config import Environment, Settings
from lockstep.postgres.audit import Chain, LoggedEvent, read_log, verify_chain
from lockstep.postgres.connection import open_session
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The newest events of one target."""

    environment: str
    target: str  # shown name
    events: tuple[LoggedEvent, ...]  # newest first
    chain: Chain | None  # when it was verified


def history(settings: Settings, environment: Environment, *, limit: int = 30, verify: bool = False) -> History:
    """Return the newest `limit` events. Raises Unreachable, LedgerMissing, LedgerFiltered."""
    target = target_of(settings, environment, with_settings=False)
    session = open_session(target, run_id=new_run_id(), read_only=True)
    try:
        events = read_log(session, limit=limit)
        chain = verify_chain(session) if verify else None
        return History(environment=environment.name, target=target.name, events=tuple(events), chain=chain)
    finally:
        session.close()
