"""What is wrong with a backup, its store, or a restore."""

from __future__ import annotations

from lockstep.errors.base import ExitCode, LockstepError


class BackupFailed(LockstepError):
    """No complete backup was made; nothing of it is left in the bucket's listing of backups."""

    exit_code = ExitCode.REFUSED
    more = "backup-failed"

    def __init__(self, message: str, *, target: str, retryable: bool = False, hint: str | None = None) -> None:
        super().__init__(f"{target}: {message}", hint=hint)
        self.target = target
        self.retryable = retryable


class RestoreFailed(LockstepError):
    """A backup was not restored, or the copy is not what was backed up. `outcome` says what is left of the try."""

    exit_code = ExitCode.REFUSED
    more = "restore-failed"

    def __init__(
        self, reason: str, *, target: str, outcome: str = "", hint: str | None = None, killed: bool = False
    ) -> None:
        super().__init__(f"{target}: {reason}" + (f"\n{outcome}" if outcome else ""), hint=hint)
        self.reason = reason
        self.killed = killed  # the program was ended from outside: that says nothing about the backup
        self.target = target
        self.outcome = outcome

    def leaving(self, outcome: str, *, hint: str | None = None) -> RestoreFailed:
        """The same failure with what is left of the try."""
        return RestoreFailed(self.reason, target=self.target, outcome=outcome, hint=hint or self.hint)


class RestoreRefused(LockstepError):
    """This restore would lose something, or could not put back all that there was. Nothing was done."""

    exit_code = ExitCode.REFUSED
    more = "restore-failed"

    def __init__(self, reasons: tuple[str, ...], *, target: str, hint: str | None = None) -> None:
        text = reasons[0] if len(reasons) == 1 else "".join(f"\n  {reason}" for reason in reasons)
        super().__init__(f"{target}: nothing was restored: {text}", hint=hint)
        self.reasons = reasons
        self.target = target


class ServerStartError(LockstepError):
    """A throw-away server did not come up. The message ends with the tail of its log."""

    def __init__(self, *, program: str, log: str) -> None:
        super().__init__(f"{program} did not start:\n{log}")
        self.program = program


class BackupDamaged(LockstepError):
    """What is stored is not what was backed up. Never used for a restore; `what` is the object's key."""

    exit_code = ExitCode.REFUSED
    hint = "lockstep backups list"
    more = "backup-failed"

    def __init__(self, problem: str, *, what: str) -> None:
        super().__init__(f"{what}: {problem}")
        self.problem = problem
        self.what = what


class BucketError(LockstepError):
    """The bucket of the backups refused a request or did not answer. `retryable`: it may work a moment later;
    `denied`: the credentials are good and lack a right."""

    exit_code = ExitCode.UNREACHABLE
    more = "backup-failed"

    def __init__(
        self, cause: str, *, bucket: str, retryable: bool = False, denied: bool = False, hint: str | None = None
    ) -> None:
        super().__init__(f"{bucket}: {cause}", hint=hint)
        self.cause = cause
        self.denied = denied
        self.bucket = bucket  # s3://NAME, never with credentials
        self.retryable = retryable
