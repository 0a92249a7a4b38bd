"""What this process does, step by step, for whoever asked to hear it: `--verbose`. By default nobody does.

What is told names things: targets, files with lines, kinds of statements, programs. Never a statement's text, a value or
an address with its password: it is made to be sent to somebody else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, float], None]  # (what was done, seconds that it took)

_listener: Listener | None = None


def listen(listener: Listener | None) -> None:
    """From now on tell `listener`; None: nobody."""
    global _listener  # of the process, as its log is
    _listener = listener


def listening() -> bool:
    """Whether anybody hears it: what costs time to find out need not be found out else."""
    return _listener is not None


def done(what: str, seconds: float) -> None:
    """Tell of a step that was done."""
    if _listener is not None:
        _listener(what, seconds)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Tell of what is done inside, however it ends."""
    if _listener is None:
        yield
        return
    started = time.monotonic()
    try:
        yield
    finally:
        done(what, time.monotonic() - started)
