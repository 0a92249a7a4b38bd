"""What happens while something runs on a target."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.errors.base import ExitCode, LockstepError


class LockHeld(LockstepError):
    """Another run holds the target's lock."""

    exit_code = ExitCode.LOCKED

    def __init__(
        self, *, target: str, holder: str, outcome: str = "Nothing was applied.", asks: str | None = None
    ) -> None:
        """`asks`: the holder's run id, where it waits for approval meanwhile."""
        waits = " and waits for approval" if asks else ""
        answer = f"lockstep approve {asks}, or: lockstep reject {asks} --reason …; or wait for it to end (--wait)"
        super().__init__(
            f"{target}: another run holds the lock{waits}: {holder}. {outcome}",
            hint=answer if asks else "wait for it to end, or use --wait",
        )
        self.target = target
        self.holder = holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """What failed, as the server names it. Names alone, but for `primary`."""

    primary: str  # the server's message: of class 22 it holds a value
    statement: int | None = None  # of the file, from 0
    at_commit: bool = False
    in_code: bool = False  # a function, trigger or DO raised it: `primary` may be its author's words
    looked_up: bool = False  # the server itself missed a name or a right: `primary` is its own words, of names
    source: str | None = None  # file of the server's source that reports it: user.c
    schema: str | None = None
    table: str | None = None
    column: str | None = None
    constraint: str | None = None


class MigrationFailed(LockstepError):
    """A migration (or a down) failed on the server. `message` is complete and multi-line."""

    exit_code = ExitCode.FAILED
    more = "migration-failed"

    def __init__(
        self,
        message: str,
        *,
        target: str,
        file: str,
        line: int | None,
        sqlstate: str | None,
        outcome: str,
        hint: str | None = None,
        detail: str | None = None,
        failing: Failing | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.failing = failing
        self.detail = detail  # the server's DETAIL: may hold a row's data, so it is for the terminal alone
        self.target = target
        self.file = file
        self.line = line
        self.sqlstate = sqlstate
        self.outcome = outcome  # what was and what was not done, one sentence

    def noting(self, text: str) -> MigrationFailed:
        """The same failure with one more line."""
        return MigrationFailed(
            f"{self.message}\n{text}",
            target=self.target,
            file=self.file,
            line=self.line,
            sqlstate=self.sqlstate,
            outcome=self.outcome,
            hint=self.hint,
            detail=self.detail,
            failing=self.failing,
        )


class Unreachable(LockstepError):
    """No connection to the target, or it was lost. The only error that tasks retry."""

    exit_code = ExitCode.UNREACHABLE
    more = "connection-issues"

    def __init__(self, *, target: str, reason: str, hint: str | None = None) -> None:
        super().__init__(f"{target}: {reason}", hint=hint or "lockstep config")
        self.target = target
        self.reason = reason

    def noting(self, outcome: str, *, hint: str | None = None) -> Unreachable:
        """The same loss with what was and what was not done."""
        return Unreachable(target=self.target, reason=f"{self.reason}. {outcome}", hint=hint or self.hint)


class Cancelled(LockstepError):
    """Somebody cancelled a query of Lockstep's own, between migrations. What was applied stays."""

    exit_code = ExitCode.FAILED

    def __init__(self, *, target: str, environment: str | None = None) -> None:
        super().__init__(
            f"{target}: a query of Lockstep's own was cancelled on the server (pg_cancel_backend, SQLSTATE 57014). "
            "What was applied stays.",
            hint=f"lockstep status {environment} shows how far it came; the same command goes on from there"
            if environment
            else "run it again",
        )
        self.target = target
        self.environment = environment


class Unhealthy(LockstepError):
    """A health check found something critical. Nothing was changed."""

    exit_code = ExitCode.DISAGREES
