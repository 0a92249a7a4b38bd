"""All that the page is made of, as it was gathered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from lockstep.core.approval import Approval
from lockstep.core.chronicle import Chronicle
from lockstep.core.health.thresholds import Limits
from lockstep.errors import LockstepError
from lockstep.postgres.audit import LoggedEvent
from lockstep.service.overview import Overview
from lockstep.storage.backups import ListedBackup


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFacts:
    """What the audit log of one environment gives."""

    chronicle: Chronicle
    approvals: tuple[Approval, ...]  # newest first
    approvals_left_out: int
    events: tuple[LoggedEvent, ...]  # newest first
    events_left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFacts:
    """Everything, in promotion order where it is of environments."""

    project: str  # name of its folder
    version: str  # Lockstep's
    overview: Overview
    logs: Mapping[str, LogFacts]  # of those environments that could be read
    log_errors: Mapping[str, LockstepError]
    backups: Mapping[str, tuple[ListedBackup, ...]] | None  # newest first; None: there is no [backup], or see the error
    backups_error: LockstepError | None
    backup_place: str  # s3://…; "" without [backup]
    backup_age: Limits  # milliseconds, of [health]
    verified_age: Limits
    max_blocking_ms: int | None
    rows: int  # of history, in each table
    contacts: tuple[str, ...] = ()
    runbook: str | None = None

    @property
    def at(self) -> datetime:
        return self.overview.at

    @property
    def chronicles(self) -> tuple[Chronicle, ...]:
        return tuple(one.chronicle for one in self.logs.values())

    def newest_backup(self, environment: str) -> ListedBackup | None:
        """Return the newest one in the bucket whose manifest can be read."""
        listed = (self.backups or {}).get(environment, ())
        return next((one for one in listed if one.manifest is not None), None)
