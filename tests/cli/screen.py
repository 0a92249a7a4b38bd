"""A pseudo-terminal for a command: what a person would see, byte by byte."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def on_a_terminal(
    words: Sequence[str], *, cwd: Path, env: Mapping[str, str], columns: int = 80, timeout: float = 300
) -> tuple[int, str]:
    """Run a command on a terminal of that width; return its exit code and all that it wrote there."""
    screen, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        words, cwd=cwd, env=dict(env), stdin=end, stdout=end, stderr=end, start_new_session=True
    ) as process:
        os.close(end)
        ready = select.poll()  # select() takes no descriptor above 1,023
        ready.register(screen, select.POLLIN)
        written, deadline = b"", time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not ready.poll(1_000):
                continue
            try:
                read = os.read(screen, 65536)
            except OSError:  # nobody has the other end any more
                break
            if not read:
                break
            written += read
        code = process.wait(timeout=30)
    os.close(screen)
    return code, written.decode()


def left_standing(written: str) -> list[str]:
    """The lines that stay, where lines were drawn over."""
    lines = []
    for line in written.replace("\r\n", "\n").split("\n"):
        lines.append(line.rsplit("\r\033[2K", 1)[-1])
    return [line for line in lines if line]
