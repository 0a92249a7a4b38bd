"""What configuration is, once read: `Settings` and its parts. Every value knows where it came from.

Secrets live in `Secret`, whose text never shows by accident. A value that names an unset variable fails when it is
needed, not before: status of dev must work where prod's URL is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec

from lockstep.core.counting import counted
from lockstep.core.duration import parse_duration
from lockstep.core.kinds import MAY_DIFFER
from lockstep.errors import ConfigError, UsageError

FILE = "lockstep.toml"
NO_ENVIRONMENT = 'write one into lockstep.toml: [environments.dev] with url = "${DATABASE_URL}"'


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
    backup_role: str | None = None
    search_path: str | None = None
    after: list[str] = []
    protected: bool | None = None
    lock_timeout: str = "1s"
    max_blocking: str | None = None
    max_rewrite: str | None = None
    statement_timeout: str | None = None
    retry_budget: str = "2min"
    on_drift: Literal["stop", "warn"] | None = None
    check: CheckTable | None = None
    settings: dict[str, str] = {}


class CheckTable(_Table):
    url: str | None = None
    command: list[str] = []
    within: str = "2min"


class ApprovalTable(_Table):
    expires: str = "24h"
    two_person: bool = False
    approvers: str | None = None  # database role whose members may answer

    @property
    def expires_ms(self) -> int:
        """How long a run waits for its approval."""
        return parse_duration(self.expires)


#: What an alert can be about: `on` under [alerts].
OCCASIONS = ("failed", "crashed", "waiting", "not approved", "drift", "unhealthy", "late", "recovered")


class AlertsTable(_Table):
    urls: list[str] = []
    on: list[str] = msgspec.field(default_factory=lambda: list(OCCASIONS))
    heartbeat_url: str | None = None
    repeat_after: str = "24h"


class KeepTable(_Table):
    last: int = 10
    days: int = 30


class BackupTable(_Table):
    bucket: str
    endpoint_url: str | None = None
    region: str | None = None
    encrypt_to: list[str] = []
    server_side_encryption: str | None = None
    kms_key: str | None = None
    tags: dict[str, str] = {}
    object_lock: str | None = None
    keep: KeepTable = msgspec.field(default_factory=KeepTable)
    exclude_schemas: list[str] = []
    jobs: int = 1
    programs: str | None = None


class RehearsalTable(_Table):
    max_blocking: str = "2s"
    max_rewrite: str = "1GB"
    require_proven_revert: bool = False
    time_budget: str = "10min"
    max_backup_age: str = "1h"
    identity: str | None = None
    server: str | None = None
    derive_statement_timeout: bool = False

    @property
    def time_budget_ms(self) -> int:
        """How long a rehearsal may take, before it works on less than the whole copy."""
        return parse_duration(self.time_budget)

    @property
    def max_backup_age_ms(self) -> int:
        """How old the backup that was rehearsed may be when its plan is applied."""
        return parse_duration(self.max_backup_age)


class IgnoreTable(_Table):
    reason: str
    kind: str | None = None
    object: str | None = None
    schema: str | None = None
    environments: list[str] = []


class DriftTable(_Table):
    on_drift: Literal["stop", "warn"] | None = None
    ignore: list[IgnoreTable] = []
    parity_ignores: list[str] = msgspec.field(default_factory=lambda: list(MAY_DIFFER))


class HealthIgnoreTable(_Table):
    check: str
    reason: str
    object: str = "*"


class HealthTable(_Table):
    timeout: str = "5s"
    key_used: tuple[float, float] = (70, 90)
    key_days_left: tuple[float, float] = (180, 30)
    transaction: tuple[str, str] = ("10min", "2h")
    idle_in_transaction: tuple[str, str] = ("1min", "30min")
    blocked: tuple[str, str] = ("5s", "1min")
    prepared: tuple[str, str] = ("10min", "2h")
    wraparound: tuple[float, float] = (40, 75)
    freeze_overdue: float = 150
    connections: tuple[float, float] = (80, 95)
    replica_lag: tuple[str, str] = ("1min", "15min")
    replica_behind: tuple[str, str] = ("1GB", "16GB")
    slot_retained: tuple[str, str] = ("5GB", "50GB")
    dead_rows: float = 20
    changed_rows: float = 30
    small_table: str = "10MB"
    growth: tuple[float, float] = (20, 100)
    growth_size: str = "1GB"
    unused_index: str = "30d"
    backup: tuple[str, str] = ("26h", "3d")
    verified_backup: tuple[str, str] = ("9d", "30d")
    ignore: list[HealthIgnoreTable] = []


class DisplayTable(_Table):
    timezone: str | None = None  # of times for people, on the command line


class ReportTable(_Table):
    html: str | None = None


class PrivacyTable(_Table):
    excerpts: bool = True


class FileShape(_Table):
    project: ProjectTable = msgspec.field(default_factory=ProjectTable)
    environments: dict[str, EnvironmentTable] = {}
    backup: BackupTable | None = None
    rehearsal: RehearsalTable = msgspec.field(default_factory=RehearsalTable)
    drift: DriftTable = msgspec.field(default_factory=DriftTable)
    health: HealthTable = msgspec.field(default_factory=HealthTable)
    approval: ApprovalTable = msgspec.field(default_factory=ApprovalTable)
    alerts: AlertsTable = msgspec.field(default_factory=AlertsTable)
    display: DisplayTable = msgspec.field(default_factory=DisplayTable)
    report: ReportTable = msgspec.field(default_factory=ReportTable)
    privacy: PrivacyTable = msgspec.field(default_factory=PrivacyTable)


# -- the settings -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One environment as configured. Texts may still hold `${VAR}`; `Settings` resolves them."""

    name: str
    table: EnvironmentTable
    protected: bool  # backup before anything runs
    lock_timeout_ms: int
    max_blocking_ms: int | None  # its own; bounds the tries of a run, and a rehearsal's verdict
    max_rewrite: int | None  # its own, in bytes; for a rehearsal's verdict
    statement_timeout_ms: int | None
    retry_budget_ms: int
    stops_on_drift: bool  # a deploy is refused when the schema was changed by hand; else it is only told
    every_schema: bool = False  # of a copy: fingerprints are of all schemas, not of the configured ones alone

    def effective(self, field: str) -> str | None:
        """What holds where the file says nothing, and follows from something else; None: nothing does."""
        if field == "on_drift":
            return "stop" if self.stops_on_drift else "warn"
        if field == "max_blocking":
            return "none (2s while it waits for a lock itself)"
        return None


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
    rehearsal: RehearsalTable
    drift: DriftTable
    health: HealthTable
    approval: ApprovalTable
    alerts: AlertsTable
    display: DisplayTable
    report: ReportTable
    privacy: PrivacyTable
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
            from lockstep.core.nearest import question

            known = ", ".join(self.environments) or "none"
            # Whoever gives an address instead of a name gives its password too.
            shown = "of that address" if "://" in name or "=" in name else f"'{name}'"
            raise UsageError(
                f"there is no environment {shown} in {FILE} (there are: {known})",
                hint=question(name, self.environments) if self.environments else NO_ENVIRONMENT,
            ) from None

    def chosen(self, names: tuple[str, ...] | list[str]) -> tuple[Environment, ...]:
        """Return the named environments, or all of them, in promotion order."""
        if not self.environments:
            raise ConfigError("there is no environment yet", where=FILE, hint=NO_ENVIRONMENT)
        wanted = {self.environment(name).name for name in names} or set(self.environments)
        return tuple(e for e in self.environments.values() if e.name in wanted)

    def missing_variables(self, environment: Environment) -> tuple[str, ...]:
        """Return the variables that an environment's address needs and that are not set."""
        return tuple(name for name in VARIABLE.findall(environment.table.url or "") if name not in self.variables)

    def url(self, environment: Environment) -> Secret | None:
        """The environment's URL with variables filled in; None leaves it to libpq's PG* variables.

        Raises ConfigError naming the variable that is not set.
        """
        if environment.table.url is None:
            return None
        return Secret(self._resolved(environment.table.url, f"environments.{environment.name}.url"))

    def rehearsal_server(self) -> Secret | None:
        """The URL of the server that is rehearsed on, with variables filled in; None: one that is made for it.

        Raises ConfigError naming the variable that is not set.
        """
        if self.rehearsal.server is None:
            return None
        return Secret(self._resolved(self.rehearsal.server, "rehearsal.server"))

    def setting_values(self, environment: Environment) -> dict[str, str]:
        """The environment's own settings with variables filled in: secrets, for SQL's `lockstep.*`."""
        prefix = f"environments.{environment.name}.settings"
        return {n: self._resolved(t, f"{prefix}.{n}") for n, t in environment.table.settings.items()}

    def resolved(self, text: str, key: str) -> str:
        """Fill in the variables of one text. Raises ConfigError naming an unset variable."""
        return self._resolved(text, key)

    @property
    def report_place(self) -> str | None:
        """Where the page goes: a file below the project's folder, or s3://BUCKET/KEY; None: nobody wants it.

        Raises ConfigError naming the variable that is not set.
        """
        return self.resolved(self.report.html, "report.html") or None if self.report.html else None

    @property
    def backup_place(self) -> str:
        """Where backups go, for messages."""
        return self.resolved(self.backup.bucket, "backup.bucket") if self.backup else "[backup], which is not there"

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

        return VARIABLE.sub(fill, text)

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
                elif value is None and (effective := environment.effective(name.removeprefix(f"{prefix}."))):
                    shown.append(Value(key=name, shown=effective, origin="default"))
                else:
                    shown.append(self._value(name, value))
        if self.backup is not None:
            for name, value in _flat("backup", self.backup):
                shown.append(self._value(name, value))
        for table in ("rehearsal", "approval", "alerts", "health", "report", "privacy", "display"):
            for name, value in _flat(table, getattr(self, table)):
                shown.append(self._value(name, value))
        for name, value in _flat("drift", self.drift):
            shown.append(self._value(name, value))
        return shown

    def _value(self, key: str, value: object) -> Value:
        origin = self.where(key) if key in self.given else "default"
        if isinstance(value, str):
            value = _AGE_SECRET.sub("AGE-SECRET-KEY-***", value)
        if not isinstance(value, str):
            text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            return Value(key=key, shown=text, origin=origin)
        names = VARIABLE.findall(value)
        for name in names:
            origin += f" ← ${name} ({self.origins.get(name, 'not set')})"
        if missing := [n for n in names if n not in self.variables]:
            return Value(key=key, shown=f"(${missing[0]} is not set)", origin=origin)
        if _secret(key):
            return Value(key=key, shown=_redacted(key, VARIABLE.sub(self._fill, value)), origin=origin)
        if key.endswith(".check.url"):
            return Value(key=key, shown=shown_url(VARIABLE.sub(self._fill, value)), origin=origin)
        return Value(key=key, shown=_USERINFO.sub("***@", VARIABLE.sub(self._fill, value)), origin=origin)

    def _fill(self, match: re.Match[str]) -> str:
        return self.variables.get(match[1], match[0])


_USERINFO = re.compile(r"(?<=://)[^/\s]*@")  # credentials in any other URL
_AGE_SECRET = re.compile(r"AGE-SECRET-KEY-\w+", re.IGNORECASE)  # written where a public key belongs
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


_WEBHOOKS = ("alerts.urls", "alerts.heartbeat_url")  # secrets as a whole: whoever has one can post there


def _secret(key: str) -> bool:
    """Whether a value is shown only in part."""
    return _address(key) or ".settings." in key or key in _WEBHOOKS


def _address(key: str) -> bool:
    return (key.endswith(".url") and not key.endswith(".check.url")) or key == "rehearsal.server"


def shown_url(url: str) -> str:
    """Return a web address without credentials and without what follows `?`, where tokens stand."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(not a URL)"
    return urlunsplit((parts.scheme, host, parts.path, "***" if parts.query else "", ""))


def _redacted(key: str, text: str) -> str:
    if key == "alerts.urls":
        count = len(text.split(", "))
        return f"({counted(count, 'place')}: lockstep alerts list)"
    if not _address(key):
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
        elif isinstance(value, list) and value and isinstance(value[0], msgspec.Struct):
            for place, item in enumerate(value):
                words = [f"{field} {text}" for field, text in msgspec.structs.asdict(item).items() if text]
                found.append((f"{prefix}.{name}[{place}]", ", ".join(words)))
        elif isinstance(value, list | tuple):
            found.append((f"{prefix}.{name}", ", ".join(map(str, value)) if value else None))
        else:
            found.append((f"{prefix}.{name}", value))
    return found
