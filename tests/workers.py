"""Tests on several processes at once (`pytest -n`, as `make test` does): who runs what, and what they have in common.

Each worker has servers of its own, so tests cannot meet in a database. What they share is the machine: a test that
measures time is marked `alone`, and while it runs no other does. Without `-n` nothing here has an effect.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling
    from xdist.workermanage import WorkerController

from tests.summary import LINES, NOT_RUN

FOLDER = Path(__file__).parent

#: What starts first, so that nothing long is left when the other workers have ended. The rest follows in random order.
LONG = ("tests/flows/", "tests/cli/test_pages.py", "tests/faults/", "tests/integration/backup/", "tests/integration/")

#: Of Prefect what mostly waits, and for long: worth a server of its own when its slow tests run.
APART = ("test_alerts.py", "test_stopping.py")

#: Has a server of its own in any case.
OWN = ("test_running.py",)

#: More hardly gain anything: a few files take most of the time.
MOST = 4


# -- who runs what -----------------------------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: one more than cores, since tests wait for a third of their time."""
    return min(len(os.sched_getaffinity(0)) + 1, MOST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """A file's tests stay together, for its fixtures; so do most of Prefect, whose server takes half a minute to start."""
    if config.getvalue("dist") != "load":  # somebody asked for another way
        return None
    from xdist.scheduler import LoadScopeScheduling

    slow = config.option.markexpr != "not slow"

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            together = file.startswith("tests/flows/") and not file.endswith((*OWN, *APART) if slow else OWN)
            return "tests/flows" if together else file

    config.option.loadscopereorder = False  # it would put files of many short tests first
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(
            key=lambda item: next((n for n, start in enumerate(LONG) if item.nodeid.startswith(start)), len(LONG))
        )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    from xdist.workermanage import NodeManager

    # After Ctrl-C a worker stops its servers and removes their folders. Killed after ten seconds, it leaves folders.
    NodeManager.EXIT_TIMEOUT = 60


# -- alone -------------------------------------------------------------------------------------------------------------


class Turns:
    """Lets many tests run at once, or one that is marked `alone`.

    Locks are the kernel's, on files that are there anyway: whoever dies holds none, and nothing is left behind.
    """

    def __init__(self) -> None:
        self._door = os.open(FOLDER / "workers.py", os.O_RDONLY)  # who wants to be alone holds it: nobody else gets in
        self._room = os.open(FOLDER / "conftest.py", os.O_RDONLY)
        self._alone = False  # the room is ours since the test before

    def enter(self, *, alone: bool) -> None:
        if self._alone:
            return
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            self._alone = alone
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)

    def leave(self, *, alone_next: bool) -> None:
        """`alone_next`: the room is kept for the next test; nobody would be let in for long."""
        if not (self._alone and alone_next):
            self._alone = False
            fcntl.flock(self._room, fcntl.LOCK_UN)


_turns = pytest.StashKey[Turns]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    if not hasattr(item.config, "workerinput"):
        return (yield)
    turns = item.config.stash.setdefault(_turns, Turns())
    turns.enter(alone=_is_alone(item))
    try:
        return (yield)
    finally:
        turns.leave(alone_next=nextitem is not None and _is_alone(nextitem))


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


# -- one summary -------------------------------------------------------------------------------------------------------


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput |= {"lines": LINES, "not_run": NOT_RUN}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    said = getattr(node, "workeroutput", None) or {}  # a worker that was killed has none
    LINES.extend(said.get("lines", ()))
    NOT_RUN.extend(line for line in said.get("not_run", ()) if line not in NOT_RUN)  # all workers say the same
