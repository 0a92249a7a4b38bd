"""Whether somebody still waits for an answer: a run in Prefect, or a process that keeps a session open."""

from __future__ import annotations

import time

from lockstep.core.approval import Request
from lockstep.postgres.connection import Session, guard

_LOOKS = 5  # a second apart: a process that lost its session opens another one


def waits_still(session: Session, request: Request) -> bool:
    """Whether the run that asked can still go on. Where nobody can tell, it is taken to wait: it must not be overtaken."""
    if request.flow_run is not None:
        from uuid import UUID

        from lockstep.service.orchestrator import is_over, ui_url  # late: Prefect

        # Another server than the run's own does not know it, which says nothing.
        if request.url is not None and ui_url(UUID(request.flow_run)) != request.url:
            return True
        return not is_over(request.flow_run)
    for again in range(_LOOKS):
        if again:
            time.sleep(1)
        if _has_session(session, request.run_id):
            return True
    return False


def _has_session(session: Session, run_id: str) -> bool:
    with guard(session.target):
        row = session.connection.execute(
            "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database() "
            "AND application_name = %s AND pid <> pg_catalog.pg_backend_pid()",
            (f"lockstep/{run_id}",),
        ).fetchone()
    return bool(row and row[0])
