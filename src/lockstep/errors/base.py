"""The root of the tree of errors, and the exit codes. Every other class of the tree is below it."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Self


class ExitCode(IntEnum):
    """What the command line tells its caller. docs/reference/exit-codes.md lists them for users."""

    DONE = 0  # done, or nothing to do
    UNEXPECTED = 1
    USAGE = 2
    PENDING = 3  # `status --check` found migrations to apply
    DISAGREES = 4  # ledger and files disagree, or drift
    LOCKED = 5
    FAILED = 6  # a migration failed
    REFUSED = 7  # by validation, a gate, rehearsal or approval
    UNREACHABLE = 8


class LockstepError(Exception):
    """Root of the tree. `data` is what the class was built from; it is all that pickling carries."""

    exit_code: ExitCode = ExitCode.UNEXPECTED
    hint: str | None = None  # the next command to run
    more: str | None = None  # anchor in docs/guide.md

    def __init__(self, message: str, *, hint: str | None = None, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data
        if hint is not None:
            self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__.copy())

    @classmethod
    def _bare(cls, message: str, state: dict[str, Any]) -> Self:
        error = cls.__new__(cls, message)
        Exception.__init__(error, message)
        error.__dict__.update(state)
        return error


def _rebuild(cls: type[LockstepError], message: str, state: dict[str, Any]) -> LockstepError:
    return cls._bare(message, state)
