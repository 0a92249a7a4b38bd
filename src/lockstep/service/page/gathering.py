"""What the page tells, read: the morning's overview, and of each environment that answers its audit log. Read-only.

Everything is asked at once and nobody is waited for too long: what does not answer is said on the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lockstep import __version__
from lockstep.config import Environment, Settings
from lockstep.core.duration import parse_duration
from lockstep.core.migration import Folder
from lockstep.errors import LedgerMissing, LockstepError
from lockstep.postgres.audit import count_log, read_log
from lockstep.postgres.connection import open_session
from lockstep.service.approval.records import read_records
from lockstep.service.bounded import answer
from lockstep.service.health import thresholds
from lockstep.service.history import chronicle_of
from lockstep.service.overview import PATIENCE, Overview, overview
from lockstep.service.page.facts import LogFacts, PageFacts
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id
from lockstep.storage.backups import ListedBackup

LISTING = 60.0  # seconds for the bucket to list what it has


def gather(
    settings: Settings,
    environments: Sequence[Environment],
    folder: Folder,
    *,
    rows: int,
    seen: Overview | None = None,
) -> PageFacts:
    """Return all facts. `seen`: the overview, where somebody has looked already. Raises ConfigError alone."""
    wanted = thresholds(settings)
    with ThreadPoolExecutor(max_workers=1) as pool:
        listing = pool.submit(_backups, settings, [one.name for one in environments])
        morning = seen or overview(settings, environments, folder)
        backups, backups_error = listing.result()
    answering = [one.environment for one in morning.environments if one.error is None and one.status.initialised]
    logs, errors = _logs(settings, [settings.environment(name) for name in answering], rows)
    return PageFacts(
        project=settings.folder.resolve().name,
        version=__version__,
        overview=morning,
        logs=logs,
        log_errors=errors,
        backups=backups,
        backups_error=backups_error,
        backup_place=settings.backup_place if settings.backup is not None and backups_error is None else "",
        backup_age=wanted.backup,
        verified_age=wanted.verified_backup,
        max_blocking_ms=parse_duration(settings.rehearsal.max_blocking),
        rows=rows,
        contacts=tuple(settings.project.contacts),
        runbook=settings.project.runbook,
    )


def _logs(
    settings: Settings, environments: Sequence[Environment], rows: int
) -> tuple[dict[str, LogFacts], dict[str, LockstepError]]:
    found: dict[str, LogFacts] = {}
    errors: dict[str, LockstepError] = {}
    if not environments:
        return found, errors

    def read(one: Environment) -> LogFacts | LockstepError:
        return answer(PATIENCE, lambda: _log(settings, one, rows), name=one.name)

    with ThreadPoolExecutor(max_workers=min(8, len(environments))) as pool:
        for one, facts in zip(environments, pool.map(read, environments), strict=True):
            if isinstance(facts, LogFacts):
                found[one.name] = facts
            elif not isinstance(facts, LedgerMissing):
                errors[one.name] = facts
    return found, errors


def _log(settings: Settings, environment: Environment, rows: int) -> LogFacts:
    session = open_session(target_of(settings, environment, with_settings=False), run_id=new_run_id(), read_only=True)
    try:
        approvals = read_records(session).approvals[::-1]
        return LogFacts(
            chronicle=chronicle_of(session, environment.name, deploys=rows),
            approvals=approvals[:rows],
            approvals_left_out=max(0, len(approvals) - rows),
            events=tuple(read_log(session, limit=rows)),
            events_left_out=max(0, count_log(session) - rows),
        )
    finally:
        session.close()


def _backups(
    settings: Settings, environments: Sequence[str]
) -> tuple[dict[str, tuple[ListedBackup, ...]] | None, LockstepError | None]:
    if settings.backup is None:
        return None, None
    from lockstep.service.listing import list_backups  # late: boto3 is for those who have backups

    found = answer(LISTING, lambda: list_backups(settings, environments), name="the bucket")
    if isinstance(found, LockstepError):
        return None, found
    return {one.environment: one.backups[::-1] for one in found}, None
