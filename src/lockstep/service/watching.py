"""`status --watch`: the status of several targets again and again. Read-only.

Never more than one look at a target is under way: one that hangs (a server that froze, a network that went away) is
reported as not answering until it ends, so that the connections of a watch stay as many as its environments.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Thread

from lockstep.config import Environment, Settings
from lockstep.core.migration import Folder
from lockstep.errors import LockstepError, Unreachable
from lockstep.service.redaction import known_secrets, redact
from lockstep.service.status import TargetStatus, target_status, unread


class Watch:
    """Looks at environments whenever it is asked to."""

    def __init__(self, settings: Settings, environments: Sequence[Environment]) -> None:
        self._settings = settings
        self._environments = tuple(environments)
        self._looks: dict[str, _Look] = {}

    def look(self, folder: Folder, *, seconds: float) -> tuple[TargetStatus, ...]:
        """Return the status of each environment; of one that has not answered after `seconds`, that it has not."""
        for environment in self._environments:
            if environment.name not in self._looks:
                self._looks[environment.name] = _Look(self._settings, environment, folder)
        deadline = time.monotonic() + seconds
        found = []
        for environment in self._environments:
            look = self._looks[environment.name]
            look.thread.join(max(0.0, deadline - time.monotonic()))
            if look.thread.is_alive() or look.found is None:
                waited = time.monotonic() - look.began
                late = Unreachable(
                    target=environment.name, reason=f"no answer for {waited:.0f} s", hint="it is asked again"
                )
                found.append(unread(environment, None, late))
                continue
            del self._looks[environment.name]
            found.append(look.found)
        return tuple(found)


class _Look:
    """One look, in a thread that keeps nobody."""

    def __init__(self, settings: Settings, environment: Environment, folder: Folder) -> None:
        self.began = time.monotonic()
        self.found: TargetStatus | None = None
        self.thread = Thread(target=self._run, args=(settings, environment, folder), daemon=True)
        self.thread.start()

    def _run(self, settings: Settings, environment: Environment, folder: Folder) -> None:
        try:
            self.found = target_status(settings, environment, folder)
        except Exception as error:
            text = redact(f"unexpected {type(error).__name__}: {error}", known_secrets(settings)).strip()
            self.found = unread(environment, None, LockstepError(text))
