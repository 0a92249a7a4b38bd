"""Starts command lines as copies of one process that has everything imported: each begins at once, in a process of its own.

A fault that is to hit a run at work would mostly hit Python's start otherwise. The copying process has no threads, unlike
the one that runs the tests. `Starter` is that one's side; `python -m tests.faults.starter` is the other one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.project import Project

#: How long a run tries to reconnect here, after its line was cut for good: 20 s would be 20 s of nothing each time.
BACK_SECONDS = 1.5


@dataclass(frozen=True, kw_only=True)
class Runner:
    """One command line on its way."""

    pid: int
    words: tuple[str, ...]
    out: Path
    err: Path

    @property
    def said(self) -> str:
        return self.err.read_text(errors="replace")

    @property
    def printed(self) -> str:
        return self.out.read_text(errors="replace")


class Starter:
    """The process that copies itself. Use it as a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.starter"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        self._count = 0
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def start(self, project: Project, *words: str, url: str | None = None) -> Runner:
        """Start `lockstep …` on a project; `url` leads its dev elsewhere (through a proxy)."""
        self._count += 1
        folder = project.folder / "said"
        folder.mkdir(exist_ok=True)
        out, err = folder / f"{self._count}.out", folder / f"{self._count}.err"
        for file in (out, err):
            file.touch()  # it may be killed before it gets there
        environ = project.environ | ({"DEV_URL": url} if url else {})
        asked = {"words": [*words, "--project", str(project.folder)], "environ": environ, "out": str(out)}
        pid = self._ask(asked | {"err": str(err)})
        assert pid is not None
        return Runner(pid=pid, words=words, out=out, err=err)

    def wait(self, runner: Runner, seconds: float) -> int | None:
        """Return the exit code, negative for a signal; None when it is still at work after that time."""
        return self._ask({"wait": runner.pid, "seconds": seconds})

    def _ask(self, what: Mapping[str, object]) -> int | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        answer: int | None = json.loads(self._process.stdout.readline())
        return answer

    def __enter__(self) -> Starter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def _run(words: list[str], environ: dict[str, str], out: str, err: str) -> None:
    """In the copy: be the console entry point, with its output in files."""
    code = 70
    try:
        os.environ.clear()
        os.environ.update(environ)
        for path, stream in ((out, 1), (err, 2)):
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, stream)
            os.close(opened)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        sys.stdout, sys.stderr, sys.stdin = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1), os.fdopen(0)
        sys.argv = ["lockstep", *words]
        from lockstep.cli.main import run

        try:
            run()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        for stream_out in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream_out.flush()
    except KeyboardInterrupt:  # before or after the entry point, which has an answer of its own
        code = 130
    finally:
        os._exit(code)


def _warm_up() -> None:
    """Import what the commands import late."""
    import importlib
    import pkgutil

    import lockstep
    from lockstep.service import worksession

    heavy = ("lockstep.service.starters", "lockstep.service.page", "lockstep.service.alerting", "lockstep.storage")
    for module in pkgutil.walk_packages(lockstep.__path__, "lockstep."):
        if not module.name.startswith((*heavy, "lockstep.__main__")):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    worksession.BACK_SECONDS = BACK_SECONDS


def _main() -> None:
    import signal

    # A shell that starts us in the background ignores SIGINT, and every copy would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _warm_up()
    children: set[int] = set()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        answer: int | None = None
        if "wait" in asked:
            deadline = time.monotonic() + asked["seconds"]
            while True:
                pid, status = os.waitpid(asked["wait"], os.WNOHANG)
                if pid:
                    children.discard(pid)
                    answer = os.waitstatus_to_exitcode(status)
                if pid or time.monotonic() > deadline:
                    break
                time.sleep(0.002)
        else:
            answer = os.fork()
            if not answer:
                _run(**asked)
            children.add(answer)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _main()
