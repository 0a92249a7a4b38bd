"""A run's own process looks out for the end of its run, where nobody would tell it.

A worker tells a process by a signal that its run was cancelled. Nobody tells one in the foreground, nor one whose
worker was killed, nor one that was cut off for so long (a laptop asleep) that its run was given up, and perhaps started
anew elsewhere. The database's lock keeps two from working at once; this keeps the older one from going on at all.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun

LOOK_EVERY = 2.0  # seconds


class Seen(Enum):
    """What ended this process's part of the run."""

    CANCELLED = "cancelled"  # and nobody but us says so in the end
    GIVEN_UP = "given up"  # it has ended in Prefect's eyes, or another process has taken it over


_seen: Seen | None = None


def seen() -> Seen | None:
    """Return what was seen since `looking_out` began; None: nothing, or somebody else ends us."""
    return _seen


@contextmanager
def looking_out(flow_run: UUID, run_count: int) -> Iterator[None]:
    """Look every other second what became of the run, and end the block by SIGTERM where it is to go on no more.

    `run_count`: the run's own, now that this process has begun.
    """
    global _seen
    _seen = None
    _mute_broken_console()
    if threading.current_thread() is not threading.main_thread():  # where no signal would reach the block
        yield
        return
    done = threading.Event()
    arguments = (flow_run, run_count, os.getppid(), done)
    threading.Thread(target=_look_out, args=arguments, name="lockstep-lookout", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _look_out(flow_run: UUID, run_count: int, parent: int, done: threading.Event) -> None:
    global _seen
    while not done.wait(LOOK_EVERY):
        with suppress(Exception):  # no answer is no reason to stop
            with get_client(sync_client=True) as client:
                found = _judged(client.read_flow_run(flow_run), run_count, parent)
            if found is not None and not done.is_set():
                _seen = found
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _judged(flow_run: FlowRun, run_count: int, parent: int) -> Seen | None:
    state = flow_run.state
    if state is None or flow_run.run_count > run_count or state.is_final():
        return Seen.GIVEN_UP if state is not None else None
    has_worker = "PREFECT__FLOW_RUN_ID" in os.environ and os.getppid() == parent
    return Seen.CANCELLED if state.is_cancelling() and not has_worker else None


def _mute_broken_console() -> None:
    """Let the run go on when whoever read its output is gone, as the worker that was killed: rich would end it."""
    for one in (logging.getLogger(), *logging.root.manager.loggerDict.values()):
        for handler in getattr(one, "handlers", ()):
            console = getattr(handler, "console", None)
            if console is not None:
                console.on_broken_pipe = lambda console=console: _silence(console)


def _silence(console: Any) -> None:
    console.quiet = True
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
