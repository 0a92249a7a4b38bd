"""The project folder: variables that are not set, and `.env`, which is nobody else's business. Connects to nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from lockstep.config import Environment, Settings
from lockstep.core.checkup import ok, problem, warning
from lockstep.core.setup_rules import env_file
from lockstep.errors import ConfigError, ExitCode
from lockstep.service.checkup.findings import Findings, problem_of
from lockstep.settings import FILE, VARIABLE

_GIT_PATIENCE = 5.0  # seconds


def check_configuration(findings: Findings, settings: Settings | ConfigError) -> None:
    """Say whether the configuration can be read at all."""
    if isinstance(settings, ConfigError):
        findings.add(problem_of("configuration", settings))
        return
    names = ", ".join(settings.environments) or "none"
    findings.add(ok("configuration", f"{settings.folder / FILE}, environments: {names}"))


def check_project(findings: Findings, settings: Settings, environments: Sequence[Environment]) -> None:
    """Check variables and files of the project. Reads only."""
    with findings.checking("variables"):
        _variables(findings, settings, environments)
    with findings.checking("migrations"):
        folder = settings.migrations_folder
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            findings.add(ok("migrations", str(folder)))
        else:
            text = f"the folder {settings.project.migrations} is not there, or cannot be read"
            findings.add(problem("migrations", text, "lockstep new NAME makes the first one", ExitCode.USAGE))
    with findings.checking(".env"):
        _env_file(findings, settings.folder / ".env")


#: Keys whose variable may be set on some machines only.
_ELSEWHERE = {
    "rehearsal.identity": "backups can be taken here, and not be restored",
}

#: Beside an environment's settings: keys for which an empty variable means that there is nothing to say.
_MAY_BE_EMPTY = {"backup.endpoint_url"}


def _variables(findings: Findings, settings: Settings, environments: Sequence[Environment]) -> None:
    named: dict[str, list[str]] = {}  # variable -> keys that use it
    empty_is_fine = set()
    for key, text in _texts(settings, environments):
        for name in VARIABLE.findall(text):
            named.setdefault(name, []).append(key)
            if ".settings." in key or key in _MAY_BE_EMPTY:
                empty_is_fine.add(name)
    bad = False
    for name, keys in named.items():
        value = settings.variables.get(name)
        if value is not None and (value.strip() or name in empty_is_fine):
            continue
        bad = True
        needed = f"{', '.join(f'{key} ({settings.where(key)})' for key in keys)} needs it"
        remedy = f"add a line {name}=… to {settings.folder / '.env'}, or export it"
        what = f"{name} is {'not set' if value is None else 'empty'}"
        if all(key in _ELSEWHERE for key in keys):
            findings.add(warning("variables", f"{what}: {_ELSEWHERE[keys[0]]}", remedy))
        elif value is None:
            findings.add(problem("variables", f"{what}; {needed}", remedy, ExitCode.USAGE))
        else:
            findings.add(warning("variables", f"{what}; {needed}", remedy))
    if not bad:
        said = f"all set: {', '.join(named)}" if named else "none is needed"
        findings.add(ok("variables", said))


def _texts(settings: Settings, environments: Sequence[Environment]) -> Iterator[tuple[str, str]]:
    """Every configured text that may name a variable, with its key."""
    for environment in environments:
        prefix = f"environments.{environment.name}"
        if environment.table.url is not None:
            yield f"{prefix}.url", environment.table.url
        for name, text in environment.table.settings.items():
            yield f"{prefix}.settings.{name}", text
    if (backup := settings.backup) is not None:
        for key in ("bucket", "endpoint_url", "kms_key", "programs"):
            if (value := getattr(backup, key)) is not None:
                yield f"backup.{key}", value
        for text in backup.encrypt_to:
            yield "backup.encrypt_to", text
        for name, text in backup.tags.items():
            yield f"backup.tags.{name}", text
    if settings.rehearsal.identity:
        yield "rehearsal.identity", settings.rehearsal.identity


def _env_file(findings: Findings, file: Path) -> None:
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        findings.add(ok(".env", "there is none; all comes from the environment"))
        return
    tracked = _git(file.parent, "ls-files", "--error-unmatch", "--", file.name)
    ignored = None if tracked is None else _git(file.parent, "check-ignore", "--quiet", "--", file.name)
    findings.add(*env_file(mode=mode, tracked=tracked, ignored=ignored))


def _git(folder: Path, *words: str) -> bool | None:
    """Whether git says yes (exit 0) or no (exit 1). None: it is not installed, or this is no repository."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        code = subprocess.run(
            ["git", *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_GIT_PATIENCE,
        ).returncode
    except (OSError, subprocess.SubprocessError):
        return None
    return {0: True, 1: False}.get(code)
