"""Who may be asked at the terminal that a run was started from. A flow finds it here: parameters cannot carry it.

While somebody is asked, somebody else may answer elsewhere: whoever asks looks (`answered`) and stops asking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from lockstep.core.approval import Approval

#: Shows what is asked for and returns (approved, reason); None: whoever is there does not want to answer now.
Prompt = Callable[[Approval], tuple[bool, str | None] | None]


@dataclass(frozen=True, slots=True)
class Beforehand:
    """A prompt that asks nobody: the command's own words said yes, for this reason."""

    reason: str

    def __call__(self, asked: Approval) -> tuple[bool, str | None]:
        return True, self.reason


_prompt: ContextVar[Prompt | None] = ContextVar("lockstep_prompt", default=None)


def prompt() -> Prompt | None:
    """Return how to ask at this terminal; None: nobody is there."""
    return _prompt.get()


@contextmanager
def asking(how: Prompt | None) -> Iterator[None]:
    """Ask this way for approvals inside the block."""
    token = _prompt.set(how)
    try:
        yield
    finally:
        _prompt.reset(token)


_answered: ContextVar[Callable[[], bool] | None] = ContextVar("lockstep_answered", default=None)


def answered() -> bool:
    """Whether what is being asked for at this terminal was answered elsewhere. Looks into the audit log."""
    look = _answered.get()
    return look is not None and look()


@contextmanager
def watched(look: Callable[[], bool]) -> Iterator[None]:
    """Inside the block `answered` looks this way."""
    token = _answered.set(look)
    try:
        yield
    finally:
        _answered.reset(token)
