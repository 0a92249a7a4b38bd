"""`history`: the audit log of a target, whether it is whole, and how long things took. Read-only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lockstep.config import Environment, Settings
from lockstep.core.audit import Chain, HeadCheck, KnownHead, judge_heads
from lockstep.core.chronicle import Chronicle
from lockstep.core.trend import Trend
from lockstep.postgres.audit import LoggedEvent, Wanted, read_log
from lockstep.postgres.connection import Session, open_session
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The newest events of one target."""

    environment: str
    target: str  # shown name
    events: tuple[LoggedEvent, ...]  # newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What verifying the log of one target gave."""

    environment: str
    target: str  # shown name
    chain: Chain
    check: HeadCheck | None  # against heads that are known outside of the database; None: none could be known

    @property
    def is_whole(self) -> bool:
        """Whether nothing was found. What could not be looked at is in `check`."""
        return self.chain.broken is None and not (self.check and self.check.is_wrong)


def history(settings: Settings, environment: Environment, *, limit: int | None, wanted: Wanted) -> History:
    """Return the newest `limit` of the events that are wanted, or all. Raises Unreachable, LedgerMissing, LedgerFiltered."""
    target = target_of(settings, environment, with_settings=False)
    session = open_session(target, run_id=new_run_id(), read_only=True)
    try:
        events = read_log(session, limit=limit, wanted=wanted)
        return History(environment=environment.name, target=target.name, events=tuple(events))
    finally:
        session.close()


def verify_history(
    settings: Settings, environment: Environment, *, given: KnownHead | None = None, since: datetime | None = None
) -> Verified:
    """Verify the chain, and compare it with `given` and with the heads in the manifests of the environment's backups.

    `since`: heads of an earlier time are passed over. A bucket that cannot be read is no error: it is in the result.
    Raises Unreachable, LedgerMissing, LedgerFiltered, ConfigError.
    """
    from lockstep.postgres.auditchain import read_hashes, read_restores, verify_chain

    heads: list[KnownHead] = [given] if given else []
    told = HeadCheck()
    if settings.backup is not None:
        from lockstep.service.heads import Outside  # late: the modules of the store are not for a plain history

        # Before the log is read: a backup that is taken meanwhile must not look newer than the log.
        outside = Outside.read(settings, environment.name, since)
        heads += outside.heads
        told = outside.told
    target = target_of(settings, environment, with_settings=False)
    session = open_session(target, run_id=new_run_id(), read_only=True)
    try:
        with session.connection.transaction():
            session.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # all of one moment
            chain = verify_chain(session)
            restores = read_restores(session)
            hashes = read_hashes(session, [head.number for head in heads])
    finally:
        session.close()
    if settings.backup is not None:
        told = outside.behind(settings, told, restores, chain, hashes)
    judged = judge_heads(heads, hashes, chain, restores, environment.name)
    check = None
    if settings.backup is not None or given is not None:
        check = HeadCheck(
            heads=judged,
            passed_over=told.passed_over,
            unreadable=told.unreadable,
            false_restores=told.false_restores,
            export=told.export,
            trouble=told.trouble,
        )
    return Verified(environment=environment.name, target=target.name, chain=chain, check=check)


def trend(
    settings: Settings, environment: Environment, *, since: datetime | None, until: datetime | None, runs: int
) -> Trend:
    """Return the times of one target, summed up on its server. Raises Unreachable, LedgerMissing, LedgerFiltered."""
    from lockstep.postgres.timings import read_runs, read_timings, read_waits

    target = target_of(settings, environment, with_settings=False)
    session = open_session(target, run_id=new_run_id(), read_only=True)
    try:
        return Trend(
            environment=environment.name,
            target=target.name,
            timings=read_timings(session, since, until),
            runs=read_runs(session, since, until, limit=runs),
            waits=read_waits(session, since, until, limit=5),
        )
    finally:
        session.close()


#: Of each environment, where nobody says how many.
DEPLOYS = 20
MIGRATIONS = 100


def chronicle(
    settings: Settings, environment: Environment, *, deploys: int = DEPLOYS, migrations: int = MIGRATIONS
) -> Chronicle:
    """Return the newest deploys and migrations of one target. Raises Unreachable, LedgerMissing, LedgerFiltered."""
    target = target_of(settings, environment, with_settings=False)
    session = open_session(target, run_id=new_run_id(), read_only=True)
    try:
        return chronicle_of(session, environment.name, deploys=deploys, migrations=migrations)
    finally:
        session.close()


def chronicle_of(
    session: Session, environment: str, *, deploys: int = DEPLOYS, migrations: int = MIGRATIONS
) -> Chronicle:
    """The same over a session that is open."""
    from lockstep.postgres.timings import read_deploys, read_ran

    runs, older = read_deploys(session, environment, limit=deploys)
    ran, earlier = read_ran(session, limit=migrations)
    return Chronicle(
        environment=environment,
        target=session.target.name,
        deploys=runs,
        ran=ran,
        deploys_left_out=older,
        ran_left_out=earlier,
    )
