"""Ends a worker so that no deploy is torn: lets its runs finish, then tells the rest to end, and only then ends itself.

A Prefect worker that is told to end kills its runs at once. This waits for them first (LOCKSTEP_DRAIN_SECONDS, 600), then
sends SIGTERM to what is left: a run cancels its statement, rolls back, and writes a `stop` into the audit log.

    drain.py --pid PID        beside a worker that somebody else ends (ExecStop= of the systemd unit)
    drain.py -- COMMAND …     as the worker's parent, where there is no ExecStop= (a container): SIGTERM drains

Needs nothing but Python and /proc. It looks at the worker's own processes and at no others.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

DRAIN = float(os.environ.get("LOCKSTEP_DRAIN_SECONDS") or 600)
POLITE = 30.0  # seconds for what was told to end
LOOK_EVERY = 0.5
SAY_EVERY = 30.0


def main(words: list[str]) -> int:
    if words[:1] == ["--pid"] and len(words) == 2:
        if words[1].isdigit():  # systemd gives no number where the worker has ended already
            drain(int(words[1]))
        return 0
    if words[:1] == ["--"] and len(words) > 1:
        return supervise(words[1:])
    print(__doc__, file=sys.stderr)
    return 2


def drain(worker: int) -> None:
    """Wait until the worker has no runs, for DRAIN seconds; tell those that are left to end, and wait for that."""
    if not _wait(worker, DRAIN, "{} under way: waiting up to {:.0f} s more"):
        left = runs(worker)
        _say(f"{_count(left)} still under way: told to end, which rolls back what was not committed")
        for run in left:
            with suppress(ProcessLookupError):
                os.kill(run, signal.SIGTERM)
        _wait(worker, POLITE, "{} ending: waiting up to {:.0f} s more")


def supervise(command: list[str]) -> int:
    """Run a command; on SIGTERM drain it, then pass the signal on. Returns its exit code."""
    told: list[int] = []
    process = subprocess.Popen(command)
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda number, _frame: told.append(number))
    while process.poll() is None:
        if told:
            drain(process.pid)
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.2)
    code = process.wait()
    return 0 if told else code if code >= 0 else 128 - code


def runs(worker: int) -> list[int]:
    """Process ids of the worker's flow runs: below it, the innermost that run Prefect's engine."""
    parents: dict[int, int] = {}
    engines: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            if state == "Z":
                continue
            pid = int(entry.name)
            parents[pid] = int(parent)
            if any(word.startswith(b"prefect.") and b"engine" in word for word in _words(entry)):
                engines.add(pid)
    ours = {pid for pid in engines if worker in _above(pid, parents)}
    outer = {above for pid in ours for above in _above(pid, parents)}
    return sorted(ours - outer)


def _words(entry: Path) -> list[bytes]:
    return (entry / "cmdline").read_bytes().split(b"\0")


def _above(pid: int, parents: dict[int, int]) -> list[int]:
    found: list[int] = []
    while (pid := parents.get(pid, 0)) > 1 and pid not in found:
        found.append(pid)
    return found


def _wait(worker: int, seconds: float, words: str) -> bool:
    """Whether the worker has no runs any more, waiting for that."""
    deadline = time.monotonic() + seconds
    say_at = 0.0
    while left := runs(worker):
        now = time.monotonic()
        if now >= deadline:
            return False
        if now >= say_at:
            _say(words.format(_count(left), deadline - now))
            say_at = now + SAY_EVERY
        time.sleep(LOOK_EVERY)
    return True


def _count(found: list[int]) -> str:
    return f"{len(found)} {'run' if len(found) == 1 else 'runs'}"


def _say(text: str) -> None:
    print(f"drain: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
