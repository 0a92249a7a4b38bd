"""After applying: ledger and verify scripts."""

from __future__ import annotations

from lockstep.service.syncing import verify_applied
from tasks.boundary import step
from tasks.run import current


@step("verify", "{environment}: verify")
def verify(environment: str) -> None:
    """Check in a new session that all of the plan is applied as it stands on disk, and that its verify scripts hold."""
    run = current()
    verify_applied(run.settings, run.environment(environment), run.folder, run.progress, run.results[environment])
