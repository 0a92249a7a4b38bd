"""The status flow, for the night. Defines nothing but the flow: Prefect loads this file under a name of its own."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.alerts import alert_status, sign_of_life
from tasks.boundary import Ending
from tasks.history import report_history, write_page
from tasks.report import report_status
from tasks.run import opened, project_of
from tasks.status import AT_ONCE, compare, look_at_all, refuse_wrong, sentence


@flow(
    name="status",
    flow_run_name="status",
    persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=AT_ONCE),  # type: ignore[arg-type]  # its own return type is unbound
)
def status(environments: list[str] | None = None, project: str | None = None) -> State[None]:
    """Look at every environment, several at once and each for a bounded time, and store what the morning is told. Read-only.

    Files and ledger, drift, parity, health, backups, what waits for approval. Fails when somebody must look: an
    environment cannot be read, files and ledger disagree, a schema was changed by hand, or health is critical. Pending
    migrations and warnings are no failure. What is new is alerted once, and once that it is over; a good run pings the
    heartbeat's address.

    Args:
        environments: Which environments of lockstep.toml; empty means all of them.
        project: The folder with lockstep.toml, where it is not the one that this flow lies in.
    """
    with Ending() as end, opened(project_of(__file__, project), environments) as run:
        look_at_all(run.names)
        compare()
        alert_status()  # before anything that may fail of itself
        report_status()
        report_history()
        write_page()
        refuse_wrong()
        sign_of_life()
        end.done(sentence())
    return end.state
