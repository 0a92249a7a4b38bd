"""What a rehearsal stops."""

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
