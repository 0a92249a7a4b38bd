"""What files, ledger and schema say to each other that stops a run."""

from __future__ import annotations

from typing import Any

from lockstep.core.counting import counted
from lockstep.errors.base import ExitCode, LockstepError


def _listed(lines: tuple[str, ...], more: int) -> str:
    return "\n".join([*(f"  {line}" for line in lines), *((f"  and {more} more",) if more else ())])


class PlanRefused(LockstepError):
    """Files and ledger of one target do not allow a plan. `reasons` are core.planner.Refusal values."""

    more = "out-of-sync"

    def __init__(self, *, target: str, reasons: tuple[Any, ...], action: str = "applied") -> None:
        environment = target.split(" ", 1)[0]
        lines = [f"{target}: nothing was {action}:"]
        lines += [f"  {reason.message}" for reason in reasons]
        hint = next((r.hint for r in reasons if r.hint), None)
        super().__init__("\n".join(lines), hint=hint.replace(" ENV", f" {environment}") if hint else None)
        if action == "reverted":
            self.more = "rollback"
        self.target = target
        self.reasons = reasons
        self.exit_code = max(reason.exit_code for reason in reasons)


class StalePlan(LockstepError):
    """The plan under the lock is not the plan that was shown."""

    exit_code = ExitCode.REFUSED

    def __init__(
        self,
        *,
        target: str,
        expected: str,
        actual: str,
        changed: tuple[str, ...] = (),
        gated: bool = False,  # it needed an approval
        again: str | None = None,  # the command that plans anew; None: deploy, or sync without Prefect
    ) -> None:
        what = f" ({', '.join(changed)})" if changed else ""
        void = " An approval of this run is void: it was given to what was shown." if gated else ""
        environment = target.split(" ", 1)[0]
        way = again or f"lockstep deploy {environment} (without Prefect: lockstep sync {environment})"
        super().__init__(
            f"{target}: the plan changed since it was shown{what}: expected {expected[:12]}, now {actual[:12]}. "
            f"Nothing was applied by this run.{void}",
            hint=f"lockstep plan {environment} shows what would run now; then: {way}{' asks anew' if gated else ''}",
        )
        self.target = target
        self.expected = expected
        self.actual = actual


class Held(LockstepError):
    """A deploy stopped before a version that was reverted on the target; what came before it is applied."""

    exit_code = ExitCode.REFUSED

    def __init__(self, *, target: str, file: str, version: int) -> None:
        super().__init__(
            f"{target}: stopped before {file}: it was reverted here, and would come back unchanged.",
            hint=f"mend {file} (other SQL lifts the hold), or say that it may come back: "
            f"lockstep sync {target.split(' ', 1)[0]} --include {version}",
        )
        self.target = target
        self.file = file
        self.version = version


class LedgerError(LockstepError):
    """The ledger cannot be relied on."""

    exit_code = ExitCode.DISAGREES
    more = "out-of-sync"


class LedgerMissing(LedgerError):
    """The target has no ledger yet."""

    def __init__(self, *, target: str, environment: str, ledger: str) -> None:
        super().__init__(f"{target}: there is no ledger ({ledger}) yet.", hint=f"lockstep init {environment}")
        self.target = target


class LedgerForeign(LedgerError):
    """A table of the ledger's name exists and belongs to another tool. Never touched."""

    def __init__(self, *, target: str, ledger: str, tool: str) -> None:
        super().__init__(
            f"{target}: {ledger} is {tool}. It was not touched.",
            hint='set ledger_schema = "lockstep" under [project] in lockstep.toml, and keep both side by side',
        )
        self.target = target
        self.tool = tool


class LedgerFiltered(LedgerError):
    """Row level security hides rows of the ledger: an empty look would re-run everything."""

    def __init__(self, *, target: str, ledger: str, role: str) -> None:
        super().__init__(
            f"{target}: row level security filters {ledger} for role {role}, so what it shows cannot be trusted.",
            hint="connect as the ledger's owner, or name this role as ledger_reader and run: lockstep init",
        )
        self.target = target
        self.role = role


class LedgerNotOwned(LedgerError):
    """The effective role does not own the ledger, so it must not deploy."""

    exit_code = ExitCode.REFUSED

    def __init__(self, *, target: str, ledger: str, role: str, owner: str) -> None:
        super().__init__(
            f"{target}: {ledger} belongs to {owner}, and role {role} is not a member of it. Nothing was applied.",
            hint=f'log in as {owner}, or as the migrator with role = "{owner}" for this environment '
            "(docs/how-to/roles.md); do not make a role that only looks or backs up a member of it",
        )
        self.target = target
        self.role = role
        self.owner = owner


class DriftFound(LedgerError):
    """The live schema is not what the ledger's fingerprint says: somebody changed it by hand."""

    more = "drift"

    def __init__(
        self, *, target: str, environment: str, since: str, lines: tuple[str, ...], more_lines: int = 0
    ) -> None:
        count = len(lines) + more_lines
        what = counted(count, "object differs", "objects differ")
        listed = _listed(lines, more_lines)
        super().__init__(
            f"{target}: drift: {what} from the schema {since}. Nothing was applied.\n{listed}",
            hint=f"lockstep drift {environment}",
        )
        self.target = target
        self.lines = lines


class ChangedOtherwise(LedgerError):
    """A run changed other things than it was predicted to. What it applied stays applied."""

    more = "drift"

    def __init__(
        self,
        *,
        target: str,
        environment: str,
        source: str,  # what predicted it: an environment, or the rehearsal
        rehearsed: bool = False,
        lines: tuple[str, ...],
        more_lines: int = 0,
    ) -> None:
        listed = _listed(lines, more_lines)
        super().__init__(
            f"{target}: everything is applied, but it changed other things than {source} predicts:\n{listed}",
            hint=f"lockstep history {environment} shows who else was there"
            if rehearsed
            else f"lockstep diff {source} {environment}",
        )
        self.target = target
        self.lines = lines
