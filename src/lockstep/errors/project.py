"""What is wrong with the words of a command, the configuration, this machine, or a file."""

from __future__ import annotations

from lockstep.errors.base import ExitCode, LockstepError


class UsageError(LockstepError):
    """The command cannot be carried out as it was written."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """Configuration is wrong; `where` is the file (with line where known) or the variable."""

    more = "connection-issues"

    def __init__(self, message: str, *, where: str, hint: str | None = None) -> None:
        super().__init__(f"{where}: {message}", hint=hint)
        self.where = where


class Unauthorized(UsageError):
    """Prefect's server wants other credentials, or any."""


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
