"""All that is known of the environments, one a task, several at once."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.futures import wait

from lockstep.config import Environment
from lockstep.core.approval import Approval
from lockstep.errors import LockstepError
from lockstep.service.approval.settling import settle_open
from lockstep.service.outcome import Outcome, exit_code, outcome, outcomes
from lockstep.service.overview import AT_ONCE, Overview, together
from lockstep.service.overview import look as look_at
from tasks.boundary import step
from tasks.run import current

__all__ = ["AT_ONCE", "compare", "look", "look_at_all", "refuse_wrong", "sentence"]


def look_at_all(environments: Sequence[str]) -> None:
    """Look at all of them, AT_ONCE at a time. One that fails, or does not answer, hides no other one."""
    wait([look.submit(environment) for environment in environments])


@step("status", "{environment}: status", retry=False)  # the look itself tries again, within its time
def look(environment: str) -> None:
    """Look at one environment for a bounded time. Raises when somebody must look at it; pending is no error.

    Approvals that nobody waits for any more are settled in its audit log.
    """
    run = current()

    def settle(which: Environment) -> tuple[Approval, ...]:
        return settle_open(run.settings, which, run.info, run.progress)

    found = look_at(
        run.settings, run.environment(environment), run.folder, observations=run.observations, settle=settle
    )
    run.looks[environment] = found
    come = outcome(found)
    run.progress.note(environment, come.sentence)
    if come.error is not None:
        raise come.error


@step("parity", "parity", retry=False)
def compare() -> None:
    """Put the environments side by side: with the same migrations they must have the same schema."""
    run = current()
    run.overview = together(run.settings, [run.looks[name] for name in run.names if name in run.looks])
    for pair in run.overview.parity:
        run.progress.note(pair.right, pair.text)


def seen() -> Overview:
    """Return what was seen of all of them."""
    found = current().overview
    if found is None:
        raise LockstepError("no environment was looked at", hint="lockstep status")
    return found


def sentence() -> str:
    """Return what all environments are, in one line: a good run's message."""
    return "; ".join(f"{one.environment}: {one.sentence}" for one in outcomes(seen()))


def refuse_wrong() -> None:
    """Raise when any environment needs a person: with its own error when it is the only one, else with all of them."""
    found = seen()
    every = outcomes(found)
    wrong = [one for one in every if one.error is not None]
    unseen = [name for name in current().names if name not in {one.environment for one in every}]
    if not wrong and not unseen and not found.unseen:
        return
    if len(wrong) == 1 and not unseen and wrong[0].error is not None:
        raise wrong[0].error
    lines = [_line(one) for one in wrong]
    lines += [f"{name}: it was not looked at" for name in unseen]
    lines += [one.error.message for one in found.unseen]
    both = LockstepError("\n".join(lines), hint="lockstep status")
    both.exit_code = exit_code(every) or both.exit_code
    raise both


def _line(one: Outcome) -> str:
    return one.text if one.text.startswith(f"{one.environment} ") else f"{one.environment}: {one.text}"
