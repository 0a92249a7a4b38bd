"""Whom a throw-away server's programs run as: PostgreSQL refuses root.

An ordinary user runs them as himself. Root runs them in a user namespace, or as another user where there is none. It
must not know what the programs are for.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from lockstep.errors import ServerStartError


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How programs that refuse root can be run on this machine."""

    prefix: tuple[str, ...] = ()  # words before the command: a user namespace; (): none
    user: str | None = None  # another user; None: ourselves
    offline: bool = False  # they see no network

    @property
    def words(self) -> str:
        """For people."""
        who = f"as user {self.user}" if self.user else "in a user namespace" if self.prefix else "as this user"
        return f"{who}, {'without a network' if self.offline else 'with this network'}"


def find_way(*, offline: bool) -> Way:
    """Return the way to run such programs, with `offline` without a network where the kernel allows it.

    Raises ServerStartError when there is none: root, no user namespaces, and neither a user postgres nor nobody.
    """
    root = os.geteuid() == 0
    for network in (("--net",), ()) if offline else ((),):
        if root or network:
            prefix = ("unshare", "--user", *(_MAP_NOBODY if root else ("--map-current-user",)), *network, "--")
            if _works(prefix):
                return Way(prefix=prefix, offline=bool(network))
    if not root:
        return Way()
    user = next((name for name in ("postgres", "nobody") if _exists(name)), None)
    if user is None:
        raise ServerStartError(
            program="postgres",
            log="it refuses root, and there are neither user namespaces (unshare) nor a user postgres or nobody here",
        )
    return Way(user=user)


class Identity:
    """Who runs the server's programs: ourselves, root inside a user namespace, or another user than root."""

    def __init__(
        self, prefix: Sequence[str], user: str | None, programs: Path | None, *, offline: bool = False
    ) -> None:
        self.offline = offline  # the programs see no network
        self._prefix = list(prefix)
        self._user = user
        self._programs = programs  # a copy that another user may execute, or None

    @classmethod
    def find(cls, bin_dir: Path, folders: Sequence[Path], *, offline: bool = False) -> Identity:
        """Choose whom to run programs of `bin_dir` as; that user will own `folders`, and the last one may get a copy.

        With `offline` they get a network namespace of their own where the kernel gives one, else the usual network.
        """
        way = find_way(offline=offline)
        if way.user is None:
            return cls(way.prefix, None, None, offline=way.offline)
        copy = folders[-1] / "programs"
        shutil.copytree(bin_dir.parent, copy, symlinks=True)
        for folder in folders:
            shutil.chown(folder, way.user)
        return cls([], way.user, copy)

    def popen(self, command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program, without PG* variables; what it says goes into `log`."""
        words = list(command)
        if self._programs:
            words = [self._translated(word) for word in words]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return subprocess.Popen(
            [*self._prefix, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment,
            user=self._user,
            group=pwd.getpwnam(self._user).pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
            start_new_session=True,  # Ctrl-C in the terminal is for us; we end the server in our own order
        )

    def own(self, path: Path) -> None:
        """Give a file of ours to whom the programs run as."""
        if self._user:
            shutil.chown(path, self._user)

    def _translated(self, word: str) -> str:
        path = Path(word)
        if self._programs and path.name in {"postgres", "initdb"} and path.is_absolute():
            return str(self._programs / "bin" / path.name)
        return word


_MAP_NOBODY = ("--map-user=65534", "--map-group=65534")


@cache
def _works(prefix: tuple[str, ...]) -> bool:
    try:
        return subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
