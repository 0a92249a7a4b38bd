"""What a deploy and whoever starts it say to each other: expected plans, the run's name and id, how it ended.

Pure: no database and no Prefect. The flow, its tasks and `lockstep deploy` all use these, so that they cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from lockstep import errors
from lockstep.core.counting import counted
from lockstep.core.ledger import Entry, EntryState
from lockstep.core.migration import label
from lockstep.core.planner import Plan
from lockstep.errors import ExitCode, LockstepError, StalePlan
from lockstep.service.applying import Applied
from lockstep.service.planning import TargetPlan

#: Up to so many migrations of one environment get a task run each. Prefect's server stores about 20 a second.
ONE_TASK_EACH = 50

#: What a run's final state is called in Prefect when nobody approved it; its type is CANCELLED.
NOT_APPROVED = "NotApproved"

_NAMED_ENVIRONMENTS = 4  # in a run's name
_NAMED_FILES = 5  # in a refusal


# -- what was shown is what runs ---------------------------------------------------------------------------------------


def expected_plans(plans: Iterable[TargetPlan]) -> dict[str, str]:
    """Return the plans as a flow parameter: environment -> digest, and `environment/file` -> checksum of each step."""
    expected: dict[str, str] = {}
    for one in plans:
        expected[one.environment] = one.plan.digest
        expected |= {f"{one.environment}/{step.name}": step.checksum for step in one.plan.steps}
    return expected


def files_of(environment: str, expected: Mapping[str, str]) -> dict[str, str]:
    """Return the files of one environment out of `expected_plans`: file name -> checksum, in the plan's order."""
    start = f"{environment}/"
    return {key.removeprefix(start): value for key, value in expected.items() if key.startswith(start)}


def applied_by(plan: Plan, run_id: str) -> dict[str, Entry]:
    """Return what a run has applied already, by the ledger that the plan was made from: file name -> its entry."""
    entries = (row.entry for row in plan.rows if row.entry is not None)
    return {one.name: one for one in entries if one.run_id == run_id and one.state is EntryState.APPLIED}


def earlier(plan: Plan, run_id: str) -> tuple[Applied, ...]:
    """Return the same in the ledger's order, as what was applied: a run that goes on tells it as its own."""
    return tuple(
        Applied(
            name=name,
            label=label(name),
            execution_ms=entry.execution_ms or 0,
            tries=1,
            checksum=entry.checksum or "",
            file_checksum=entry.checksum or "",
        )
        for name, entry in applied_by(plan, run_id).items()
    )


def refuse_unexpected(
    environment: str,
    target: str,
    plan: Plan,
    expected: Mapping[str, str] | None,
    *,
    run_id: str,
    gated: bool = False,
) -> None:
    """Raise StalePlan, naming the files, when `plan` is not what was shown. An environment not named is not checked.

    A run that goes on after it waited finds less to do: what is missing it must have applied itself, from these files.
    `gated`: it needs an approval, which would be void.
    """
    digest = (expected or {}).get(environment)
    if expected is None or digest is None or digest == plan.digest:
        return
    shown = files_of(environment, expected)
    if not shown and not plan.steps:
        return  # nothing was to run there, and nothing is
    here = {step.name: step.checksum for step in plan.steps}
    done = {name: entry.checksum for name, entry in applied_by(plan, run_id).items()}
    if done and {**done, **here} == shown:
        return
    entries = {row.name for row in plan.rows if row.entry is not None}
    changed = [f"{name} is another file here" for name in shown if name in here and shown[name] != here[name]]
    changed += [
        f"{name} is applied already" if name in entries else f"{name} is not here" for name in shown if name not in here
    ]
    changed += [f"{name} was not in it" for name in here if name not in shown]
    if len(changed) > _NAMED_FILES:
        changed = [*changed[:_NAMED_FILES], f"and {len(changed) - _NAMED_FILES} more"]
    why = tuple(changed) or ("the same files to apply; a down or verify script, a setting or the ledger differs",)
    raise StalePlan(target=target, expected=digest, actual=plan.digest, changed=why, gated=gated)


# -- names -------------------------------------------------------------------------------------------------------------


def run_id_of(created: datetime, flow_run_id: UUID) -> str:
    """Return the run id of a flow run: like `service.run.new_run_id`, and the same for each try of that flow run."""
    return f"{created.astimezone(UTC):%Y%m%d-%H%M%S}-{flow_run_id.hex[-4:]}"


def run_name(what: str, environments: Sequence[str], files: Mapping[str, Sequence[str]]) -> str:
    """Return a flow run's name: `deploy dev 004–005, prod 005`. `files`: environment -> its pending files, if known."""
    spans: dict[str, list[str]] = {}
    for environment in environments:
        if not files or files.get(environment):
            spans.setdefault(_span(files.get(environment, ())), []).append(environment)
    if not spans:  # nothing is pending anywhere
        spans[""] = list(environments)
    count = sum(len(names) for names in spans.values())
    if count > _NAMED_ENVIRONMENTS:
        return f"{what} {count} environments"
    return f"{what} " + ", ".join(f"{', '.join(names)} {span}".strip() for span, names in spans.items())


def _span(files: Sequence[str]) -> str:
    """`005–007`, `005`, `005 and views`: what a list of files is, in a few characters."""
    digits = [match[0] for name in files if "/" not in name and (match := re.match(r"\d+", name))]
    others = len(files) - len(digits)
    parts = []
    if digits:
        parts.append(digits[0] if len(digits) == 1 else f"{digits[0]}–{digits[-1]}")
    if others:
        parts.append(counted(others, "repeatable"))
    return " and ".join(parts)


def artifact_key(*parts: str) -> str:
    """Return an artifact's key: Prefect takes small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


# -- how it ended ------------------------------------------------------------------------------------------------------

_PREFIX = "lockstep."


def labels_of(error: LockstepError) -> dict[str, bool | int | float | str]:
    """Return what a flow run's labels keep of the error that ended it; its message is the state's own."""
    return {
        f"{_PREFIX}exit_code": int(error.exit_code),
        f"{_PREFIX}error": type(error).__name__,
        # Empty and not left out: a retry's labels are laid over those of the try before.
        f"{_PREFIX}hint": error.hint or "",
        f"{_PREFIX}more": error.more or "",
    }


def error_of(labels: Mapping[str, Any], message: str) -> LockstepError:
    """Return the error that `labels_of` described, with its class where this version knows it.

    A run that left no labels was killed, cancelled or did not load: exit code 1.
    """
    found = getattr(errors, str(labels.get(f"{_PREFIX}error")), LockstepError)
    known: type[LockstepError] = found if issubclass(found, LockstepError) else LockstepError
    error = known.__new__(known, message)
    LockstepError.__init__(error, message, hint=labels.get(f"{_PREFIX}hint") or None)
    error.exit_code = _exit_code(labels.get(f"{_PREFIX}exit_code"))
    error.more = labels.get(f"{_PREFIX}more") or None
    if isinstance(error, errors.MigrationFailed):
        error.detail = None  # the server's DETAIL stays on the machine where it failed
    return error


def _exit_code(value: object) -> ExitCode:
    try:
        return ExitCode(int(str(value)))
    except ValueError:
        return ExitCode.UNEXPECTED
