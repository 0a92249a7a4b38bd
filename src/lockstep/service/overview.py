"""What the morning is told: everything about all environments, looked at in parallel, each within a bounded time.

Gathers and decides nothing. Read-only, one session per environment. An environment that does not answer hides no other
one, and a part that could not be looked at hides no other part: it is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import BoundedSemaphore

from lockstep.config import Environment, Settings
from lockstep.core.approval import Approval, Request
from lockstep.core.migration import Folder
from lockstep.errors import LockstepError, Unreachable
from lockstep.postgres.connection import Session, Target, open_session
from lockstep.postgres.standing import Rehearsed
from lockstep.service.bounded import give_up, within
from lockstep.service.drifting import DriftReport, session_drift
from lockstep.service.health import HealthReport, Observation, Observations, session_health
from lockstep.service.parity import RecordedParity
from lockstep.service.redaction import known_secrets, redact
from lockstep.service.run import new_run_id
from lockstep.service.status import TargetStatus, parity, session_status, status_target, unread

__all__ = ["EnvironmentOverview", "Overview", "Rehearsed", "Unseen", "look", "overview", "together"]

PATIENCE = 20.0  # seconds for an environment to answer, a second try included; and then for what takes work
AT_ONCE = 16  # environments that are waited for; each has one session
_AT_WORK = BoundedSemaphore(6)  # environments whose server and ours have work to do: more would only be slower each
_AGAIN = (1.0, 4.0)  # seconds before another try of a connection that was refused at once

Settle = Callable[[Environment], Sequence[Approval]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """A part that could not be looked at."""

    part: str  # drift, health, approvals, parity
    error: LockstepError


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentOverview:
    """One environment, as it was when it was looked at."""

    environment: str
    target: str | None  # shown name; None when the configuration does not even say
    protected: bool
    status: TargetStatus  # rows of the matrix, backups by the audit log, recorded schema; or why it could not be read
    drift: DriftReport | None = None  # None: not looked at (no ledger, unreachable, or see `unseen`)
    health: HealthReport | None = None  # None: not looked at
    unseen: tuple[Unseen, ...] = ()
    lost: str | None = None  # a backup that holds a ledger, where the database has none
    ms: int = 0  # how long the look took

    @property
    def error(self) -> LockstepError | None:
        """Why nothing at all could be read."""
        return self.status.error

    @property
    def waiting(self) -> tuple[Request, ...]:
        """Runs that wait for approval, oldest first."""
        return self.status.waiting

    @property
    def rehearsed(self) -> Rehearsed | None:
        """The newest rehearsal of a protected environment, as its audit log has it."""
        return self.status.rehearsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All environments, in promotion order."""

    at: datetime  # when it was looked at, UTC
    environments: tuple[EnvironmentOverview, ...]
    parity: tuple[RecordedParity, ...] = ()  # of environments with the same migrations
    unseen: tuple[Unseen, ...] = ()  # what could not be compared


def overview(
    settings: Settings, environments: Sequence[Environment], folder: Folder, *, seconds: float = PATIENCE
) -> Overview:
    """Look at all environments, several at once, `seconds` for each. Never raises for an environment's trouble."""
    if not environments:
        return Overview(at=datetime.now(UTC), environments=())
    with (
        closing(Observations(settings)) as observations,
        ThreadPoolExecutor(max_workers=min(AT_ONCE, len(environments)), thread_name_prefix="overview") as pool,
    ):
        looks = pool.map(
            lambda one: look(settings, one, folder, observations=observations, seconds=seconds), environments
        )
        return together(settings, list(looks), seconds=seconds)


def together(settings: Settings, looks: Sequence[EnvironmentOverview], *, seconds: float = PATIENCE) -> Overview:
    """Put what was seen of the environments side by side: their parity."""
    found: list[tuple[RecordedParity, ...]] = []
    trouble: list[LockstepError] = []

    def compare() -> None:
        try:
            found.append(parity(settings, [one.status for one in looks]))
        except Exception as error:
            trouble.append(_safe(settings, error))

    if not within(seconds, compare, name="parity") and not trouble:
        trouble.append(LockstepError(f"the schemas could not be compared within {seconds:.0f} s", hint="lockstep diff"))
    return Overview(
        at=datetime.now(UTC),
        environments=tuple(looks),
        parity=found[0] if found else (),
        unseen=tuple(Unseen(part="parity", error=error) for error in trouble[:1]),
    )


def look(
    settings: Settings,
    environment: Environment,
    folder: Folder,
    *,
    observations: Observations,
    seconds: float = PATIENCE,
    settle: Settle | None = None,
) -> EnvironmentOverview:
    """Look at one environment: `seconds` at most to connect and read its ledger, and as long for all the rest.

    What was not seen by then is named. Never raises. One that does not answer keeps no other one from being looked at;
    between the two it waits until few others are at work. `settle` is given an environment with open requests for
    approval, and returns which of them are open after it: the nightly run logs what expired, and what nobody waits for.
    """
    began = time.monotonic()
    one = _Look(settings, environment, folder, observations, settle, began + seconds / 2)
    if not within(seconds, one.reach, name=f"reach {environment.name}"):
        one.give_up(seconds)
    elif one.reached:
        with _AT_WORK:
            if not within(seconds, one.work, name=f"look at {environment.name}"):
                one.give_up(seconds)
    return one.result(round((time.monotonic() - began) * 1000))


# -- inside --------------------------------------------------------------------------------------------------------------


class _Look:
    """One look under way. Each part stands as soon as it is seen, so that a look that is given up keeps what it has."""

    def __init__(
        self,
        settings: Settings,
        environment: Environment,
        folder: Folder,
        observations: Observations,
        settle: Settle | None,
        tries_until: float,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._folder = folder
        self._observations = observations
        self._settle = settle
        self._tries_until = tries_until
        self._target: Target | None = None
        self._session: Session | None = None
        self._observation: Observation | None = None
        self._status: TargetStatus | None = None
        self._drift: DriftReport | None = None
        self._health: HealthReport | None = None
        self._lost: str | None = None
        self._unseen: list[Unseen] = []
        self._part: str | None = None  # that is looked at now
        self._late: LockstepError | None = None
        self._over = False  # given up: what comes now is nobody's

    @property
    def reached(self) -> bool:
        return self._status is not None and self._status.error is None

    def reach(self) -> None:
        """Connect, and read the ledger: what an environment that works answers at once."""
        try:
            self._target = status_target(self._settings, self._environment, self._folder)
            self._observation = self._observations.of(self._environment.name)
            self._session = self._connected(self._target)
            self._status = session_status(self._session, self._environment, self._folder)
        except Exception as error:
            if not self._over:
                self._status = self._unread(_safe(self._settings, error))
            self._close()

    def work(self) -> None:
        """Look at all the rest over the same session."""
        session, observation, status = self._session, self._observation, self._status
        assert session is not None and observation is not None and status is not None
        if status.initialised:
            with self._looking_at("drift"):
                self._drift = session_drift(self._settings, self._environment, session)
        with self._looking_at("health"):
            self._health = session_health(self._settings, self._environment, session, observation)
        self._close()
        if not status.initialised and (earlier := observation.wait()) is not None and earlier.entries is not None:
            self._lost = earlier.backup
        if status.asked and self._settle is not None:
            with self._looking_at("approvals"):
                self._status = replace(status, asked=tuple(self._settle(self._environment)))

    def _close(self) -> None:
        if self._session is not None:
            with suppress(Exception):
                self._session.close()

    def give_up(self, seconds: float) -> None:
        """Keep what was seen, and name what was not."""
        self._over = True
        give_up(self._session)
        self._late = Unreachable(
            target=self._target.name if self._target else self._environment.name,
            reason=f"no answer within {seconds:.0f} s",
            hint=f"lockstep doctor {self._environment.name}",
        )
        if self._status is None:
            self._status = self._unread(self._late)

    def result(self, ms: int) -> EnvironmentOverview:
        status, drift, health, unseen = self._status, self._drift, self._health, list(self._unseen)
        assert status is not None
        for part, found in (("drift", drift), ("health", health), ("approvals", self._part != "approvals" or None)):
            missed = found is None and status.error is None and (part != "drift" or status.initialised)
            error = self._late or (unseen[-1].error if unseen else None)
            if missed and error is not None and part not in {one.part for one in unseen}:
                unseen.append(Unseen(part=part, error=error))
        return EnvironmentOverview(
            environment=self._environment.name,
            target=status.target,
            protected=self._environment.protected,
            status=status,
            drift=drift,
            health=health,
            unseen=tuple(unseen),
            lost=self._lost,
            ms=ms,
        )

    def _connected(self, target: Target) -> Session:
        """Connect. What is refused at once is tried again, as long as there is time: a server may be restarting."""
        for pause in (*_AGAIN, None):
            began = time.monotonic()
            try:
                return open_session(target, run_id=new_run_id(), read_only=True)
            except Unreachable:
                quick = time.monotonic() - began < _AGAIN[0]
                if pause is None or not quick or time.monotonic() + pause > self._tries_until:
                    raise
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def _looking_at(self, part: str) -> Iterator[None]:
        """Note the trouble of one part: it hides no other part."""
        self._part = part
        try:
            yield
        except Exception as error:
            if not self._over:
                self._unseen.append(Unseen(part=part, error=_safe(self._settings, error)))
        self._part = None

    def _unread(self, error: LockstepError) -> TargetStatus:
        return unread(self._environment, self._target.name if self._target else None, error)


def _safe(settings: Settings, error: Exception) -> LockstepError:
    """Return an error without a secret, and without what it came from."""
    if isinstance(error, LockstepError):
        return error
    text = redact(f"unexpected {type(error).__name__}: {error}", known_secrets(settings)).strip()
    return LockstepError(text, hint="this is unexpected: please report it")
