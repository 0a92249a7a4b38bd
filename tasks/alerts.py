"""Alerts: what a run sends by itself when it fails, waits or is well again; and the sign of life of the nightly run.

None of it stops a run: what could not be delivered is told in the run's log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakSet

from lockstep.core.alert import DEPLOY
from lockstep.core.approval import Approval
from lockstep.errors import LockstepError
from lockstep.service.alerting.making import Known, done_before, of_error, of_waiting, ways_back
from lockstep.service.alerting.sending import Delivery, heartbeat, raise_alert, recovered, tell
from tasks.boundary import step
from tasks.run import Run, current, safe

_alerted: WeakSet[LockstepError] = WeakSet()


@contextmanager
def alerted(environment: str | None = None, *, source: str = DEPLOY) -> Iterator[None]:
    """Alert when the body raises, and let the error go on. Put it around an environment's turn.

    An error that was alerted already, by an inner one, is not alerted again.
    """
    try:
        yield
    except Exception as error:
        alert_failure(safe(error), environment, source=source)
        raise


def alert_failure(
    error: LockstepError, environment: str | None = None, *, step: str | None = None, source: str = DEPLOY
) -> None:
    """Alert that something ended with `error`. Never raises, and once per error."""
    if error in _alerted:
        return
    _alerted.add(error)
    run = current()
    result = run.results.get(environment or "")
    state = ""
    back: tuple[str, ...] = ()
    if result is not None and source == DEPLOY:
        done = [one.label for one in (*result.earlier, *result.applied)]
        planned = run.plans.get(environment or "")
        state = done_before(done, len(result.earlier) + len(planned.plan.steps) if planned else None)
        if done and result.rehearsal:
            back = ways_back(result.rehearsal.rehearsal)
    alert = of_error(
        run.settings,
        error,
        Known(
            environment=environment,
            step=step,
            run_id=run.info.run_id,
            url=run.info.orchestrator_url,
            state=state,
            ways_back=back,
            source=source,
        ),
    )
    if alert is not None:
        _tell(run, environment, raise_alert(run.settings, alert))


def alert_waiting(environment: str, asked: Approval) -> None:
    """Alert that the run waits for approval. Never raises; once per plan that is asked for."""
    run = current()
    alert = of_waiting(run.settings, asked, url=run.info.orchestrator_url)
    _tell(run, environment, raise_alert(run.settings, alert))


def alert_recovered(environments: Sequence[str | None], *, source: str = DEPLOY) -> None:
    """Tell once that what was alerted about these environments is over. Never raises."""
    run = current()
    for environment in environments:
        made = recovered(
            run.settings, environment, run_id=run.info.run_id, url=run.info.orchestrator_url, source=source
        )
        _tell(run, environment, made)


@step("heartbeat", "heartbeat")
def sign_of_life() -> None:
    """Ping `[alerts] heartbeat_url`: whoever waits for it knows that the nightly run was there and good."""
    run = current()
    if run.settings.alerts.heartbeat_url is None:
        return
    why = heartbeat(run.settings)
    run.progress.note("heartbeat", "answered" if why is None else f"was not answered: {why}")


def _tell(run: Run, environment: str | None, deliveries: Sequence[Delivery]) -> None:
    for text in tell(deliveries):
        run.progress.note(environment or "project", text)
