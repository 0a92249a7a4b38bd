"""What became of an environment run by run: deploys with their parts, migrations with what was rehearsed of them. Pure.

Milliseconds everywhere. The numbers come from the audit log; a migration's time is what the server measured. What a
rehearsal predicted stands beside what came of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How long a rehearsal says that others would wait for one relation."""

    ms: float
    relation: str
    mode: str  # of the lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One migration of one run."""

    name: str  # migration_name
    run_id: str | None
    at: datetime  # when it ended
    event: str  # apply, revert
    ms: int
    rehearsed_ms: float | None = None  # None: it was not rehearsed
    window: Window | None = None  # rehearsed; None: nobody would wait, or it was not rehearsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """One run on one target that applied, took back or failed something, in its parts."""

    environment: str
    run_id: str
    began: datetime
    ended: datetime
    actor: str  # role that worked
    applied: int
    reverted: int
    failed: int
    backup_ms: int | None  # None: it took none
    rehearsal_ms: int | None
    approval_ms: int | None  # from the request to its approval
    working_ms: int  # migrations alone, those that failed included
    window: Window | None = None  # the longest that was rehearsed
    reason: str | None = None  # with which it was approved
    url: str | None = None  # in the orchestrator's UI

    @property
    def machine_ms(self) -> int:
        """What it took without the wait for people."""
        return (self.backup_ms or 0) + (self.rehearsal_ms or 0) + self.working_ms

    @property
    def what(self) -> str:
        """In words: `2 applied, 1 failed`."""
        counts = [(self.applied, "applied"), (self.reverted, "reverted"), (self.failed, "failed")]
        return ", ".join(f"{count} {word}" for count, word in counts if count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chronicle:
    """The newest of one target."""

    environment: str
    target: str  # shown name
    deploys: tuple[Deploy, ...]  # newest first
    ran: tuple[Ran, ...]  # newest first
    deploys_left_out: int = 0  # older ones that are not here
    ran_left_out: int = 0


def newest_deploys(chronicles: Sequence[Chronicle], most: int) -> tuple[Deploy, ...]:
    """Return the newest deploys of all environments, newest first."""
    found = [deploy for one in chronicles for deploy in one.deploys]
    return tuple(sorted(found, key=lambda one: (one.ended, one.run_id), reverse=True)[:most])


def slowest(chronicles: Sequence[Chronicle], most: int) -> tuple[tuple[str, Ran], ...]:
    """Return the slowest migrations as they were last applied anywhere, each once: (environment, migration)."""
    newest: dict[tuple[str, str], tuple[str, Ran]] = {}
    for one in chronicles:
        for ran in one.ran:
            if ran.event == "apply":
                newest.setdefault((one.environment, ran.name), (one.environment, ran))
    worst: dict[str, tuple[str, Ran]] = {}
    for environment, ran in newest.values():
        if ran.name not in worst or ran.ms > worst[ran.name][1].ms:
            worst[ran.name] = (environment, ran)
    return tuple(sorted(worst.values(), key=lambda pair: (-pair[1].ms, pair[1].name))[:most])


def rehearsed(chronicles: Sequence[Chronicle], most: int) -> tuple[tuple[str, Ran], ...]:
    """Return the newest migrations that were rehearsed before they ran, newest first: (environment, migration)."""
    found = [(one.environment, ran) for one in chronicles for ran in one.ran if ran.rehearsed_ms is not None]
    return tuple(sorted(found, key=lambda pair: (pair[1].at, pair[1].name), reverse=True)[:most])


def windows(chronicles: Sequence[Chronicle], most: int) -> tuple[tuple[str, Ran], ...]:
    """Return those of the newest rehearsed migrations that block others, the longest first."""
    found = [pair for pair in rehearsed(chronicles, 1_000) if pair[1].window is not None]
    return tuple(sorted(found, key=lambda pair: (-(pair[1].window.ms if pair[1].window else 0), pair[1].name))[:most])
