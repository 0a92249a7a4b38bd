"""A network of its own for a client, over which nothing may come any more: what a laptop is that was put to sleep.

Needs root and `ip` (iproute2): a network namespace and a pair of virtual devices, which are removed again.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from functools import cache
from types import TracebackType


class Network:
    """Two addresses that reach each other: `here` on this machine, the other one in the namespace. Use it with `with`.

    The addresses are of the range for benchmarks (RFC 2544), which leads nowhere else.
    """

    def __init__(self) -> None:
        token = secrets.token_hex(3)
        self.name = f"lockstep-{token}"
        self._device = f"ls{token}"
        third, fourth = secrets.randbelow(256), 4 * secrets.randbelow(64)
        self.here = f"198.18.{third}.{fourth + 1}"
        self.there = f"198.18.{third}.{fourth + 2}"
        _ip("netns", "add", self.name)
        try:
            _ip(
                "link",
                "add",
                f"{self._device}a",
                "type",
                "veth",
                "peer",
                "name",
                f"{self._device}b",
                "netns",
                self.name,
            )
            _ip("addr", "add", f"{self.here}/30", "dev", f"{self._device}a")
            _ip("link", "set", f"{self._device}a", "up")
            _ip("-n", self.name, "addr", "add", f"{self.there}/30", "dev", f"{self._device}b")
            _ip("-n", self.name, "link", "set", f"{self._device}b", "up")
            _ip("-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self.remove()
            raise

    def inside(self, *command: str) -> list[str]:
        """A command's words, to be run in the namespace."""
        return ["ip", "netns", "exec", self.name, *command]

    def fall_asleep(self) -> None:
        """Nothing that is sent to the other side is answered any more, and nothing comes from there."""
        _ip("-n", self.name, "addr", "flush", "dev", f"{self._device}b")
        _ip("-n", self.name, "link", "set", f"{self._device}b", "arp", "off")

    def remove(self) -> None:
        for words in (("link", "del", f"{self._device}a"), ("netns", "del", self.name)):
            subprocess.run(["ip", *words], check=False, capture_output=True)

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


@cache
def possible() -> bool:
    """Whether such a network can be made here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    try:
        with Network():
            return True
    except subprocess.CalledProcessError:
        return False


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
