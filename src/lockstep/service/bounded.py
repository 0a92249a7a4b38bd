"""A call with a time limit, however it hangs: name resolution, a firewall that swallows packets, a server that froze.

The call runs in a daemon thread. One that is given up keeps neither the caller nor the end of the process; whatever it
finds out later is nobody's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from lockstep.errors import LockstepError, Unreachable

if TYPE_CHECKING:
    from lockstep.postgres.connection import Session

T = TypeVar("T")


def within(seconds: float, call: Callable[[], None], *, name: str = "bounded") -> bool:
    """Run `call` for so long at most; return whether it ended. It leaves its results where it likes, and never raises."""
    thread = Thread(target=copy_context().run, args=(call,), name=name, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def answer(seconds: float, call: Callable[[], T], *, name: str) -> T | LockstepError:
    """Return what `call` returns, or the error of ours that it raises; where it does not end in time, that it did not."""
    found: list[T] = []
    trouble: list[Exception] = []

    def ask() -> None:
        try:
            found.append(call())
        except Exception as error:
            trouble.append(error)

    within(seconds, ask, name=f"ask {name}")
    if found:
        return found[0]
    if not trouble:
        return Unreachable(target=name, reason=f"no answer within {seconds:.0f} s", hint="lockstep doctor")
    if isinstance(trouble[0], LockstepError):
        return trouble[0]
    raise trouble[0]


def give_up(session: Session | None) -> None:
    """End what a session that was given up still does on the server, without waiting for that. Never raises."""
    if session is None:
        return

    def end() -> None:
        with suppress(Exception):  # it may end this very moment, or nothing may answer there
            session.connection.cancel_safe(timeout=2)
        with suppress(Exception):
            session.close()

    Thread(target=end, name="give up", daemon=True).start()
