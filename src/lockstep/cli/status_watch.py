"""`status --watch`: one look after the other, in place on a terminal, as plain output elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from lockstep.cli import status
from lockstep.cli.context import Context
from lockstep.cli.terminal import harmless
from lockstep.errors import ExitCode, LockstepError, UsageError

if TYPE_CHECKING:
    from lockstep.config import Environment
    from lockstep.service.parity import RecordedParity
    from lockstep.service.watching import Watch

_ANSWER = 3.0  # seconds that a look waits for an environment before it is shown as not answering


def watch(context: Context, environments: Sequence[Environment], *, every: float, check: bool) -> ExitCode:
    """Look again and again until Ctrl-C; return what the last look ends with. Raises UsageError with --json."""
    if context.as_json:
        raise UsageError("--watch is for people: --json prints one document", hint="lockstep status --json")
    from lockstep.service.watching import Watch

    watched = Watch(context.settings, environments)
    last = ExitCode.DONE
    screen = _Screen()
    with suppress(KeyboardInterrupt):
        while True:
            began = time.monotonic()
            shown, last = _look(context, watched, check=check)
            screen.show(f"{datetime.now().astimezone():%H:%M:%S}, every {every:g} s; Ctrl-C ends it", shown)
            time.sleep(max(0.2, began + every - time.monotonic()))
    screen.end()
    return last


def _look(context: Context, watched: Watch, *, check: bool) -> tuple[list[str], ExitCode]:
    """One look as lines, and its exit code. A file that is being written may be broken for a moment."""
    from lockstep.service.bounded import within
    from lockstep.service.project import read_folder
    from lockstep.service.status import parity

    try:
        folder = read_folder(context.settings)
    except LockstepError as error:
        said = [f"error: {error.message}", *([f"  next: {error.hint}"] if error.hint else [])]
        return [harmless(line) for line in said], error.exit_code
    found = watched.look(folder, seconds=_ANSWER)
    compared: list[RecordedParity] = []
    within(_ANSWER, lambda: compared.extend(parity(context.settings, found)))  # it asks again where schemas differ
    results, trouble = status.lines(found, compared, folder)
    lines = [line for text in (*results, *trouble) for line in harmless(text).split("\n")]
    return lines, status.code(found, compared, folder, check=check)


class _Screen:
    """Writes over what it wrote before, on a terminal; elsewhere below it."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._first = True

    def show(self, head: str, lines: Sequence[str]) -> None:
        if self._live:
            start = "\033[2J\033[H" if self._first else "\033[H"
            sys.stdout.write(
                start + "".join(f"{line}\033[K\n" for line in [head, "", *self._fitting(lines)]) + "\033[J"
            )
        else:
            sys.stdout.write(("" if self._first else "\n") + "\n".join([f"-- {head}", *lines]) + "\n")
        sys.stdout.flush()
        self._first = False

    def end(self) -> None:
        """Leave the line of the Ctrl-C."""
        if self._live:
            sys.stdout.write("\n")

    @staticmethod
    def _fitting(lines: Sequence[str]) -> list[str]:
        """The lines that a terminal has room for: of a long matrix its newest migrations."""
        room = shutil.get_terminal_size((100, 24)).lines - 4
        if len(lines) <= room or room < 4:
            return list(lines)
        return [lines[0], f"… {len(lines) - room + 1} lines more", *lines[len(lines) - room + 2 :]]
