"""Whom a throw-away server's programs run as: PostgreSQL refuses root.

An ordinary user runs them as himself. Root runs them as nobody, and where nobody cannot reach the programs or the
folders in a user namespace, in which they are called nobody and have root's rights on files. It must not know what the
programs are for.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from lockstep.errors import ServerStartError


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How programs that refuse root can be run on this machine."""

    prefix: tuple[str, ...] = ()  # words before the command: another user, namespaces; (): none
    user: str | None = None  # another user, who has to own the folders; None: ourselves
    offline: bool = False  # they see no network

    @property
    def words(self) -> str:
        """For people."""
        who = f"as user {self.user}" if self.user else "in a user namespace" if self.prefix else "as this user"
        return f"{who}, {'without a network' if self.offline else 'with this network'}"


def find_way(*, offline: bool) -> Way:
    """Return the way to run such programs, with `offline` without a network where the kernel allows it.

    Raises ServerStartError when there is none: root, no user namespaces, and neither a user nobody nor postgres.
    """
    return next(_ways(offline=offline))


def _ways(*, offline: bool) -> Iterator[Way]:
    """The ways that this machine has, the best first; at least one. Raises ServerStartError."""
    root = os.geteuid() == 0
    # Not postgres first: where a server of this machine is his, he is its superuser.
    user = next((name for name in ("nobody", "postgres") if _exists(name)), None) if root else None
    for network in (("--net",), ()) if offline else ((),):
        unshare = ("unshare", *network, "--") if network else ()
        if user is not None:
            entry = pwd.getpwnam(user)
            who = (f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--no-new-privs")
            if _works(prefix := (*unshare, "setpriv", *who, "--")):
                yield Way(prefix=prefix, user=user, offline=bool(network))
        if root or network:
            prefix = ("unshare", "--user", *(_MAP_NOBODY if root else ("--map-current-user",)), *network, "--")
            if _works(prefix):
                yield Way(prefix=prefix, offline=bool(network))
    if not root:
        yield Way()
    elif user is not None:
        yield Way(user=user)
    else:
        raise ServerStartError(
            program="postgres",
            log="it refuses root, and there are neither user namespaces (unshare) nor a user nobody or postgres here",
        )


class Identity:
    """Who runs the server's programs: ourselves, another user than root, or root inside a user namespace."""

    def __init__(
        self, prefix: Sequence[str], user: str | None, programs: Path | None, *, offline: bool = False
    ) -> None:
        self.offline = offline  # the programs see no network
        self._prefix = list(prefix)
        self.user = user  # another one than ours, who owns what the programs write; None: ourselves
        self._programs = programs  # a copy that another user may execute, or None

    @classmethod
    def find(cls, bin_dir: Path, folders: Sequence[Path], *, offline: bool = False) -> Identity:
        """Choose whom to run programs of `bin_dir` as; that user will own `folders`, and the last one may get a copy.

        With `offline` they get a network namespace of their own where the kernel gives one, else the usual network.
        """
        for way in _ways(offline=offline):
            if way.user is None:
                return cls(way.prefix, None, None, offline=way.offline)
            if way.prefix and _reaches(way, bin_dir, folders):
                return cls(way.prefix, way.user, None, offline=way.offline)
            if not way.prefix:
                break
        assert way.user is not None
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
        user = None if self._prefix else self.user
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return subprocess.Popen(
            [*self._prefix, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            start_new_session=True,  # Ctrl-C in the terminal is for us; we end the server in our own order
        )

    def own(self, path: Path) -> None:
        """Give a file of ours to whom the programs run as."""
        if self.user:
            shutil.chown(path, self.user)

    def _translated(self, word: str) -> str:
        path = Path(word)
        if self._programs and path.name in {"postgres", "initdb"} and path.is_absolute():
            return str(self._programs / "bin" / path.name)
        return word


_MAP_NOBODY = ("--map-user=65534", "--map-group=65534")


def _reaches(way: Way, bin_dir: Path, folders: Sequence[Path]) -> bool:
    """Whether the other user can run the programs and write into the folders, and we still can. Then he owns them."""
    assert way.user is not None
    for folder in folders:
        shutil.chown(folder, way.user)
    asked = [["test", "-w", str(folder), "-a", "-x", str(folder)] for folder in folders]
    # By a shell: what setpriv starts is found with the rights that we have.
    asked += [["sh", "-c", 'exec "$0" --version', str(bin_dir / name)] for name in ("initdb", "postgres")]
    if all(_runs((*way.prefix, *words)) for words in asked) and all(os.access(f, os.W_OK | os.X_OK) for f in folders):
        return True
    for folder in folders:
        os.chown(folder, os.geteuid(), -1)
    return False


@cache
def _works(prefix: tuple[str, ...]) -> bool:
    return _runs((*prefix, "true"))


def _runs(words: tuple[str, ...]) -> bool:
    try:
        return subprocess.run(words, check=False, capture_output=True, cwd="/").returncode == 0
    except OSError:
        return False


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
