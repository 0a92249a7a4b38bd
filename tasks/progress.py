"""Progress as log lines, one per thing done with its time: Prefect shows and keeps them, `lockstep deploy` prints them.

The logger is not one of Prefect's: PREFECT_LOGGING_EXTRA_LOGGERS=lockstep sends it to Prefect's API.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from lockstep.core.duration import format_ms
from lockstep.service.orchestrator import LINK_LOGGER, PROGRESS_LOGGER

LOG = logging.getLogger(PROGRESS_LOGGER)
LINK = logging.getLogger(LINK_LOGGER)
for logger in (LOG, LINK):
    if logger.level == logging.NOTSET:  # else whoever started the flow has said how much to tell
        logger.setLevel(logging.INFO)


class LogProgress:
    """Implements service.progress.Progress. `lockstep` on a record is the call itself, for a terminal in this process."""

    def note(self, environment: str, text: str) -> None:
        LOG.info("%s: %s", environment, text, extra=_call("note", environment, text))

    def started(self, environment: str, what: str) -> None:
        # Not for the API: the running task says as much.
        LOG.debug("%s:   %s …", environment, what, extra={**_call("started", environment, what), "send_to_api": False})

    def finished(self, environment: str, what: str, outcome: str, ms: int | None) -> None:
        took = f"  {format_ms(ms)}" if ms is not None else ""
        extra = _call("finished", environment, what, outcome, ms)
        LOG.info("%s:   %s  %s%s", environment, what, outcome, took, extra=extra)


def _call(name: str, *arguments: object) -> Mapping[str, object]:
    return {"lockstep": (name, arguments)}
