"""After applying: ledger and verify scripts, and whether the application still works."""

from __future__ import annotations

from lockstep.service.syncing import look_after, look_before, verify_applied
from tasks.boundary import step
from tasks.run import current


@step("verify", "{environment}: verify")
def verify(environment: str) -> None:
    """Check in a new session that all of the plan is applied as it stands on disk, and that its verify scripts hold."""
    run = current()
    verify_applied(run.settings, run.environment(environment), run.folder, run.progress, run.results[environment])


def note_health(environment: str) -> None:
    """Note how the target is before anything is applied, to be compared by `check`. Call it in the flow's body."""
    run = current()
    look_before(run.settings, run.environment(environment), run.results[environment])


def has_check(environment: str) -> bool:
    """Whether there is something to look at: a check of the application, or the health from before."""
    run = current()
    return run.environment(environment).table.check is not None or run.results[environment].health is not None


@step("check", "{environment}: check", retry=False)
def check(environment: str) -> None:
    """Tell what ails the target since, and ask the application whether it still works. Nothing is reverted by itself."""
    run = current()
    look_after(run.settings, run.environment(environment), run.info, run.progress, run.results[environment])
