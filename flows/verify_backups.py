"""The flow that verifies backups, for the week. Defines nothing but the flow: Prefect loads this file under its own name."""

from __future__ import annotations

from typing import Literal

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.alerts import alert_proofs
from tasks.backups import chosen, proven, report_proofs, verify_newest
from tasks.boundary import Ending
from tasks.run import opened, project_of


@flow(name="verify-backups", flow_run_name="verify-backups", persist_result=False)
def verify_backups(
    environments: list[str] | None = None,
    level: Literal["digests", "archive", "restored"] = "restored",
    project: str | None = None,
) -> State[None]:
    """Verify the newest backup of every environment, and record what came of it beside the backup.

    Fails when one is not what was backed up, does not restore, or when a protected environment has none.

    Args:
        environments: Which environments of lockstep.toml; empty means all that have backups or are protected.
        level: How strong a proof: the stored bytes; also read whole by pg_restore; also restored and compared.
        project: The folder with lockstep.toml, where it is not the one that this flow lies in.
    """
    with Ending() as end, opened(project_of(__file__, project), environments, files=False):
        for environment in chosen():
            verify_newest(environment, level, return_state=True)  # the state, so that one failure does not hide others
        report_proofs()
        alert_proofs()
        end.done(proven())
    return end.state
