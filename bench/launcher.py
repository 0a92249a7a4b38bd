"""A small process between the bench and what it measures: starts a command, waits, and tells what it took.

Memory is why: a process counts as its peak what its parent held when it was started, and the bench holds much. It
imports nothing but what the interpreter has loaded in any case, so what it holds itself (9 MiB) is the least it can tell.
"""

import os
import sys
import time


def main(report: int, *words: str) -> None:
    """Run a command, and write wall and CPU seconds, peak memory in KiB and the exit code to a descriptor.

    CPU is all of the processes that the command waited for, memory the most that one of them had resident.
    """
    os.set_inheritable(report, False)
    started = time.perf_counter()
    child = os.posix_spawnp(words[0], words, os.environ)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - started
    code = os.waitstatus_to_exitcode(status)
    os.write(report, f"{wall} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss} {code}".encode())


main(int(sys.argv[1]), *sys.argv[2:])
