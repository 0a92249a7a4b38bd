"""Ends what is left of a throw-away server, and wipes its folders: run by a watchdog of its own, or before a next start.

As a program it waits until its input ends, which it does when whoever started it is gone, however that came: then
nothing may remain, since the folders hold production data. It imports nothing of Lockstep's, and starts in no time.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

PATIENCE = 30.0  # seconds until what still writes into the folders is given up on
_GENTLE = 2.0  # seconds for the server's processes to go by themselves

#: Programs that may be ended because a folder is among their words or variables.
_PROGRAMS = {"postgres", "initdb", "pg_restore", "pg_isready", "unshare", "setpriv", "sh"}


def reap(folders: Sequence[str], pid: int | None = None) -> None:
    """End the processes that work in the folders, and remove the folders. `pid` is a server that is known."""
    began = time.monotonic()
    names = [os.fsencode(folder) for folder in folders]
    while True:
        gentle = time.monotonic() - began < _GENTLE
        found = _users(names)
        if pid is not None and _lives(pid):
            found.add(pid)
        for one in found:
            with suppress(OSError):
                os.kill(one, signal.SIGQUIT if gentle else signal.SIGKILL)
        if found and gentle:
            time.sleep(0.1)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        if not found and not any(os.path.lexists(folder) for folder in folders):
            return
        if time.monotonic() - began > PATIENCE:
            return
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    """Whether it runs; one that ended and that nobody waits for does not."""
    state = _read(Path("/proc", str(pid), "stat"))
    return bool(state) and state.rsplit(b")", 1)[1].split()[0] != b"Z"


def _users(names: Sequence[bytes]) -> set[int]:
    """Processes of PostgreSQL's programs that were started on one of the folders."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        words = _read(process / "cmdline")
        if Path(os.fsdecode(words.split(b"\0", 1)[0])).name not in _PROGRAMS:
            continue
        if any(name in words for name in names) or any(name in _read(process / "environ") for name in names):
            found.add(int(process.name))
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has just ended, or is somebody else's
        return b""


def main() -> None:
    """Read process ids until the input ends; then end the last one, and wipe the folders that the arguments name."""
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    pid = None
    for line in sys.stdin:
        pid = int(line) if line.strip() else None
    reap(sys.argv[1:], pid)


if __name__ == "__main__":
    main()
