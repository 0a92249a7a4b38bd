"""The alerts of `lockstep sync` and `revert`: what failed, what waits, what is well again. Called only where places are configured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lockstep.config import Settings
from lockstep.core.approval import Approval
from lockstep.errors import LockstepError, UsageError
from lockstep.postgres.entries import RunInfo
from lockstep.service.alerting.making import Known, done_before, of_error, of_waiting, ways_back
from lockstep.service.alerting.sending import raise_alert, recovered, tell
from lockstep.service.progress import Progress
from lockstep.service.redaction import known_secrets, redact
from lockstep.service.syncing import EnvironmentResult, SyncReport


@contextmanager
def alerting(settings: Settings, run: RunInfo, progress: Progress, *, environment: str | None = None) -> Iterator[None]:
    """Alert what the body raises; `environment`: the only one that it works on. What is wrong with the words of the command is for whoever typed them."""
    try:
        yield
    except LockstepError as error:
        if not isinstance(error, UsageError):
            _failed(settings, run, progress, error, None, environment)
        raise
    except Exception as error:
        text = redact(f"{type(error).__name__}: {error}", known_secrets(settings)).strip()
        _failed(
            settings, run, progress, LockstepError(text, hint="this is unexpected: please report it"), None, environment
        )
        raise


def alert_report(settings: Settings, report: SyncReport, run: RunInfo, progress: Progress) -> None:
    """Alert what failed, and tell once what is well again. Never raises."""
    for result in report.results:
        if result.error is not None:
            _failed(settings, run, progress, result.error, result)
        else:
            alert_well(settings, result.environment, run, progress)
    if report.error is None:
        for text in tell(recovered(settings, None, run_id=run.run_id, url=None)):
            progress.note("project", text)


def alert_well(settings: Settings, environment: str, run: RunInfo, progress: Progress) -> None:
    """Tell once that an environment is well again, where it was not. Never raises."""
    for text in tell(recovered(settings, environment, run_id=run.run_id, url=None)):
        progress.note(environment, text)


def alert_waiting(settings: Settings, asked: Approval, progress: Progress) -> None:
    """Alert that this process waits for somebody's approval. Never raises."""
    for text in tell(raise_alert(settings, of_waiting(settings, asked, url=None))):
        progress.note(asked.request.environment, text)


def _failed(
    settings: Settings,
    run: RunInfo,
    progress: Progress,
    error: LockstepError,
    result: EnvironmentResult | None,
    environment: str | None = None,
) -> None:
    state = ""
    back: tuple[str, ...] = ()
    if result is not None:
        done = [one.label for one in result.applied]
        state = done_before(done)
        back = ways_back(result.rehearsal.rehearsal) if done and result.rehearsal else ()
    environment = result.environment if result else environment
    alert = of_error(settings, error, Known(environment=environment, run_id=run.run_id, state=state, ways_back=back))
    if alert is not None:
        for text in tell(raise_alert(settings, alert)):
            progress.note(environment or "project", text)
