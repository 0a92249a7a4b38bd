"""`lockstep.toml`, `.env` and the environment, turned into `Settings`; every value knows where it came from.

Reads files and variables, connects to nothing. Secrets live in `Secret`, whose text never shows by accident. A value
that names an unset variable fails when it is needed, not before: status of dev must work where prod's URL is unknown.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import msgspec

from lockstep.core.duration import parse_duration
from lockstep.errors import ConfigError, UsageError

FILE = "lockstep.toml"


class Secret:
    """A text that must not be printed. `reveal` is the only way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


# -- the file's shape: what msgspec checks ------------------------------------------------------------------------


class _Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class ProjectTable(_Table):
    migrations: str = "migrations"
    contacts: list[str] = []
    runbook: str | None = None
    ledger_schema: str = "public"
    schemas: list[str] = msgspec.field(default_factory=lambda: ["public"])
    ledger_reader: str | None = None


class EnvironmentTable(_Table):
    url: str | None = None
    role: str | None = None
    search_path: str | None = None
    after: list[str] = []
    protected: bool | None = None
    lock_timeout: str = "1s"
    statement_timeout: str | None = None
    retry_budget: str = "2min"
    settings: dict[str, str] = {}


class BackupTable(_Table):
    bucket: str
    endpoint_url: str | None = None
    region: str | None = None
    encrypt_to: list[str] = []
    exclude_schemas: list[str] = []
    programs: str | None = None


class FileShape(_Table):
    project: ProjectTable = msgspec.field(default_factory=ProjectTable)
    environments: dict[str, EnvironmentTable] = {}
    backup: BackupTable | None = None


# -- the settings -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One environment as configured. Texts may still hold `${VAR}`; `Settings` resolves them."""

    name: str
    table: EnvironmentTable
    protected: bool  # backup before anything runs
    lock_timeout_ms: int
    statement_timeout_ms: int | None
    retry_budget_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One configured value, for `lockstep config`."""

    key: str  # dotted, as in the file
    shown: str  # redacted
    origin: str  # "default", "lockstep.toml", "lockstep.toml ← $VAR (.env)", …


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All configuration of one project folder."""

    folder: Path  # where lockstep.toml stands
    project: ProjectTable
    environments: Mapping[str, Environment]  # in promotion order
    backup: BackupTable | None
    variables: Mapping[str, str] = field(repr=False)  # environment over .env
    origins: Mapping[str, str] = field(repr=False)  # variable -> "environment" or ".env"
    lines: Mapping[str, int] = field(repr=False)  # dotted key -> line in lockstep.toml
    given: frozenset[str] = field(repr=False)  # dotted keys that the file sets

    @property
    def migrations_folder(self) -> Path:
        return self.folder / self.project.migrations

    def environment(self, name: str) -> Environment:
        """Return one environment. Raises UsageError that lists what there is."""
        try:
            return self.environments[name]
        except KeyError:
            known = ", ".join(self.environments) or "none"
            close = get_close_matches(name, self.environments, n=1)
            raise UsageError(
                f"there is no environment '{name}' in {FILE} (there are: {known})",
                hint=f"did you mean '{close[0]}'?" if close else None,
            ) from None

    def chosen(self, names: tuple[str, ...] | list[str]) -> tuple[Environment, ...]:
        """Return the named environments, or all of them, in promotion order."""
        wanted = {self.environment(name).name for name in names} or set(self.environments)
        return tuple(e for e in self.environments.values() if e.name in wanted)

    def url(self, environment: Environment) -> Secret | None:
        """The environment's URL with variables filled in; None leaves it to libpq's PG* variables.

        Raises ConfigError naming the variable that is not set.
        """
        if environment.table.url is None:
            return None
        return Secret(self._resolved(environment.table.url, f"environments.{environment.name}.url"))

    def setting_values(self, environment: Environment) -> dict[str, str]:
        """The environment's own settings with variables filled in: secrets, for SQL's `lockstep.*`."""
        prefix = f"environments.{environment.name}.settings"
        return {n: self._resolved(t, f"{prefix}.{n}") for n, t in environment.table.settings.items()}

    def resolved(self, text: str, key: str) -> str:
        """Fill in the variables of one text. Raises ConfigError naming an unset variable."""
        return self._resolved(text, key)

    def where(self, key: str) -> str:
        """File and line of a key, for messages."""
        line = self.lines.get(key)
        return f"{FILE}:{line}" if line else FILE

    def _resolved(self, text: str, key: str) -> str:
        def fill(match: re.Match[str]) -> str:
            name = match[1]
            if name not in self.variables:
                raise ConfigError(
                    f"{key} needs the variable {name}, which is not set",
                    where=self.where(key),
                    hint=f"add a line {name}=… to {self.folder / '.env'}, or export it",
                )
            return self.variables[name]

        return _VARIABLE.sub(fill, text)

    def values(self) -> list[Value]:
        """Every value with its origin, redacted, in the file's order."""
        shown: list[Value] = []
        for name, value in _flat("project", self.project):
            shown.append(self._value(name, value))
        for environment in self.environments.values():
            prefix = f"environments.{environment.name}"
            for name, value in _flat(prefix, environment.table):
                if name == f"{prefix}.protected":
                    origin = "lockstep.toml" if name in self.given else "default"
                    shown.append(Value(key=name, shown=str(environment.protected).lower(), origin=origin))
                else:
                    shown.append(self._value(name, value))
        if self.backup is not None:
            for name, value in _flat("backup", self.backup):
                shown.append(self._value(name, value))
        return shown

    def _value(self, key: str, value: object) -> Value:
        origin = self.where(key) if key in self.given else "default"
        if not isinstance(value, str):
            return Value(key=key, shown="" if value is None else str(value), origin=origin)
        names = _VARIABLE.findall(value)
        for name in names:
            origin += f" ← ${name} ({self.origins.get(name, 'not set')})"
        if missing := [n for n in names if n not in self.variables]:
            return Value(key=key, shown=f"(${missing[0]} is not set)", origin=origin)
        if key.endswith(".url") or ".settings." in key:
            return Value(key=key, shown=_redacted(key, _VARIABLE.sub(self._fill, value)), origin=origin)
        return Value(key=key, shown=_VARIABLE.sub(self._fill, value), origin=origin)

    def _fill(self, match: re.Match[str]) -> str:
        return self.variables.get(match[1], match[0])


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _redacted(key: str, text: str) -> str:
    if not key.endswith(".url"):
        return f"({len(text)} characters)"
    from lockstep.core.address import parse_address  # here, since core/address is needed nowhere else in this module

    try:
        return parse_address(text).shown
    except ValueError:
        return "(not a connection URL)"


def _flat(prefix: str, table: msgspec.Struct) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name in table.__struct_fields__:
        value = getattr(table, name)
        if isinstance(value, msgspec.Struct):
            found += _flat(f"{prefix}.{name}", value)
        elif isinstance(value, dict):
            found += [(f"{prefix}.{name}.{inner}", text) for inner, text in value.items()]
        elif isinstance(value, list):
            found.append((f"{prefix}.{name}", ", ".join(value) if value else None))
        else:
            found.append((f"{prefix}.{name}", value))
    return found


# -- reading ------------------------------------------------------------------------------------------------------


def load_settings(start: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the project that `start` (a folder, or a lockstep.toml) belongs to, looking upwards.

    Raises ConfigError with file and line: not found, not TOML, an unknown key, a literal password, a cycle in `after`,
    a protected environment without [backup].
    """
    file = find_file(start)
    text = file.read_text(encoding="utf-8")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(error), where=str(file)) from None
    lines = _lines(text)
    shape = _shape(data, lines)
    variables, origins = _variables(file.parent, os.environ if environ is None else environ)
    environments = _environments(shape, lines)
    _forbid_literal_secrets(shape, lines)
    return Settings(
        folder=file.parent,
        project=shape.project,
        environments=environments,
        backup=shape.backup,
        variables=variables,
        origins=origins,
        lines=lines,
        given=frozenset(lines),
    )


#: Variables of .env that libraries read from the environment themselves: S3 credentials, libpq, Prefect.
_PASSED_ON = ("AWS_", "PG", "PREFECT_", "SSL_CERT_")


def pass_on(settings: Settings) -> None:
    """Put the variables of .env that libraries read by themselves into this process's environment, unless set there."""
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


def _variables(folder: Path, environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    from dotenv import dotenv_values

    file = folder / ".env"
    from_file = (
        {k: v for k, v in dotenv_values(file, interpolate=False).items() if v is not None} if file.is_file() else {}
    )
    origins = dict.fromkeys(from_file, ".env") | dict.fromkeys(environ, "environment")
    return {**from_file, **environ}, origins


def _lines(text: str) -> dict[str, int]:
    """Dotted key -> line, good enough for messages: tables, keys, and the keys of inline tables on their line."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if match := re.match(r"\[([^\[\]]+)\]", stripped):
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
            close = get_close_matches(unknown, _KNOWN, n=1)
            problem = f"unknown key '{key}'" + (f"; did you mean '{close[0]}'?" if close else "")
        else:
            problem = f"{key}: {problem}" if key else problem
        line = lines.get(key)
        raise ConfigError(
            problem,
            where=f"{FILE}:{line}" if line else FILE,
            hint="docs/reference/config.md lists every key",
        ) from None


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
                    f"environments.{name}.after names '{before}', which is no environment",
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
            statement_timeout_ms=_ms(table.statement_timeout, where, f"environments.{name}.statement_timeout"),
            retry_budget_ms=_ms(table.retry_budget, where, f"environments.{name}.retry_budget") or 0,
        )
    return _promotion_order(made, where)


def _ms(text: str | None, where: object, key: str) -> int | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
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

    for name, table in shape.environments.items():
        key = f"environments.{name}.url"
        if table.url is None or _VARIABLE.fullmatch(table.url.strip()):
            continue
        try:
            secret = parse_address(table.url).password
        except ValueError:
            continue  # said when it is used
        if secret and not _VARIABLE.search(secret):
            raise ConfigError(
                f"{key} holds a password. This file goes into version control, where a password stays for ever",
                where=f"{FILE}:{lines.get(key, 1)}",
                hint=f'move the URL to .env and write url = "${{{name.upper()}_DATABASE_URL}}"; then change that password',
            )
