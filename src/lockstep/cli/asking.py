"""Asking for an approval at a terminal."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from lockstep.cli.terminal import talk

if TYPE_CHECKING:
    import argparse

    from lockstep.config import Settings
    from lockstep.core.approval import Approval
    from lockstep.service.approval.prompting import Prompt

_LOOK_EVERY = 1.0  # seconds between two looks whether somebody answered elsewhere


def prompt_of(arguments: argparse.Namespace, settings: Settings, *, silent: bool) -> Prompt | None:
    """Return who answers for this process: the command's own words, whoever sits there, or nobody.

    Raises UsageError for --approve where two people are needed.
    """
    from lockstep.errors import UsageError
    from lockstep.service.approval.prompting import Beforehand, prompt

    given: str | None = arguments.approve
    if given is not None:
        if settings.approval.two_person:
            raise UsageError(
                "--approve is the word of one person, and [approval] two_person asks for another one's",
                hint="start it without --approve; somebody else answers with lockstep approve",
            )
        return Beforehand(given)
    if settings.approval.two_person:
        return None
    return prompt() or (ask if not silent and sys.stdin.isatty() and sys.stderr.isatty() else None)


def ask(asked: Approval) -> tuple[bool, str | None] | None:
    """Show what waits and ask for an answer; None: not now, or it was answered elsewhere meanwhile."""
    from lockstep.service.approval.telling import terminal_text

    talk(terminal_text(asked.request.environment, asked), urgent=True)
    answer = question("Apply it? [yes, no, later] ", lambda text: text in ("y", "yes", "n", "no", "l", "later"))
    if answer is None or answer.lower() in ("later", "l"):
        return None
    reason = question("Why (may be empty): ", lambda _text: True)
    return None if reason is None else (answer.lower() in ("y", "yes"), reason or None)


def question(text: str, fits: Callable[[str], bool]) -> str | None:
    """Ask until the answer fits; None when the terminal is gone, or what was asked is answered elsewhere."""
    while True:
        sys.stderr.write(text)
        sys.stderr.flush()
        line = _line()
        if line is None:
            sys.stderr.write("\n")
            return None
        if fits(line.strip().lower()):
            return line.strip()


_typed = b""  # what was typed ahead


def _line() -> str | None:
    """Read a line from the terminal, looking meanwhile whether it is still wanted."""
    from lockstep.service.approval.prompting import answered

    global _typed  # as sys.stdin's own buffer would be
    while b"\n" not in _typed:
        ready, _, _ = select.select([sys.stdin], [], [], _LOOK_EVERY)
        if not ready:
            if answered():
                return None
            continue
        try:
            read = os.read(sys.stdin.fileno(), 4096)
        except OSError:  # the terminal was closed
            return None
        if not read:
            return None
        _typed += read
    line, _typed = _typed.split(b"\n", 1)
    return line.decode(errors="replace")
