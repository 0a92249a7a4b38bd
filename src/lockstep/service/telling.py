"""How far a backup or a restore is, in words and not more often than somebody wants to read it.

What is left is reckoned from what was measured, and said with "about"; where nothing was, nothing is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lockstep.core.duration import format_ms
from lockstep.core.size import format_bytes

EVERY_BYTES = 8 * 1024 * 1024
EVERY_SECONDS = 1.0
LEAST_SHARE = 0.02  # below, what is left cannot be told from it


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupProgress:
    """How far a backup is."""

    size: int  # bytes of the archives so far
    elapsed_ms: int  # since the dump began
    share: float | None = None  # of the tables' bytes, from 0 to 1, as the server tells; None: not known

    def __str__(self) -> str:
        rate = self.size * 1000 // max(self.elapsed_ms, 1)
        text = f"{format_bytes(self.size)}, {format_bytes(rate)}/s"
        if self.share is None or not LEAST_SHARE <= self.share < 1:
            return text
        return (
            f"{text}, about {self.share:.0%} of the tables, about {format_ms(_left(self.elapsed_ms, self.share))} left"
        )

    @property
    def known_share(self) -> float | None:
        """The share, where enough of it is done to rely on it."""
        return self.share if self.share is not None and self.share >= LEAST_SHARE else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveProgress:
    """How far an archive is fetched or read."""

    done: int  # bytes
    size: int  # of the whole
    elapsed_ms: int
    how: str  # fetched, read

    def __str__(self) -> str:
        text = f"{format_bytes(self.done)} of {format_bytes(self.size)}"
        if self.elapsed_ms:
            text += f", {format_bytes(self.done * 1000 // self.elapsed_ms)}/s"
        if not self.elapsed_ms or not LEAST_SHARE <= self.share < 1:
            return f"{text}, {self.how}"
        return f"{text}, {self.how} in about {format_ms(_left(self.elapsed_ms, self.share))}"

    @property
    def share(self) -> float:
        return min(self.done / self.size, 1.0) if self.size else 1.0


def _left(elapsed_ms: int, share: float) -> float:
    return elapsed_ms * (1 - share) / share


class Teller:
    """Passes progress on about every 8 MiB or every second. `share` asks the server, so it is called less often."""

    def __init__(self, share: Callable[[], float | None], tell: Callable[[BackupProgress], None]) -> None:
        self._ask = share
        self._tell = tell
        self._started = self._told_at = self._asked_at = time.monotonic()
        self._told = 0
        self._share: float | None = None

    def __call__(self, size: int) -> None:
        now = time.monotonic()
        if size - self._told < EVERY_BYTES and now - self._told_at < EVERY_SECONDS:
            return
        if now - self._asked_at >= EVERY_SECONDS:
            self._share, self._asked_at = self._ask(), now
        self._told, self._told_at = size, now
        self._tell(BackupProgress(size=size, elapsed_ms=self._elapsed(), share=self._share))

    def ended(self, size: int) -> None:
        """Tell the last time."""
        self._tell(BackupProgress(size=size, elapsed_ms=self._elapsed(), share=1.0))

    def _elapsed(self) -> int:
        return int((time.monotonic() - self._started) * 1000)
