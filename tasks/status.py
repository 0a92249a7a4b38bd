"""Files against ledger, one environment a task."""

from __future__ import annotations

from lockstep.errors import LedgerError, LockstepError
from lockstep.service.approval.settling import settle_open
from lockstep.service.reporting import is_wrong, status_line
from lockstep.service.status import TargetStatus, target_status
from tasks.boundary import step
from tasks.run import current


@step("status", "{environment}: status")
def look(environment: str) -> None:
    """Read one environment. Raises when it cannot be read, or when files and ledger disagree; pending is no error.

    Approvals that nobody waits for any more are settled in its audit log.
    """
    run = current()
    found = target_status(run.settings, run.environment(environment), run.folder)
    run.statuses[environment] = found
    if found.error is None and run.environment(environment).protected:
        settle_open(run.settings, run.environment(environment), run.info, run.progress)
    if (error := trouble(found)) is not None:
        raise error
    run.progress.note(environment, status_line(found))


def trouble(found: TargetStatus) -> LockstepError | None:
    """Return what a person has to look at; None when all is well. Pending migrations are no trouble."""
    if found.error is not None or not is_wrong(found):
        return found.error
    return LedgerError(_sentence(found), hint=f"lockstep plan {found.environment}")


def sentence() -> str:
    """Return what all environments are, in one line: a good run's message."""
    return "; ".join(f"{found.environment}: {status_line(found)}" for found in current().statuses.values())


def refuse_wrong() -> None:
    """Raise when any environment needs a person: with its own error when it is the only one, else with all of them."""
    wrong = [found for found in current().statuses.values() if is_wrong(found)]
    if not wrong:
        return
    first = trouble(wrong[0])
    if len(wrong) == 1 and first is not None:
        raise first
    both = LockstepError("\n".join(_sentence(found) for found in wrong), hint="lockstep status")
    both.exit_code = max(found.exit_code for found in wrong)
    raise both


def _sentence(found: TargetStatus) -> str:
    return found.error.message if found.error else f"{found.target}: {status_line(found)}"
