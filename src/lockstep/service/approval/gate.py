"""The run's side of an approval: it asks, looks how that stands, and waits where a process may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lockstep.config import Environment, Settings
from lockstep.core.approval import Approval, How
from lockstep.postgres.entries import RunInfo
from lockstep.service.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be approved."""

    target: str  # shown name
    plan_digest: str
    change_digest: str | None
    what: tuple[str, ...]  # files, in order
    headline: str  # of the rehearsal
    backup: str | None
    flow_run: str | None = None  # Prefect's id; None: a process waits in the foreground
    again: str = "deploy"  # the command that would ask anew


def ask(
    settings: Settings,
    environment: Environment,
    run: RunInfo,
    wanted: Wanted,
    progress: Progress,
    *,
    attempt: int = 1,
) -> Approval:
    """Ask for approval, or find what this run asked before for the same plan and changes, and how that stands.

    An expired request is answered as expired here (logged). Raises RunWaits when another run waits on this target;
    what nobody waits for any more is settled (logged) and in nobody's way.
    """
    raise NotImplementedError


def wait(
    settings: Settings,
    environment: Environment,
    run: RunInfo,
    asked: Approval,
    progress: Progress,
    *,
    prompt: Callable[[Approval], tuple[bool, str | None] | None] | None = None,
) -> Approval:
    """Wait in this process until it is answered or expires, by looking every second or so. `prompt` asks at a terminal.

    One session stays open meanwhile, by which others see that somebody still waits.
    """
    raise NotImplementedError


def pass_on(target: str, environment: str, approval: Approval, *, again: str) -> None:
    """Return when it is approved; raises NotApproved for every other standing."""
    raise NotImplementedError


def answer(
    settings: Settings,
    environment: Environment,
    run: RunInfo,
    approval: Approval,
    *,
    approve: bool,
    reason: str | None,
    how: How,
    by: str | None = None,
) -> Approval:
    """Write an answer into the audit log. Raises UsageError where `two_person` forbids it, or it is answered already."""
    raise NotImplementedError
