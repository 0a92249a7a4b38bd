"""Everything that can go wrong, as one tree; what a person is told, and the exit code that goes with it.

    LockstepError                       1
    ├── UsageError                      2   the command's words, or the project folder
    │   ├── ConfigError                 2   lockstep.toml, .env or a variable, with file and key
    │   ├── Unauthorized                2   Prefect's server wants other credentials, or any
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
    ├── Cancelled                       6   somebody cancelled a query of Lockstep's own
    ├── Unhealthy                       4   a health check found something critical
    ├── Unreachable                     8   no connection, or it was lost
    ├── BackupFailed                    7   no proven backup, so nothing ran
    ├── RehearsalRefused                7   the rehearsal failed, or could not verify the plan: nothing ran
    ├── NotApproved                     7   rejected, expired or withdrawn: nothing ran
    ├── ApprovalRefused                 7   an answer that does not count; what it answered stands as it was
    ├── RunWaits                        5   another run waits for approval on this target
    ├── CheckFailed                     6   applied and verified, and then the application did not work
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

from lockstep.errors.backups import (
    BackupDamaged,
    BackupFailed,
    BucketError,
    RestoreFailed,
    RestoreRefused,
    ServerStartError,
)
from lockstep.errors.base import ExitCode, LockstepError
from lockstep.errors.gates import ApprovalRefused, CheckFailed, NotApproved, RehearsalRefused, RevertNotProven, RunWaits
from lockstep.errors.ledger import (
    ChangedOtherwise,
    DriftFound,
    Held,
    LedgerError,
    LedgerFiltered,
    LedgerForeign,
    LedgerMissing,
    LedgerNotOwned,
    PlanRefused,
    StalePlan,
)
from lockstep.errors.project import (
    ConfigError,
    IdentityMissing,
    MigrationFileError,
    ProgramMissing,
    Unauthorized,
    UsageError,
)
from lockstep.errors.running import Cancelled, Failing, LockHeld, MigrationFailed, Unhealthy, Unreachable

__all__ = [
    "ApprovalRefused",
    "BackupDamaged",
    "BackupFailed",
    "BucketError",
    "Cancelled",
    "ChangedOtherwise",
    "CheckFailed",
    "ConfigError",
    "DriftFound",
    "ExitCode",
    "Failing",
    "Held",
    "IdentityMissing",
    "LedgerError",
    "LedgerFiltered",
    "LedgerForeign",
    "LedgerMissing",
    "LedgerNotOwned",
    "LockHeld",
    "LockstepError",
    "MigrationFailed",
    "MigrationFileError",
    "NotApproved",
    "PlanRefused",
    "ProgramMissing",
    "RehearsalRefused",
    "RestoreFailed",
    "RestoreRefused",
    "RevertNotProven",
    "RunWaits",
    "ServerStartError",
    "StalePlan",
    "Unauthorized",
    "Unhealthy",
    "Unreachable",
    "UsageError",
]
