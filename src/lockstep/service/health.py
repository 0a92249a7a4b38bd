"""`health`: what a DBA would look at, for several environments at once. Read-only; one's trouble does not hide another's.

Reads the database and, where there is one, the newest backup that is old enough to reckon rates from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING

from lockstep.config import Environment, Settings
from lockstep.core.duration import parse_duration
from lockstep.core.health.checks import BY_ID, CHECKS
from lockstep.core.health.facts import Earlier
from lockstep.core.health.findings import Finding, Hidden, Ignore, Severity, divided, sorted_findings
from lockstep.core.health.judging import judge, unseen
from lockstep.core.health.thresholds import Limits, Thresholds
from lockstep.core.nearest import meant
from lockstep.core.size import parse_bytes
from lockstep.errors import ConfigError, ExitCode, LockstepError
from lockstep.postgres.connection import Session, open_session
from lockstep.postgres.health.reading import read_facts
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockstep.storage.backups import Backups
    from lockstep.storage.bucket import Bucket

OLD_ENOUGH = timedelta(hours=24)  # a backup of last night says more about a day than one of an hour ago
PATIENCE = 10.0  # seconds for the bucket; without it the health is told all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """A finding that the configuration asks not to count."""

    finding: Finding
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """The health of one environment."""

    environment: str
    target: str | None  # shown name; None when the configuration does not even say
    findings: tuple[Finding, ...] = ()  # worst first
    ignored: tuple[Ignored, ...] = ()
    hidden: tuple[Hidden, ...] = ()  # what could not be judged, or a part of it
    checks: int = len(CHECKS)  # how many there are
    rates: str = ""  # what rates are reckoned from, in words
    error: LockstepError | None = None  # why nothing could be read

    @property
    def blind(self) -> tuple[str, ...]:
        """Return the checks of which nothing could be seen."""
        return tuple(dict.fromkeys(one.check for one in self.hidden if one.whole))

    def count(self, severity: Severity) -> int:
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def exit_code(self) -> ExitCode:
        """What `health --check` says of it."""
        if self.error is not None:
            return self.error.exit_code
        return ExitCode.DISAGREES if self.count(Severity.CRITICAL) else ExitCode.DONE


def health(settings: Settings, environments: Sequence[Environment]) -> tuple[HealthReport, ...]:
    """Return the health of each environment, in the given order. Raises ConfigError for a wrong [health] only."""
    thresholds(settings)
    if len(environments) <= 1:
        return tuple(check_health(settings, one) for one in environments)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(8, len(environments))) as pool:
        return tuple(pool.map(lambda one: check_health(settings, one), environments))


def check_health(settings: Settings, environment: Environment) -> HealthReport:
    """Return the health of one environment; its trouble is in `error`.

    Read-only, takes no lock that anybody waits for, reads no row of a table. boto3 is loaded only where there is a
    [backup]; a bucket that cannot be reached costs the rates, not the report. Raises ConfigError for a wrong [health].
    """
    thresholds(settings)
    name: str | None = None
    observations = Observations(settings)
    try:
        target = target_of(settings, environment, with_settings=False)
        name = target.name
        # Asked while the database is connected to and read; joined before tables are sized.
        observation = observations.of(environment.name)
        session = open_session(target, run_id=new_run_id(), read_only=True)
        try:
            return session_health(settings, environment, session, observation)
        finally:
            session.close()
    except LockstepError as error:
        return HealthReport(environment=environment.name, target=name, error=error)
    finally:
        observations.close()


def session_health(
    settings: Settings, environment: Environment, session: Session, observation: Observation
) -> HealthReport:
    """Do the same over an open session. Raises Unreachable, and ConfigError for a wrong [health]."""
    wanted = thresholds(settings)
    reading = read_facts(session, timeout_ms=wanted.timeout_ms, earlier=observation.wait, backups=environment.protected)
    found, ignored = divided(judge(reading.facts, wanted, environment.name), wanted.ignore)
    order = [check.id for check in CHECKS]
    hidden = [*reading.hidden, *unseen(reading.facts, wanted)]
    silent = {one.check for one in wanted.ignore if one.object == "*"}
    server = reading.facts.server
    return HealthReport(
        environment=environment.name,
        target=session.target.name,
        findings=sorted_findings(found, order),
        ignored=tuple(Ignored(finding=finding, reason=reason) for finding, reason in ignored),
        hidden=tuple(sorted((h for h in hidden if h.check not in silent), key=lambda h: order.index(h.check))),
        rates=observation.words(server.statistics_since if server else None),
    )


# -- rates --------------------------------------------------------------------------------------------------------


class Observations:
    """Earlier backups of several environments, looked for over one connection to the bucket, and within one time limit.

    So a bucket that does not answer costs a look at many environments as much as a look at one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bucket: Bucket | None = None
        self._opening = Lock()
        self._deadline: float | None = None

    def of(self, environment: str) -> Observation:
        """Begin to look for an environment's backup."""
        with self._opening:
            if self._deadline is None:
                self._deadline = monotonic() + PATIENCE
        return Observation(self._settings, environment, self._deadline, self._open)

    def close(self) -> None:
        """Let go of the connection. A look that is still under way finds nothing then."""
        with self._opening:
            bucket, self._bucket = self._bucket, None
        if bucket is not None:
            bucket.close()

    def _open(self) -> Bucket:
        from lockstep.service.store import bucket_settings
        from lockstep.storage.bucket import Bucket

        with self._opening:
            if self._bucket is None:
                self._bucket = Bucket(bucket_settings(self._settings))
            return self._bucket


class Observation:
    """An earlier backup, looked for in a thread of its own. Nothing where there is no [backup]."""

    def __init__(self, settings: Settings, environment: str, deadline: float, bucket: Callable[[], Bucket]) -> None:
        self.earlier: Earlier | None = None
        self._why = "no [backup] is configured"
        self._thread: Thread | None = None
        self._deadline = deadline
        if settings.backup is not None:
            self._why = f"the bucket did not answer within {PATIENCE:.0f} s"
            # A daemon: a bucket that never answers must not keep the process.
            self._thread = Thread(target=self._look, args=(bucket, environment), daemon=True)
            self._thread.start()

    def wait(self) -> Earlier | None:
        """Return the backup, or None when there is none or it takes too long."""
        if self._thread is not None:
            self._thread.join(max(0.0, self._deadline - monotonic()))
            self._thread = None
        return self.earlier

    def words(self, counters_since: datetime | None) -> str:
        """Say what rates are reckoned from."""
        if self.earlier is not None:
            return f"the backup of {self.earlier.taken_at:%Y-%m-%d %H:%M} UTC ({self.earlier.backup})"
        since = f"the server's counters since {counters_since:%Y-%m-%d %H:%M} UTC" if counters_since else "nothing"
        return f"{since}; {self._why}"

    def _look(self, bucket: Callable[[], Bucket], environment: str) -> None:
        from lockstep.storage.backups import Backups

        try:
            self.earlier, self._why = _newest_old_enough(Backups(bucket()), environment)
        except LockstepError as error:
            self._why = f"no backup to compare with: {error.message.splitlines()[0]}"
        except Exception as error:  # the bucket was let go of meanwhile
            self._why = f"no backup to compare with: {type(error).__name__}"


def _newest_old_enough(backups: Backups, environment: str) -> tuple[Earlier | None, str]:
    from lockstep.storage.folders import backup_time

    young = datetime.now(UTC) - OLD_ENOUGH
    ids = [folder.id for folder in backups.folders(environment) if folder.manifest_key]
    old = [one for one in ids if (taken := backup_time(one)) is not None and taken <= young]
    for one in [*reversed(old), *(one for one in ids if one not in old)][:3]:
        try:
            manifest = backups.read(environment, one)
            contents = backups.contents(manifest) if manifest else None
        except LockstepError:
            continue  # a damaged one is the business of `backups verify`
        if manifest is not None and contents is not None:
            entries = manifest.ledger.entries if manifest.ledger is not None else None
            return Earlier(backup=one, taken_at=manifest.taken_at, contents=contents, entries=entries), ""
    return None, "there is no backup to compare with"


# -- thresholds ---------------------------------------------------------------------------------------------------


def thresholds(settings: Settings) -> Thresholds:
    """Return [health] as numbers. Raises ConfigError with the line of what is none, or in the wrong order."""
    table = settings.health

    def number(text: str, key: str, parse: Callable[[str], int]) -> int:
        try:
            return parse(text)
        except ValueError as error:
            raise _bad(settings, key, str(error)) from None

    def limits(key: str, parse: Callable[[str], int] | None = None) -> Limits:
        first, second = getattr(table, key)
        pair = (number(first, key, parse), number(second, key, parse)) if parse else (first, second)
        falling = key == "key_days_left"
        if (pair[0] < pair[1]) if falling else (pair[0] > pair[1]):
            raise _bad(settings, key, "the first number is for a warning, the second, which is worse, for critical")
        return Limits(*pair)

    if (timeout := number(table.timeout, "timeout", parse_duration)) < 1:
        raise _bad(settings, "timeout", "must be longer than nothing")
    return Thresholds(
        timeout_ms=timeout,
        key_used=limits("key_used"),
        key_days_left=limits("key_days_left"),
        transaction=limits("transaction", parse_duration),
        idle_in_transaction=limits("idle_in_transaction", parse_duration),
        blocked=limits("blocked", parse_duration),
        prepared=limits("prepared", parse_duration),
        wraparound=limits("wraparound"),
        freeze_overdue=table.freeze_overdue,
        connections=limits("connections"),
        replica_lag=limits("replica_lag", parse_duration),
        replica_behind=limits("replica_behind", parse_bytes),
        slot_retained=limits("slot_retained", parse_bytes),
        dead_rows=table.dead_rows,
        changed_rows=table.changed_rows,
        small_table=number(table.small_table, "small_table", parse_bytes),
        growth=limits("growth"),
        growth_size=number(table.growth_size, "growth_size", parse_bytes),
        unused_index=number(table.unused_index, "unused_index", parse_duration),
        backup=limits("backup", parse_duration),
        verified_backup=limits("verified_backup", parse_duration),
        ignore=_ignores(settings),
    )


def _ignores(settings: Settings) -> tuple[Ignore, ...]:
    made = []
    for place, one in enumerate(settings.health.ignore):
        key = f"ignore[{place}]"
        if one.check not in BY_ID:
            raise _bad(settings, f"{key}.check", f"there is no check '{one.check}'{meant(one.check, BY_ID)}")
        if not one.reason.strip():
            raise _bad(settings, f"{key}.reason", "say why: whoever reads this next must know")
        made.append(Ignore(check=one.check, object=one.object, reason=one.reason))
    return tuple(made)


def _bad(settings: Settings, key: str, problem: str) -> ConfigError:
    return ConfigError(
        f"health.{key}: {problem}",
        where=settings.where(f"health.{key}"),
        hint="docs/reference/config.md lists every key, docs/reference/health.md every check",
    )
