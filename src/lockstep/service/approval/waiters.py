"""Whether somebody still waits for an answer: a run in Prefect, or a process that keeps a session open."""

from __future__ import annotations

from lockstep.core.approval import Request
from lockstep.postgres.connection import Session, guard


def waits_still(session: Session, request: Request) -> bool:
    """Whether the run that asked can still go on. Where nobody can tell, it is taken to wait: it must not be overtaken."""
    if request.flow_run is not None:
        from lockstep.service.orchestrator import is_over  # late: Prefect

        return not is_over(request.flow_run)
    with guard(session.target):
        row = session.connection.execute(
            "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database() "
            "AND application_name = %s AND pid <> pg_catalog.pg_backend_pid()",
            (f"lockstep/{request.run_id}",),
        ).fetchone()
    return bool(row and row[0])
