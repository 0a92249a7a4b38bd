"""Where our code meets Prefect: what a task is, which errors are retried, and what of an error may pass.

Prefect writes an exception's text into logs, states and events as it stands. So only Lockstep's own errors, which hold
no secret, pass unchanged; of every other the text is redacted and the chain of causes is cut.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import Abort, TerminationSignal
from prefect.states import Cancelled, Completed, Failed

from lockstep.errors import BackupFailed, BucketError, ExitCode, LockstepError, NotApproved, Unreachable
from lockstep.service.deploying import NOT_APPROVED, labels_of
from tasks import lookout
from tasks.lookout import Seen
from tasks.run import safe

P = ParamSpec("P")
R = TypeVar("R")

RETRY_DELAYS = [1.0, 4.0]  # seconds; a connection that is gone for longer is for a person to look at


def may_retry(_task: object, _task_run: object, state: State[Any]) -> bool:
    """Retry a lost or refused connection, and what the bucket may do a moment later. Prefect asks this."""
    error = state.data
    return isinstance(error, Unreachable) or (isinstance(error, BackupFailed | BucketError) and error.retryable)


def step(name: str, run_name: str, *, retry: bool = True) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task: guarded, named, neither cached nor persisted.

    `run_name` may hold the function's parameters in braces. Without `retry` a failure is final: that is for what
    changes a database, since nobody but the ledger can tell whether it was done.
    """

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                raise safe(error) from None

        return task(
            name=name,
            task_run_name=run_name,
            retries=len(RETRY_DELAYS) if retry else 0,
            retry_delay_seconds=RETRY_DELAYS,
            retry_condition_fn=may_retry,
            persist_result=False,
            cache_policy=NO_CACHE,
        )(guarded)

    return decorate


class Ending(AbstractContextManager["Ending"]):
    """Catches what ends a flow's body and turns it into the flow's final state.

    A Failed state with the error's message and nothing else: raising would make Prefect pickle the exception into its
    storage and log a traceback. Class, hint and exit code go into the flow run's labels.
    """

    def __init__(self) -> None:
        self.state: State[None] = Completed()

    def done(self, message: str) -> None:
        """Say how it ended well."""
        self.state = Completed(message=message)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return self._stopped(error)
        passed = safe(error)
        if isinstance(passed, NotApproved):  # somebody's decision, no failure
            self.state = Cancelled(name=NOT_APPROVED, message=passed.message, data=passed)
        else:
            self.state = Failed(message=passed.message, data=passed)
        context = FlowRunContext.get()
        if context is not None and context.flow_run is not None:
            with get_client(sync_client=True) as client:
                client.update_flow_run_labels(context.flow_run.id, labels_of(passed))
        return True

    def _stopped(self, error: BaseException | None) -> bool:
        """Something told this process to end: Prefect knows better, unless it was us who saw that it should."""
        if not isinstance(error, TerminationSignal) or (why := lookout.seen()) is None:
            return False
        if why is Seen.GIVEN_UP:
            raise Abort("this run has ended already, or another process has taken it over") from None
        self.state = Cancelled(message="cancelled; what was under way was stopped")
        return True


class _NoTraceback(logging.Filter):
    """Takes the traceback off what Prefect logs about our own errors: they are told in full, and a person reads them."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, LockstepError) or error.exit_code is ExitCode.UNEXPECTED:
            return True
        record.exc_info = None
        # Of the flow it would only say "unexpected exception" after its state said what happened.
        return record.name != "prefect.flow_runs"


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_NoTraceback())
