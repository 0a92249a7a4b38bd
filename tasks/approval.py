"""Approval: the run asks, and waits without a process where it can. The answer is in the target's audit log.

A run of a deployment is suspended: its process ends, and a worker takes it up again when somebody answered. In the
foreground the process waits, and asks at the terminal where there is one.
"""

from __future__ import annotations

from typing import Literal
from uuid import uuid4

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from lockstep.core.approval import Approval, How, Request, Standing
from lockstep.errors import ApprovalRefused
from lockstep.service.approval import gate
from lockstep.service.approval.gate import Wanted
from lockstep.service.approval.prompting import prompt
from lockstep.service.approval.telling import form_text
from tasks.alerts import alert_waiting
from tasks.boundary import step
from tasks.progress import LOG
from tasks.run import current, flow_run_of_deployment


class Decision(RunInput):
    """What the UI's form asks for."""

    decision: Literal["approve", "reject"] = Field(description="What is to become of this run")
    reason: str | None = Field(default=None, description="Why; it goes into the audit log")


def approve(environment: str, wanted: Wanted) -> None:
    """Return when somebody approved `wanted`. Call it in a flow's body: a task cannot be suspended.

    Raises NotApproved, and RunWaits when another run waits on this target.
    """
    run = current()
    waits_without_process = flow_run_of_deployment() is not None
    ask(environment, wanted)
    if run.approvals[environment].standing is Standing.WAITING and (decision := _decided(environment)) is not None:
        take_form(environment, decision.decision == "approve", decision.reason)
    if run.approvals[environment].standing is Standing.WAITING and (
        waits_without_process or prompt() is None or run.settings.approval.two_person
    ):
        # A place that does not answer takes its time; nobody is to think meanwhile that this process is gone.
        with gate.present(run.settings, run.environment(environment), run.info):
            alert_waiting(environment, run.approvals[environment])
    while run.approvals[environment].standing is Standing.WAITING:
        if waits_without_process:
            _suspend(environment, run.approvals[environment])  # this process ends here
        wait(environment)
    asked = run.approvals[environment]
    gate.pass_on(wanted.target, environment, asked, again=wanted.again)
    assert asked.answer is not None
    run.progress.note(environment, f"approved by {asked.answer.by} ({asked.answer.role})")


@step("ask for approval", "{environment}: approval")
def ask(environment: str, wanted: Wanted) -> None:
    """Ask for approval, or find what was answered since."""
    run = current()
    run.approvals[environment] = gate.ask(
        run.settings, run.environment(environment), run.info, wanted, run.progress, attempt=run.attempt
    )


@step("wait for approval", "{environment}: wait for approval")
def wait(environment: str) -> None:
    """Wait in this process for an answer."""
    run = current()
    run.approvals[environment] = gate.wait(
        run.settings,
        run.environment(environment),
        run.info,
        run.approvals[environment],
        run.progress,
        prompt=prompt(),
    )


@step("take the form", "{environment}: answer of the form")
def take_form(environment: str, approved: bool, reason: str | None) -> None:
    """Record what was answered in the UI's form. Where it does not count, that is told, and the run waits on."""
    run = current()
    try:
        run.approvals[environment] = gate.answer(
            run.settings,
            run.environment(environment),
            run.info,
            run.approvals[environment],
            approve=approved,
            reason=reason,
            how=How.FORM,
            by="the form in Prefect's UI",
        )
    except ApprovalRefused as refused:
        run.progress.note(environment, f"the form's answer does not count: {refused.message}")


# -- Prefect's part ----------------------------------------------------------------------------------------------------


def _about(request: Request) -> str:
    """What a form is about: one request. What is asked later, with other changes for one, wants an answer of its own."""
    return f"{request.environment}-{request.row}"


def _suspend(environment: str, asked: Approval) -> None:
    request = asked.request
    form = Decision.with_initial_data(description=form_text(asked))
    LOG.info("%s: waits for approval", environment)
    # Each suspension has a key of its own: a form that did not count is shown again.
    suspend_flow_run(form, key=f"{_about(request)}-{uuid4().hex}", timeout=None)


def _decided(environment: str) -> Decision | None:
    """What the form of the newest suspension was filled in with, where it was about this request; None: not at all.

    It lies there for as long as the run does, and `lockstep approve` leaves its answer in it too: to wake the run.
    """
    run = current()
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or flow_run_of_deployment() is None:
        return None
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(context.flow_run.id)
    waited = next((state for state in reversed(states) if state.is_paused()), None)
    if waited is None or waited.state_details.run_input_keyset is None:
        return None
    about, _, _ = (waited.state_details.pause_key or "").rpartition("-")
    if about != _about(run.approvals[environment].request):
        return None
    try:
        found = Decision.load(waited.state_details.run_input_keyset, flow_run_id=context.flow_run.id)
    except Exception:  # woken without an answer
        return None
    assert isinstance(found, Decision)  # we are in no event loop
    return found
