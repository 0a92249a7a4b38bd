"""What a gate stops: rehearsal, approval, and the look at the application afterwards."""

from __future__ import annotations

from lockstep.errors.base import ExitCode, LockstepError


class RehearsalRefused(LockstepError):
    """The rehearsal did not pass, so nothing ran on the environment."""

    exit_code = ExitCode.REFUSED
    more = "rehearsal"

    def __init__(
        self,
        *,
        target: str,
        environment: str,
        outcome: str,  # failed, could not verify
        problems: str,  # in words, with what to do instead
        more: int = 0,  # problems that are not among them
        found: bool = True,  # False: nothing could be tried at all
        again: str = "sync",  # the command that goes on with it
        back: str = "",  # what to do first where the file is applied before this environment; a command
        file: str | None = None,  # that is to be changed
        hopeless: bool = False,  # it would fail in earnest as well
    ) -> None:
        self.outcome = outcome
        ending = f"\n  and {more} more" if more else ""
        super().__init__(
            f"{target}: the rehearsal {outcome}, so nothing was applied\n{problems}{ending}",
            hint=_way_on(environment, again, back, file, found=found, hopeless=hopeless),
        )


def _way_on(environment: str, again: str, back: str, file: str | None, *, found: bool, hopeless: bool) -> str:
    words = []
    if file and found:
        first = f"take it back where it is applied already ({back}), then " if back else ""
        words.append(f"{first}change {file}, then: lockstep {again}")
    elif found:
        words.append(f"lockstep rehearse {environment} tries it again on the newest backup")
    if not hopeless:
        words.append(f'to go on all the same: lockstep {again} {environment} --override "reason"')
    return "; ".join(words)


class RevertNotProven(LockstepError):
    """A revert that no trial has proven, or that loses something. Nothing ran."""

    exit_code = ExitCode.REFUSED
    more = "rollback"

    def __init__(self, *, target: str, reasons: tuple[str, ...], command: str, hint: str | None = None) -> None:
        lines = [f"{target}: this revert is not proven, so nothing was reverted:", *(f"  {one}" for one in reasons)]
        super().__init__(
            "\n".join(lines),
            hint=f"{hint or 'mend the down script, or restore a backup'}; "
            f'to revert all the same: {command} --override "reason"',
        )
        self.target = target
        self.reasons = reasons


class NotApproved(LockstepError):
    """Nobody approved what a run wanted to do: it was rejected, it expired, or it was withdrawn. Nothing ran."""

    exit_code = ExitCode.REFUSED
    more = "approval"

    def __init__(
        self,
        *,
        target: str,
        environment: str,
        how: str,  # rejected, expired, withdrawn
        by: str | None = None,  # who rejected it
        reason: str | None = None,
        again: str = "deploy",  # the command that asks anew
    ) -> None:
        self.how = how
        said = f" by {by}" if by else ""
        why = f": {reason}" if reason else ""
        super().__init__(
            f"{target}: not approved ({how}{said}{why}), so nothing was applied",
            hint=f"lockstep {again} {environment} asks anew",
        )


class ApprovalRefused(LockstepError):
    """An answer that does not count: of the wrong person, to another plan, or too late. What it answered stands as it was."""

    exit_code = ExitCode.REFUSED
    more = "approval"


class RunWaits(LockstepError):
    """Another run waits for approval on this target, so this one must not overtake it."""

    exit_code = ExitCode.LOCKED
    more = "approval"

    def __init__(self, *, target: str, run_id: str, since: str, by: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"{target}: run {run_id} ({by}) waits for approval there since {since}",
            hint=f"lockstep approve {run_id}, or: lockstep reject {run_id} --reason …",
        )


class CheckFailed(LockstepError):
    """Everything was applied and verified, and then the application did not work. Nothing is reverted by itself."""

    exit_code = ExitCode.FAILED
    more = "check"

    def __init__(self, *, target: str, reason: str, ways_back: tuple[str, ...] = (), hint: str | None = None) -> None:
        lines = [
            f"{target}: all was applied, but the application's check failed: {reason}",
            *(f"  {w}" for w in ways_back),
        ]
        super().__init__("\n".join(lines), hint=hint or "look at the application first; nothing was reverted")
        self.ways_back = ways_back
