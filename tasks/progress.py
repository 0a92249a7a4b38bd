"""Progress as log lines, one per thing done with its time: Prefect shows and keeps them, `lockstep deploy` prints them.

The logger is not one of Prefect's: PREFECT_LOGGING_EXTRA_LOGGERS=lockstep sends it to Prefect's API.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from lockstep.core.duration import format_ms
from lockstep.service.orchestrator import LINK_LOGGER, PROGRESS_LOGGER

LINE_EVERY = 10.0  # seconds between two lines about what is under way

LOG = logging.getLogger(PROGRESS_LOGGER)
LINK = logging.getLogger(LINK_LOGGER)
for logger in (LOG, LINK):
    if logger.level == logging.NOTSET:  # else whoever started the flow has said how much to tell
        logger.setLevel(logging.INFO)


class LogProgress:
    """Implements service.progress.Progress. `lockstep` on a record is the call itself, for a terminal in this process."""

    def __init__(self) -> None:
        self._logged_at = time.monotonic()  # what has just begun need not be told

    def note(self, environment: str, text: str, *, urgent: bool = False) -> None:
        LOG.info("%s: %s", environment, text, extra=_call("note", environment, text, urgent=urgent))

    def started(self, environment: str, what: str) -> None:
        # Not for the API: the running task says as much.
        LOG.debug("%s:   %s …", environment, what, extra={**_call("started", environment, what), "send_to_api": False})

    def under_way(self, environment: str, what: str, text: str, share: float | None = None) -> None:
        now = time.monotonic()
        level = logging.INFO if now - self._logged_at >= LINE_EVERY else logging.DEBUG
        if level == logging.INFO:
            self._logged_at = now
        extra = _call("under_way", environment, what, text, share)
        if level == logging.DEBUG:
            extra = {**extra, "send_to_api": False}
        LOG.log(level, "%s:   %s … %s", environment, what, text, extra=extra)

    def finished(self, environment: str, what: str, outcome: str, ms: int | None) -> None:
        took = f"  {format_ms(ms)}" if ms is not None else ""
        extra = _call("finished", environment, what, outcome, ms)
        LOG.info("%s:   %s  %s%s", environment, what, outcome, took, extra=extra)


def _call(name: str, *arguments: object, **words: object) -> Mapping[str, object]:
    return {"lockstep": (name, arguments, words)}
