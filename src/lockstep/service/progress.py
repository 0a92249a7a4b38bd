"""What a use case tells while it works. The terminal prints it, a Prefect task logs it, a test collects it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Receives what happens. Texts hold names, never secrets."""

    def note(self, environment: str, text: str, *, urgent: bool = False) -> None:
        """Something worth a line. `urgent`: somebody has to do something, so it is told where little is wanted, too."""

    def started(self, environment: str, what: str) -> None:
        """Something began that may take a while."""

    def under_way(self, environment: str, what: str, text: str, share: float | None = None) -> None:
        """How far something is that takes a while. Called as often as there is news: who receives it shows some.

        `share`: of the whole, from 0 to 1, where that was measured.
        """

    def finished(self, environment: str, what: str, outcome: str, ms: int | None) -> None:
        """It ended well. Failures are raised, not told."""


class Silent:
    """Tells nobody."""

    def note(self, environment: str, text: str, *, urgent: bool = False) -> None:
        return None

    def started(self, environment: str, what: str) -> None:
        return None

    def under_way(self, environment: str, what: str, text: str, share: float | None = None) -> None:
        return None

    def finished(self, environment: str, what: str, outcome: str, ms: int | None) -> None:
        return None


class Urgent(Silent):
    """Tells only what somebody has to know: that a run waits for them, for one."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def note(self, environment: str, text: str, *, urgent: bool = False) -> None:
        if urgent:
            self._say(f"{environment}: {text}")
