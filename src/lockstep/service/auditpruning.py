"""`history prune`: the oldest rows of an audit log, exported to the bucket, read back, and only then removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from lockstep.config import Environment, Settings
from lockstep.core.audit import Needed, last_to_go
from lockstep.errors import ConfigError, LedgerError, LockstepError
from lockstep.postgres.audit import Event
from lockstep.postgres.auditchain import read_restores, restore_rows, verify_chain
from lockstep.postgres.auditprune import cut, last_before, oldest_rows, read_needed, read_undone
from lockstep.postgres.connection import Session, open_session
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.ledger import read_ledger
from lockstep.service.progress import Progress
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id
from lockstep.service.store import bucket_settings, keep, recipients
from lockstep.service.worksession import work_session
from lockstep.storage.auditexport import AuditExport, export_key, read_back, write_export
from lockstep.storage.bucket import Bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPrunePlan:
    """Which rows of one log go."""

    environment: str
    target: str  # shown name
    before: datetime  # that was asked for
    first: int  # number of the oldest row that is there
    newest: int  # of the newest
    wanted: int  # last row that is older than `before`; 0: none is
    up_to: int  # last row that goes; below `first`: nothing goes
    stops: tuple[Needed, ...]  # what keeps the rest of what is old enough

    @property
    def rows(self) -> int:
        return max(0, self.up_to - self.first + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPruned:
    """What was done."""

    plan: LogPrunePlan
    export: AuditExport | None = None  # None: nothing went
    anchor: int | None = None  # number of the `prune` event


def plan_log_pruning(settings: Settings, environment: Environment, before: datetime) -> LogPrunePlan:
    """Return what `prune_log` would remove. Read-only, without the lock. Raises as it does."""
    days = _days(settings)
    target = target_of(settings, environment, with_settings=False)
    session = open_session(target, run_id=new_run_id(), read_only=True)
    try:
        return _plan(session, before, days)
    finally:
        session.close()


def prune_log(
    settings: Settings,
    environment: Environment,
    before: datetime,
    run: RunInfo,
    progress: Progress,
    *,
    reason: str | None = None,
) -> LogPruned:
    """Export the oldest rows, read them back, remove them and leave an anchor, under the target's lock.

    Nothing is removed before every exported byte was compared. Raises ConfigError (no [backup]), LockHeld,
    LedgerNotOwned, LedgerError (the chain is broken: it must stay as it is), BucketError, BackupDamaged.
    """
    days = _days(settings)
    to = recipients(settings)
    with work_session(settings, environment, run) as work, Bucket(bucket_settings(settings)) as bucket:
        session = work.session
        plan = _plan(session, before, days)
        if not plan.rows:
            return LogPruned(plan=plan)
        name = environment.name
        progress.started(name, "export")
        counted = _Counted(session, plan.up_to)
        key = export_key(bucket, name, first=plan.first, last=plan.up_to, run_id=run.run_id, encrypted=bool(to))
        head = {
            "environment": name, "first": plan.first, "last": plan.up_to, "exported_at": datetime.now(UTC).isoformat(),
            "run_id": run.run_id,
        }  # fmt: skip
        export = write_export(bucket, key, head, counted.texts(), to)
        try:
            read_back(bucket, export)
            progress.finished(name, "export", f"s3://{bucket.name}/{key}", None)
            anchor = cut(
                session,
                up_to=plan.up_to,
                rows=counted.rows,
                last_hash=counted.last_hash,
                anchor=_anchor(session, plan, export, run, reason, counted),
            )
        except LockstepError:
            progress.note(name, f"nothing was removed; the export stays and can go: s3://{bucket.name}/{key}")
            raise
        return LogPruned(plan=plan, export=export, anchor=anchor)


class _Counted:
    """The rows on their way out, counted and looked at."""

    def __init__(self, session: Session, up_to: int) -> None:
        self._session = session
        self._up_to = up_to
        self.rows = 0
        self.last_hash = ""

    def texts(self) -> Iterator[str]:
        for _number, own, text in oldest_rows(self._session, self._up_to):
            self.rows += 1
            self.last_hash = own
            yield text


def _days(settings: Settings) -> int:
    if settings.backup is None:
        raise ConfigError(
            "history prune exports the rows before it removes them, and there is no [backup] to export to",
            where="lockstep.toml",
            hint='add [backup] with bucket = "s3://…"',
        )
    return keep(settings).days


def _plan(session: Session, before: datetime, days: int) -> LogPrunePlan:
    target = session.target
    chain = verify_chain(session)
    if chain.broken is not None:
        raise LedgerError(
            f"{target.name}: the audit log is broken at row {chain.broken.number}, so all of it must stay. "
            "Nothing was removed.",
            hint=f"lockstep history {target.environment} --verify",
        )
    wanted = last_before(session, before)
    up_to, stops = last_to_go(wanted, read_needed(session, days=days), read_undone(session))
    return LogPrunePlan(
        environment=target.environment,
        target=target.name,
        before=before,
        first=chain.first,
        newest=chain.newest,
        wanted=wanted,
        up_to=up_to,
        stops=stops,
    )


def _anchor(
    session: Session, plan: LogPrunePlan, export: AuditExport, run: RunInfo, reason: str | None, counted: _Counted
) -> Event:
    gone = [one for one in read_restores(session) if one.number <= plan.up_to]
    details: dict[str, object] = {
        "up_to": plan.up_to,
        "hash": counted.last_hash,
        "rows": counted.rows,
        "before": plan.before.isoformat(),
        **asdict(export),
        # What is read from the oldest rows, and must not go with them.
        "salt": read_ledger(session).salt,
        "restores": restore_rows(gone),
        "reason": reason,
    }
    return Event(event="prune", run_id=run.run_id, orchestrator_url=run.orchestrator_url, details=details)
