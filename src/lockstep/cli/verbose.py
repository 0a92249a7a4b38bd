"""`--verbose`: each step on stderr, with the seconds since the start and the time that it took."""

from __future__ import annotations

import time

from lockstep.cli.terminal import talk
from lockstep.core import steps
from lockstep.core.duration import format_ms


def listen() -> None:
    """From now on tell every step."""
    import sys

    from lockstep import __version__

    began = time.monotonic()

    def told(what: str, seconds: float) -> None:
        talk(f"  {time.monotonic() - began:8.3f} s  {what}  {format_ms(seconds * 1_000)}")

    python = ".".join(map(str, sys.version_info[:3]))
    talk(f"  {0:8.3f} s  lockstep {__version__}, Python {python}")
    steps.listen(told)
