"""`lockstep.toml`, `.env` and the environment, read and checked. Reads files and variables, connects to nothing."""

from __future__ import annotations

import io
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from lockstep.core import privacy
from lockstep.core.duration import parse_duration
from lockstep.core.kinds import ABSENT_ROLES, KINDS, MAY_DIFFER
from lockstep.core.nearest import meant
from lockstep.core.size import parse_bytes
from lockstep.errors import ConfigError
from lockstep.settings import (
    FILE,
    OCCASIONS,
    VARIABLE,
    AlertsTable,
    ApprovalTable,
    BackupTable,
    CheckTable,
    DisplayTable,
    DriftTable,
    Environment,
    EnvironmentTable,
    FileShape,
    HealthIgnoreTable,
    HealthTable,
    IgnoreTable,
    KeepTable,
    PrivacyTable,
    ProjectTable,
    RehearsalTable,
    ReportTable,
    Secret,
    Settings,
    Value,
)

__all__ = [
    "AlertsTable",
    "ApprovalTable",
    "BackupTable",
    "CheckTable",
    "DisplayTable",
    "DriftTable",
    "Environment",
    "EnvironmentTable",
    "FileShape",
    "HealthIgnoreTable",
    "HealthTable",
    "IgnoreTable",
    "KeepTable",
    "PrivacyTable",
    "ProjectTable",
    "RehearsalTable",
    "ReportTable",
    "Secret",
    "Settings",
    "Value",
    "find_file",
    "load_settings",
    "pass_on",
]


def load_settings(start: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the project that `start` (a folder, or a lockstep.toml) belongs to, looking upwards.

    Raises ConfigError with file and line: not found, not TOML, an unknown key, a literal password, a cycle in `after`,
    a protected environment without [backup].
    """
    file = find_file(start)
    text = _text(file)
    data = _toml(text, file)
    lines = _lines(text)
    shape = _shape(data, lines)
    variables, origins = _variables(file.parent, os.environ if environ is None else environ)
    environments = _environments(shape, lines)
    _check_rehearsal(shape.rehearsal, lines)
    _check_drift(shape, lines)
    _check_gates(shape, lines)
    if re.search(r"[%\x00-\x1f]", shape.project.ledger_schema):
        raise ConfigError(
            "project.ledger_schema holds a character that no schema should have",
            where=f"{FILE}:{lines.get('project.ledger_schema', 1)}",
        )
    _forbid_literal_secrets(shape, lines)
    return Settings(
        folder=file.parent,
        project=shape.project,
        environments=environments,
        backup=shape.backup,
        rehearsal=shape.rehearsal,
        drift=shape.drift,
        health=shape.health,
        approval=shape.approval,
        alerts=shape.alerts,
        display=shape.display,
        report=shape.report,
        privacy=shape.privacy,
        variables=variables,
        origins=origins,
        lines=lines,
        given=frozenset(lines),
    )


#: Variables of .env that libraries read from the environment themselves: S3 credentials, libpq, Prefect.
_PASSED_ON = ("AWS_", "PG", "PREFECT_", "SSL_CERT_")


def pass_on(settings: Settings) -> None:
    """Make this process the project's: may its messages quote, and the variables of .env that libraries read themselves.

    A variable that is set in the environment stays.
    """
    privacy.quote(settings.privacy.excerpts)
    for name, value in settings.variables.items():
        if name.startswith(_PASSED_ON) and value:
            os.environ.setdefault(name, value)


def find_file(start: Path) -> Path:
    """Return the nearest lockstep.toml at or above `start`. Raises ConfigError when there is none."""
    start = start.resolve()
    if start.is_file():
        return start
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    raise ConfigError(
        f"there is no {FILE} here or in a folder above",
        where=str(start),
        hint="go to your project's folder, use --project DIR, or start one: lockstep new-project DIR",
    )


#: Bytes of lockstep.toml and of .env; a larger one is something else.
LARGEST = 1024 * 1024
#: A key of many parts: tomllib takes the square of their number, and no table of ours is so deep.
_DEEP_KEY = re.compile(r"(?:[\w\"'-]{1,64}[ \t]{0,8}\.[ \t]{0,8}){64}")


def _toml(text: str, file: Path) -> dict[str, object]:
    try:
        if _DEEP_KEY.search(text):
            raise RecursionError
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(error), where=str(file)) from None
    except RecursionError:
        raise ConfigError(
            "is nested too deeply", where=str(file), hint="docs/reference/config.md has its form"
        ) from None
    except ValueError:  # of int(): thousands of digits
        raise ConfigError("holds a number that is too long", where=str(file)) from None


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            raw = opened.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise ConfigError(f"is larger than {LARGEST // 1024} KiB", where=str(file), hint=f"ls -l {file}")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(file), hint=f"ls -l {file}") from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8", where=f"{file.name}:{line}", hint="save the file as UTF-8") from None


def _variables(folder: Path, environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    from_file: dict[str, str] = {}
    if (file := folder / ".env").is_file():
        from dotenv import dotenv_values

        text = io.StringIO(_text(file))
        from_file = {k: v for k, v in dotenv_values(stream=text, interpolate=False).items() if v is not None}
    origins = dict.fromkeys(from_file, ".env") | dict.fromkeys(environ, "environment")
    return {**from_file, **environ}, origins


def _lines(text: str) -> dict[str, int]:
    """Dotted key -> line, good enough for messages: tables, keys, and the keys of inline tables on their line.

    The tables of an array are `name[0]`, `name[1]`, …, as msgspec calls them.
    """
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if match := re.match(r"\[\[([^\[\]]+)\]\]", stripped):
            name = re.sub(r"[\"'\s]", "", match[1])
            place = sum(key.startswith(f"{name}[") and key.endswith("]") for key in found)
            table = f"{name}[{place}]"
            found[table] = number
        elif match := re.match(r"\[([^\[\]]+)\]", stripped):
            table = re.sub(r"[\"'\s]", "", match[1])
            found[table] = number
        elif match := re.match(r"([A-Za-z0-9_.\"-]+)\s*=\s*(.*)", stripped):
            key = f"{table}.{match[1]}".replace('"', "").lstrip(".")
            found[key] = number
            if match[2].startswith("{"):
                for inner in re.findall(r"([A-Za-z0-9_-]+)\s*=", match[2]):
                    found[f"{key}.{inner}"] = number
    return found


def _shape(data: dict[str, object], lines: Mapping[str, int]) -> FileShape:
    try:
        return msgspec.convert(data, FileShape)
    except msgspec.ValidationError as error:
        message = str(error)
        path = match[1].lstrip(".") if (match := re.search(r"at `\$([^`]*)`", message)) else ""
        problem = message.split(" - at ")[0]
        unknown = match[1] if (match := re.search(r"unknown field `([^`]*)`", message)) else None
        path = _named(path, data, unknown)
        key = f"{path}.{unknown}".lstrip(".") if unknown else path
        if unknown:
            problem = (
                f"unknown key '{key}'{meant(unknown, _KNOWN)}" if len(key) < _LONG else f"unknown key '{key[:_LONG]}…'"
            )
        elif key:
            problem = f"{key}: {problem}"
        line = lines.get(key)
        raise ConfigError(
            problem,
            where=f"{FILE}:{line}" if line else FILE,
            hint="docs/reference/config.md lists every key",
        ) from None


_LONG = 200  # characters of a key; one that is longer resembles none of ours


def _named(path: str, data: dict[str, object], unknown: str | None) -> str:
    """msgspec writes `environments[...]` for a key of a mapping: find which one it is."""
    if "[...]" not in path:
        return path
    environments = data.get("environments")
    if isinstance(environments, dict):
        for name, table in environments.items():
            if not isinstance(table, dict):
                continue
            try:
                msgspec.convert(table, EnvironmentTable)
            except msgspec.ValidationError:
                return path.replace("environments[...]", f"environments.{name}").replace("[...]", "")
    return path


_KNOWN = sorted(
    {
        *FileShape.__struct_fields__,
        *ProjectTable.__struct_fields__,
        *EnvironmentTable.__struct_fields__,
        *BackupTable.__struct_fields__,
        *KeepTable.__struct_fields__,
        *RehearsalTable.__struct_fields__,
        *DriftTable.__struct_fields__,
        *IgnoreTable.__struct_fields__,
        *HealthTable.__struct_fields__,
        *ApprovalTable.__struct_fields__,
        *AlertsTable.__struct_fields__,
        *DisplayTable.__struct_fields__,
        *PrivacyTable.__struct_fields__,
        *CheckTable.__struct_fields__,
        *HealthIgnoreTable.__struct_fields__,
    }
)


def _environments(shape: FileShape, lines: Mapping[str, int]) -> dict[str, Environment]:
    def where(key: str) -> str:
        return f"{FILE}:{lines[key]}" if key in lines else FILE

    made: dict[str, Environment] = {}
    for name, table in shape.environments.items():
        for before in table.after:
            if before not in shape.environments:
                raise ConfigError(
                    f"environments.{name}.after names '{before}', which is no environment"
                    f"{meant(before, shape.environments)}",
                    where=where(f"environments.{name}.after"),
                )
        protected = table.protected
        if protected is None:
            protected = bool(table.after) or name.lower() in {"prod", "production"}
        if protected and shape.backup is None:
            raise ConfigError(
                f"environment '{name}' is protected, but there is no [backup]: production is never changed without one",
                where=where(f"environments.{name}"),
                hint=f'add [backup] with bucket = "s3://…", or say protected = false for {name}',
            )
        made[name] = Environment(
            name=name,
            table=table,
            protected=protected,
            lock_timeout_ms=_ms(table.lock_timeout, where, f"environments.{name}.lock_timeout") or 0,
            max_blocking_ms=_ms(table.max_blocking, where, f"environments.{name}.max_blocking"),
            max_rewrite=_bytes(table.max_rewrite, where, f"environments.{name}.max_rewrite"),
            statement_timeout_ms=_ms(table.statement_timeout, where, f"environments.{name}.statement_timeout"),
            retry_budget_ms=_ms(table.retry_budget, where, f"environments.{name}.retry_budget") or 0,
            stops_on_drift=(table.on_drift or shape.drift.on_drift or ("stop" if protected else "warn")) == "stop",
        )
    return _promotion_order(made, where)


def _check_rehearsal(table: RehearsalTable, lines: Mapping[str, int]) -> None:
    def where(key: str) -> str:
        return f"{FILE}:{lines[key]}" if key in lines else FILE

    for name in ("max_blocking", "time_budget", "max_backup_age"):
        _ms(getattr(table, name), where, f"rehearsal.{name}")
    _bytes(table.max_rewrite, where, "rehearsal.max_rewrite")
    if table.server is not None and not VARIABLE.match(table.server.strip()) and "://" not in table.server:
        raise ConfigError(
            "rehearsal.server is no postgresql:// URL",
            where=where("rehearsal.server"),
            hint='server = "${REHEARSAL_SERVER_URL}", and the URL in .env',
        )


def _check_gates(shape: FileShape, lines: Mapping[str, int]) -> None:
    """[approval], [alerts] and each environment's own check."""

    def where(key: str) -> str:
        return f"{FILE}:{lines[key]}" if key in lines else FILE

    _ms(shape.approval.expires, where, "approval.expires")
    _ms(shape.alerts.repeat_after, where, "alerts.repeat_after")
    for occasion in shape.alerts.on:
        if occasion not in OCCASIONS:
            raise ConfigError(
                f"alerts.on: there is no '{occasion}' (there are: {', '.join(OCCASIONS)}){meant(occasion, OCCASIONS)}",
                where=where("alerts.on"),
            )
    for name, table in shape.environments.items():
        if (check := table.check) is None:
            continue
        key = f"environments.{name}.check"
        if (check.url is None) == (not check.command):
            raise ConfigError(
                f"{key} needs a url or a command, one of the two",
                where=where(key),
                hint='check = { url = "https://app.example/health", within = "2min" }',
            )
        if check.url is not None and not re.match(r"https?://|\$\{", check.url):
            raise ConfigError(f"{key}.url is no http address", where=where(f"{key}.url"))
        literal = re.match(r"\w+://[^/@]*:([^/]*)@", check.url or "")
        if literal and not VARIABLE.search(literal[1]):
            raise ConfigError(
                f"{key}.url holds a password. This file goes into version control, where a password stays for ever",
                where=where(f"{key}.url"),
                hint='move the address to .env and write url = "${HEALTH_URL}"; then change that password',
            )
        _ms(check.within, where, f"{key}.within")


def _check_drift(shape: FileShape, lines: Mapping[str, int]) -> None:
    for place, rule in enumerate(shape.drift.ignore):
        problem = None
        if not rule.reason.strip():
            problem = "a rule of drift.ignore needs a reason: whoever reads it next wants to know"
        elif rule.kind is None and rule.object is None and rule.schema is None:
            problem = "a rule of drift.ignore names no kind, object or schema, so it would hide everything"
        elif rule.kind is not None and rule.kind not in KINDS:
            problem = (
                f"drift.ignore: there is no kind '{rule.kind}' (there are: {', '.join(KINDS)}){meant(rule.kind, KINDS)}"
            )
        elif unknown := [name for name in rule.environments if name not in shape.environments]:
            problem = f"drift.ignore names the environment '{unknown[0]}', which is none{meant(unknown[0], shape.environments)}"
        if problem:
            line = lines.get(f"drift.ignore[{place}]")
            raise ConfigError(problem, where=f"{FILE}:{line}" if line else FILE)
    for kind in shape.drift.parity_ignores:
        if kind not in KINDS and kind not in MAY_DIFFER:
            line = lines.get("drift.parity_ignores", 1)
            raise ConfigError(
                f"drift.parity_ignores: there is no kind '{kind}' (there are: {', '.join((*KINDS, ABSENT_ROLES))})"
                f"{meant(kind, (*KINDS, ABSENT_ROLES))}",
                where=f"{FILE}:{line}",
            )


def _ms(text: str | None, where: object, key: str) -> int | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        assert callable(where)
        raise ConfigError(f"{key}: {error}", where=str(where(key))) from None


def _bytes(text: str | None, where: object, key: str) -> int | None:
    if text is None:
        return None
    try:
        return parse_bytes(text)
    except ValueError as error:
        assert callable(where)
        raise ConfigError(f"{key}: {error}", where=str(where(key))) from None


def _promotion_order(made: dict[str, Environment], where: object) -> dict[str, Environment]:
    from graphlib import CycleError, TopologicalSorter

    sorter = TopologicalSorter({name: e.table.after for name, e in made.items()})
    try:
        ordered = list(sorter.static_order())
    except CycleError as error:
        assert callable(where)
        circle = " → ".join(reversed(error.args[1]))
        first = error.args[1][0]
        raise ConfigError(
            f"'after' goes in a circle: {circle}", where=str(where(f"environments.{first}.after"))
        ) from None
    return {name: made[name] for name in ordered}


def _forbid_literal_secrets(shape: FileShape, lines: Mapping[str, int]) -> None:
    from lockstep.core.address import parse_address

    urls = [
        (f"environments.{name}.url", table.url, f"{name.upper()}_DATABASE_URL")
        for name, table in shape.environments.items()
    ]
    urls.append(("rehearsal.server", shape.rehearsal.server, "REHEARSAL_SERVER_URL"))
    for key, url, variable in urls:
        if url is None or VARIABLE.fullmatch(url.strip()):
            continue
        try:
            secret = parse_address(url).password
        except ValueError:
            continue  # said when it is used
        if secret and not VARIABLE.search(secret):
            raise ConfigError(
                f"{key} holds a password. This file goes into version control, where a password stays for ever",
                where=f"{FILE}:{lines.get(key, 1)}",
                hint=f'move the URL to .env and write {key.rsplit(".", 1)[1]} = "${{{variable}}}"; then change that password',
            )
