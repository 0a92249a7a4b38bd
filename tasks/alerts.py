"""Alerts: what a run sends by itself when it fails, waits or is well again; and the sign of life of the nightly run.

None of it stops a run: what could not be delivered is told in the run's log. `tasks.run.opened` alerts for every flow
that ends with an error, so a flow has to do nothing for that.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefect.context import FlowRunContext

from lockstep.core.alert import DEPLOY, VERIFY_BACKUPS, source_of
from lockstep.core.approval import Approval
from lockstep.errors import LockstepError
from lockstep.service.alerting.making import Known, done_before, of_error, of_waiting, ways_back
from lockstep.service.alerting.nightly import of_overview, of_proofs
from lockstep.service.alerting.sending import Delivery, heartbeat, raise_alert, recovered, tell
from lockstep.service.alerting.watching import watch
from tasks.boundary import step
from tasks.run import Run, current
from tasks.status import seen

_told: set[str] = set()  # tries of runs whose failure was alerted


def alert_failure(error: LockstepError, environment: str | None = None) -> None:
    """Alert that something ended with `error`. Never raises.

    Without an environment it is the run's own end: that is not told where the failure of an environment was.
    """
    run = current()
    attempt = f"{run.info.run_id}/{run.attempt}"
    if environment is None:
        if attempt in _told:
            return
        environment = next((name for name, result in run.results.items() if result.error is not None), None)
        if environment is None and len(run.environments) == 1:
            environment = run.environments[0].name
    _told.add(attempt)
    source = _source()
    state, back = _standing(run, environment) if source == DEPLOY else ("", ())
    alert = of_error(
        run.settings,
        error,
        Known(
            environment=environment,
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
    """Alert that the run waits for approval. Never raises; once per request."""
    run = current()
    alert = of_waiting(run.settings, asked, url=run.info.orchestrator_url)
    _tell(run, environment, raise_alert(run.settings, alert))


def alert_recovered(environments: Sequence[str | None]) -> None:
    """Tell once that what was alerted about these environments, by runs of this kind, is over. Never raises."""
    run = current()
    for environment in environments:
        made = recovered(
            run.settings, environment, run_id=run.info.run_id, url=run.info.orchestrator_url, source=_source()
        )
        _tell(run, environment, made)


def alert_status() -> None:
    """Alert what the nightly look found that was not there before, and what is over. Never raises."""
    run = current()
    found = of_overview(run.settings, seen(), run_id=run.info.run_id, url=run.info.orchestrator_url)
    _watched(watch(run.settings, found, run_id=run.info.run_id, url=run.info.orchestrator_url))


def alert_proofs() -> None:
    """Alert which backups do not hold that did before, and which do again. Never raises."""
    run = current()
    info = run.info
    found = of_proofs(run.settings, run.failures, tuple(run.proofs), run_id=info.run_id, url=info.orchestrator_url)
    _watched(watch(run.settings, found, run_id=info.run_id, url=info.orchestrator_url, source=VERIFY_BACKUPS))


def _watched(deliveries: Sequence[tuple[str | None, Delivery]]) -> None:
    """Say what became of them. The run's own end is not alerted again after that."""
    run = current()
    _told.add(f"{run.info.run_id}/{run.attempt}")
    for environment, delivery in deliveries:
        _tell(run, environment, [delivery])


@step("heartbeat", "heartbeat")
def sign_of_life() -> None:
    """Ping `[alerts] heartbeat_url`: whoever waits for it knows that the nightly run was there and good.

    A run that looked at some environments alone is no such sign.
    """
    run = current()
    if run.settings.alerts.heartbeat_url is None or not run.whole:
        return
    why = heartbeat(run.settings)
    run.progress.note("heartbeat", "answered" if why is None else f"was not answered: {why}")


# -- parts -------------------------------------------------------------------------------------------------------------


def _source() -> str:
    context = FlowRunContext.get()
    return source_of(context.flow.name if context is not None and context.flow is not None else DEPLOY)


def _standing(run: Run, environment: str | None) -> tuple[str, tuple[str, ...]]:
    """What the run did to an environment before it failed, and the measured ways back where it did something."""
    result = run.results.get(environment or "")
    planned = run.plans.get(environment or "")
    if result is None:
        return "", ()
    done = [one.label for one in (*result.earlier, *result.applied)]
    state = done_before(done, len(result.earlier) + len(planned.plan.steps) if planned else None)
    return state, ways_back(result.rehearsal.rehearsal) if done and result.rehearsal else ()


def _tell(run: Run, environment: str | None, deliveries: Sequence[Delivery]) -> None:
    for text in tell(deliveries):
        run.progress.note(environment or "project", text)
