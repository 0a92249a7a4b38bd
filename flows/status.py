"""The status flow, for the night. Defines nothing but the flow: Prefect loads this file under a name of its own."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.alerts import alert_status, sign_of_life
from tasks.boundary import Ending
from tasks.history import report_history, write_page
from tasks.report import report_status
from tasks.run import opened, project_of
from tasks.status import look, refuse_wrong, sentence


@flow(name="status", flow_run_name="status", persist_result=False)
def status(environments: list[str] | None = None, project: str | None = None) -> State[None]:
    """Compare files and ledger of every environment, and store the matrix. Read-only.

    Fails when an environment cannot be read or when files and ledger disagree. Pending migrations alone are no failure.
    What is wrong is alerted once, and so is that it is over; a good run pings the heartbeat's address.

    Args:
        environments: Which environments of lockstep.toml; empty means all of them.
        project: The folder with lockstep.toml, where it is not the one that this flow lies in.
    """
    with Ending() as end, opened(project_of(__file__, project), environments) as run:
        for environment in run.names:
            look(environment, return_state=True)  # the state, so that one failure does not hide the others
        report_status()
        alert_status()
        report_history()
        write_page()
        refuse_wrong()
        sign_of_life()
        end.done(sentence())
    return end.state
