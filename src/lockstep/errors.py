"""Everything that can go wrong, as one tree; what a person is told, and the exit code that goes with it.

    LockstepError                       1
    ├── UsageError                      2   the command's words, or the project folder
    │   ├── ConfigError                 2   lockstep.toml, .env or a variable, with file and key
    │   ├── ProgramMissing              2   a client program of the right version is not there
    │   └── IdentityMissing             2   a backup is encrypted, and no secret key at hand decrypts it
    ├── MigrationFileError              7   a file cannot be used: file, line, column, excerpt
    ├── PlanRefused                     2|4|7 files and ledger do not allow a plan (its code depends on the reason)
    ├── StalePlan                       7   what would run is not what was shown
    ├── Held                            7   stopped before a version that was reverted here
    ├── LedgerError                     4
    │   ├── LedgerMissing               4   not initialised
    │   ├── LedgerForeign               4   the table belongs to another tool
    │   ├── LedgerFiltered              4   row level security hides rows from this role
    │   ├── DriftFound              4   somebody changed the schema by hand
    │   ├── ChangedOtherwise        4   a run changed other things than was predicted
    │   └── LedgerNotOwned              7   the role that would deploy does not own the ledger
    ├── LockHeld                        5   another run works on this target
    ├── MigrationFailed                 6   SQLSTATE, statement, line, caret; what was and was not done
    ├── Unreachable                     8   no connection, or it was lost
    ├── BackupFailed                    7   no proven backup, so nothing ran
    ├── RehearsalRefused                7   the rehearsal failed, or could not verify the plan: nothing ran
    ├── RevertNotProven                 7   nobody knows that the way back leads back, or it loses data: nothing ran
    ├── BackupDamaged                   7   what is stored is not what was backed up; it restores nothing
    ├── RestoreFailed                   7   pg_restore did not end well, or the copy is not what was backed up
    ├── RestoreRefused                  7   a restore that would lose or could not replace something: nothing was done
    ├── BucketError                     8   the bucket refused or did not answer
    └── ServerStartError                1   a throw-away server did not come up

Every class says what happened (`str`), carries its data as attributes, and knows the next command (`hint`) and where
to read on (`more`, an anchor of docs/guide.md). All of them survive pickling, since Prefect moves them about. No
message may hold a secret: whoever builds one passes names of targets, never connection strings.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self


class ExitCode(IntEnum):
    """What the command line tells its caller. docs/reference/exit-codes.md lists them for users."""

    DONE = 0  # done, or nothing to do
    UNEXPECTED = 1
    USAGE = 2
    PENDING = 3  # `status --check` found migrations to apply
    DISAGREES = 4  # ledger and files disagree, or drift
    LOCKED = 5
    FAILED = 6  # a migration failed
    REFUSED = 7  # by validation, a gate, rehearsal or approval
    UNREACHABLE = 8


class LockstepError(Exception):
    """Root of the tree. `data` is what the class was built from; it is all that pickling carries."""

    exit_code: ExitCode = ExitCode.UNEXPECTED
    hint: str | None = None  # the next command to run
    more: str | None = None  # anchor in docs/guide.md

    def __init__(self, message: str, *, hint: str | None = None, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data
        if hint is not None:
            self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__.copy())

    @classmethod
    def _bare(cls, message: str, state: dict[str, Any]) -> Self:
        error = cls.__new__(cls, message)
        Exception.__init__(error, message)
        error.__dict__.update(state)
        return error


def _rebuild(cls: type[LockstepError], message: str, state: dict[str, Any]) -> LockstepError:
    return cls._bare(message, state)


class UsageError(LockstepError):
    """The command cannot be carried out as it was written."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """Configuration is wrong; `where` is the file (with line where known) or the variable."""

    more = "connection-issues"

    def __init__(self, message: str, *, where: str, hint: str | None = None) -> None:
        super().__init__(f"{where}: {message}", hint=hint)
        self.where = where


class MigrationFileError(LockstepError):
    """A migration file cannot be used. `line` and `column` count from 1, in characters."""

    exit_code = ExitCode.REFUSED
    more = "migration-failed"

    def __init__(
        self,
        problem: str,
        *,
        file: str,
        line: int | None = None,
        column: int | None = None,
        excerpt: str | None = None,
        hint: str | None = None,
    ) -> None:
        place = ":".join(str(part) for part in (file, line, column) if part is not None)
        text = f"{place}: {problem}"
        super().__init__(text if excerpt is None else f"{text}\n{excerpt}", hint=hint)
        self.problem = problem
        self.file = file
        self.line = line
        self.column = column
        self.excerpt = excerpt


class PlanRefused(LockstepError):
    """Files and ledger of one target do not allow a plan. `reasons` are core.planner.Refusal values."""

    more = "out-of-sync"

    def __init__(self, *, target: str, reasons: tuple[Any, ...], action: str = "applied") -> None:
        environment = target.split(" ", 1)[0]
        lines = [f"{target}: nothing was {action}:"]
        lines += [f"  {reason.message}" for reason in reasons]
        hint = next((r.hint for r in reasons if r.hint), None)
        super().__init__("\n".join(lines), hint=hint.replace(" ENV", f" {environment}") if hint else None)
        self.target = target
        self.reasons = reasons
        self.exit_code = max(reason.exit_code for reason in reasons)


class StalePlan(LockstepError):
    """The plan under the lock is not the plan that was shown."""

    exit_code = ExitCode.REFUSED
    hint = "lockstep plan"

    def __init__(self, *, target: str, expected: str, actual: str, changed: tuple[str, ...] = ()) -> None:
        what = f" ({', '.join(changed)})" if changed else ""
        super().__init__(
            f"{target}: the plan changed since it was shown{what}: expected {expected[:12]}, now {actual[:12]}. "
            "Nothing was applied."
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
            hint=f'set role = "{owner}" for this environment, or: GRANT "{owner}" TO "{role}"',
        )
        self.target = target
        self.role = role
        self.owner = owner


def _listed(lines: tuple[str, ...], more: int) -> str:
    return "\n".join([*(f"  {line}" for line in lines), *((f"  and {more} more",) if more else ())])


class DriftFound(LedgerError):
    """The live schema is not what the ledger's fingerprint says: somebody changed it by hand."""

    more = "drift"

    def __init__(
        self, *, target: str, environment: str, since: str, lines: tuple[str, ...], more_lines: int = 0
    ) -> None:
        count = len(lines) + more_lines
        what = "1 object differs" if count == 1 else f"{count} objects differ"
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


class LockHeld(LockstepError):
    """Another run holds the target's lock."""

    exit_code = ExitCode.LOCKED

    def __init__(self, *, target: str, holder: str, outcome: str = "Nothing was applied.") -> None:
        super().__init__(
            f"{target}: another run holds the lock: {holder}. {outcome}",
            hint="wait for it to end, or use --wait",
        )
        self.target = target
        self.holder = holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """What failed, as the server names it. Names alone, but for `primary`."""

    primary: str  # the server's message: of class 22 it holds a value
    statement: int | None = None  # of the file, from 0
    at_commit: bool = False
    in_code: bool = False  # a function, trigger or DO raised it: `primary` may be its author's words
    schema: str | None = None
    table: str | None = None
    column: str | None = None
    constraint: str | None = None


class MigrationFailed(LockstepError):
    """A migration (or a down) failed on the server. `message` is complete and multi-line."""

    exit_code = ExitCode.FAILED
    more = "migration-failed"

    def __init__(
        self,
        message: str,
        *,
        target: str,
        file: str,
        line: int | None,
        sqlstate: str | None,
        outcome: str,
        hint: str | None = None,
        detail: str | None = None,
        failing: Failing | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.failing = failing
        self.detail = detail  # the server's DETAIL: may hold a row's data, so it is for the terminal alone
        self.target = target
        self.file = file
        self.line = line
        self.sqlstate = sqlstate
        self.outcome = outcome  # what was and what was not done, one sentence

    def noting(self, text: str) -> MigrationFailed:
        """The same failure with one more line."""
        return MigrationFailed(
            f"{self.message}\n{text}",
            target=self.target,
            file=self.file,
            line=self.line,
            sqlstate=self.sqlstate,
            outcome=self.outcome,
            hint=self.hint,
            detail=self.detail,
            failing=self.failing,
        )


class Unreachable(LockstepError):
    """No connection to the target, or it was lost. The only error that tasks retry."""

    exit_code = ExitCode.UNREACHABLE
    more = "connection-issues"

    def __init__(self, *, target: str, reason: str, hint: str | None = None) -> None:
        super().__init__(f"{target}: {reason}", hint=hint or "lockstep config")
        self.target = target
        self.reason = reason

    def noting(self, outcome: str, *, hint: str | None = None) -> Unreachable:
        """The same loss with what was and what was not done."""
        return Unreachable(target=self.target, reason=f"{self.reason}. {outcome}", hint=hint or self.hint)


class BackupFailed(LockstepError):
    """No complete backup was made; nothing of it is left in the bucket's listing of backups."""

    exit_code = ExitCode.REFUSED
    more = "backup-failed"

    def __init__(self, message: str, *, target: str, retryable: bool = False, hint: str | None = None) -> None:
        super().__init__(f"{target}: {message}", hint=hint)
        self.target = target
        self.retryable = retryable


class RehearsalRefused(LockstepError):
    """The rehearsal did not pass, so nothing ran on the environment."""

    exit_code = ExitCode.REFUSED
    more = "rehearsal"

    def __init__(
        self,
        *,
        target: str,
        environment: str,
        outcome: str,  # failed, could not verify
        problems: str,  # in words, with what to do instead
        more: int = 0,  # problems that are not among them
        found: bool = True,  # False: nothing could be tried at all
    ) -> None:
        self.outcome = outcome
        ending = f"\n  and {more} more" if more else ""
        super().__init__(
            f"{target}: the rehearsal {outcome}, so nothing was applied\n{problems}{ending}",
            hint=(f"lockstep rehearse {environment} tries it again on the newest backup; " if found else "")
            + f'to go on all the same: lockstep sync {environment} --override "reason"',
        )


class RevertNotProven(LockstepError):
    """A revert that no trial has proven, or that loses something. Nothing ran."""

    exit_code = ExitCode.REFUSED
    more = "rollback"

    def __init__(self, *, target: str, reasons: tuple[str, ...], command: str, hint: str | None = None) -> None:
        lines = [f"{target}: this revert is not proven, so nothing was reverted:", *(f"  {one}" for one in reasons)]
        super().__init__(
            "\n".join(lines),
            hint=f"{hint or 'mend the down script, or restore a backup'}; "
            f'to revert all the same: {command} --override "reason"',
        )
        self.target = target
        self.reasons = reasons


class RestoreFailed(LockstepError):
    """A backup was not restored, or the copy is not what was backed up. `outcome` says what is left of the try."""

    exit_code = ExitCode.REFUSED
    more = "restore-failed"

    def __init__(
        self, reason: str, *, target: str, outcome: str = "", hint: str | None = None, killed: bool = False
    ) -> None:
        super().__init__(f"{target}: {reason}" + (f"\n{outcome}" if outcome else ""), hint=hint)
        self.reason = reason
        self.killed = killed  # the program was ended from outside: that says nothing about the backup
        self.target = target
        self.outcome = outcome

    def leaving(self, outcome: str, *, hint: str | None = None) -> RestoreFailed:
        """The same failure with what is left of the try."""
        return RestoreFailed(self.reason, target=self.target, outcome=outcome, hint=hint or self.hint)


class RestoreRefused(LockstepError):
    """This restore would lose something, or could not put back all that there was. Nothing was done."""

    exit_code = ExitCode.REFUSED
    more = "restore-failed"

    def __init__(self, reasons: tuple[str, ...], *, target: str, hint: str | None = None) -> None:
        text = reasons[0] if len(reasons) == 1 else "".join(f"\n  {reason}" for reason in reasons)
        super().__init__(f"{target}: nothing was restored: {text}", hint=hint)
        self.reasons = reasons
        self.target = target


class ProgramMissing(UsageError):
    """A PostgreSQL client program of the server's own major is needed and was not found."""

    more = "backup-failed"

    def __init__(self, *, program: str, major: int, looked_in: tuple[str, ...]) -> None:
        super().__init__(
            f"{program} {major} is needed (the server's own major version) and was not found in: "
            + ", ".join(looked_in or ("PATH",)),
            hint=f"apt-get install {_package(program)}-{major}, or name the folder that has it: "
            '[backup] programs = "/path/to/bin"',
        )
        self.program = program
        self.major = major


def _package(program: str) -> str:
    return "postgresql" if program in {"postgres", "initdb"} else "postgresql-client"


class IdentityMissing(UsageError):
    """A backup is encrypted, and none of the age secret keys at hand decrypts it."""

    more = "backup-failed"

    def __init__(self, *, what: str, encrypted_to: tuple[str, ...], have: tuple[str, ...]) -> None:
        keys = f"the keys at hand are those of {', '.join(have)}" if have else "no age identity was given"
        super().__init__(
            f"{what} is encrypted to {', '.join(encrypted_to)}, and {keys}. Nothing was read.",
            hint='set identity = "${AGE_IDENTITY_FILE}" under [rehearsal] in lockstep.toml, and the variable to the file '
            "with the secret key",
        )
        self.what = what
        self.encrypted_to = encrypted_to
        self.have = have


class ServerStartError(LockstepError):
    """A throw-away server did not come up. The message ends with the tail of its log."""

    def __init__(self, *, program: str, log: str) -> None:
        super().__init__(f"{program} did not start:\n{log}")
        self.program = program


class BackupDamaged(LockstepError):
    """What is stored is not what was backed up. Never used for a restore; `what` is the object's key."""

    exit_code = ExitCode.REFUSED
    hint = "lockstep backups list"
    more = "backup-failed"

    def __init__(self, problem: str, *, what: str) -> None:
        super().__init__(f"{what}: {problem}")
        self.problem = problem
        self.what = what


class BucketError(LockstepError):
    """The bucket of the backups refused a request or did not answer. `retryable`: it may work a moment later;
    `denied`: the credentials are good and lack a right."""

    exit_code = ExitCode.UNREACHABLE
    more = "backup-failed"

    def __init__(
        self, cause: str, *, bucket: str, retryable: bool = False, denied: bool = False, hint: str | None = None
    ) -> None:
        super().__init__(f"{bucket}: {cause}", hint=hint)
        self.cause = cause
        self.denied = denied
        self.bucket = bucket  # s3://NAME, never with credentials
        self.retryable = retryable
