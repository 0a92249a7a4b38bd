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
from lockstep.errors import LedgerMissing, LockstepError, Unreachable
from lockstep.postgres.audit import count_log, read_log
from lockstep.postgres.connection import Session, open_session
from lockstep.service.approval.records import read_records
from lockstep.service.bounded import answer, give_up, within
from lockstep.service.health import thresholds
from lockstep.service.history import chronicle_of
from lockstep.service.overview import PATIENCE, Overview, overview
from lockstep.service.page.facts import LogFacts, PageFacts
from lockstep.service.project import target_of
from lockstep.service.redaction import known_secrets, redact
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

    with ThreadPoolExecutor(max_workers=min(8, len(environments))) as pool:
        read = pool.map(lambda one: _log(settings, one, rows), environments)
        for one, facts in zip(environments, read, strict=True):
            if isinstance(facts, LogFacts):
                found[one.name] = facts
            elif not isinstance(facts, LedgerMissing):
                errors[one.name] = facts
    return found, errors


def _log(settings: Settings, environment: Environment, rows: int) -> LogFacts | LockstepError:
    """The log of one environment, or why it could not be read within its time. Never raises a LockstepError."""
    look = _Look(settings, environment, rows)
    if not within(PATIENCE, look.run, name=f"log of {environment.name}"):
        give_up(look.session)
        return Unreachable(
            target=environment.name,
            reason=f"its log was not read within {PATIENCE:.0f} s",
            hint=f"lockstep history {environment.name}",
        )
    assert look.came is not None
    return look.came


class _Look:
    """Reading a log, under way."""

    def __init__(self, settings: Settings, environment: Environment, rows: int) -> None:
        self._settings = settings
        self._environment = environment
        self._rows = rows
        self.session: Session | None = None
        self.came: LogFacts | LockstepError | None = None

    def run(self) -> None:
        try:
            self.came = self._read()
        except LockstepError as error:
            self.came = error
        except Exception as error:
            text = redact(f"unexpected {type(error).__name__}: {error}", known_secrets(self._settings)).strip()
            self.came = LockstepError(text, hint="this is unexpected: please report it")

    def _read(self) -> LogFacts:
        target = target_of(self._settings, self._environment, with_settings=False)
        session = self.session = open_session(target, run_id=new_run_id(), read_only=True)
        rows = self._rows
        try:
            approvals = read_records(session).approvals[::-1]
            return LogFacts(
                chronicle=chronicle_of(session, self._environment.name, deploys=rows),
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
