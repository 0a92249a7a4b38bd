"""The project folder: migrations read from disk, and targets made from settings. The only reader of migration files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from lockstep.config import Environment, Settings
from lockstep.core.address import Address, parse_address
from lockstep.core.checksum import checksum, decode, foreign_checksums
from lockstep.core.directives import parse_directives
from lockstep.core.filename import Part, unprintable, version_and_part, why_not
from lockstep.core.migration import Folder, Migration, SqlFile, order
from lockstep.errors import ConfigError, MigrationFileError, UsageError
from lockstep.postgres.connection import Target

if TYPE_CHECKING:
    from lockstep.core.branching import Snapshot

REPEATABLE = "repeatable"
LARGEST = 512 * 1024 * 1024  # bytes of one file


def read_folder(settings: Settings, broken: list[MigrationFileError] | None = None) -> Folder:
    """Read all migrations of the project.

    Raises MigrationFileError (unreadable, not UTF-8, bad directive) and UsageError when the folder is not there.
    With `broken` such files are left out and their errors collected there, for `validate`.
    Duplicates, stray names and downs without an up are recorded in the Folder: the planner refuses them.
    """
    base = settings.migrations_folder
    shown = settings.project.migrations
    if not _is_folder(base):
        raise UsageError(f"the migrations folder {shown} does not exist", hint="lockstep new NAME makes the first one")
    numbers: dict[int, None] = {}  # in the files' order
    ups: dict[int, list[SqlFile]] = {}
    downs: dict[int, list[SqlFile]] = {}
    verifies: dict[int, list[SqlFile]] = {}
    of = {Part.UP: ups, Part.DOWN: downs, Part.VERIFY: verifies}
    stray: list[tuple[str, str]] = []
    for entry in _entries(base):
        name = entry.name
        if (problem := _no_file(entry, settings)) is not None:
            stray.append((name, problem))
            continue
        place = version_and_part(name)
        if place is None:
            stray.append((name, why_not(name)))
            continue
        if file := _read(entry.path, name, broken, versioned=True):
            version, part = place
            numbers[version] = None
            of[part].setdefault(version, []).append(file)
    migrations: list[Migration] = []
    duplicates: list[tuple[str, ...]] = []
    orphans: list[str] = []
    for version in numbers:
        same = ups.get(version), downs.get(version), verifies.get(version)
        duplicates += [tuple(f.name for f in files) for files in same if files and len(files) > 1]
        up, down, verify = (files[0] if files else None for files in same)
        if up is not None:
            migrations.append(Migration(up=up, version=version, down=down, verify=verify))
        else:
            orphans += [f.name for f in (down, verify) if f]
    migrations += _repeatables(base / REPEATABLE, broken, stray, settings)
    return Folder(
        path=shown,
        migrations=order(migrations),
        duplicates=tuple(duplicates),
        stray=tuple(stray),
        orphans=tuple(orphans),
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that no file system takes
        return False


def snapshot(settings: Settings) -> Snapshot:
    """Return the numbered files as they lie on disk, committed or not. One that cannot be read has no text."""
    from lockstep.core.branching import Snapshot, numbered_file  # late: a status does not need it

    found = []
    for entry in _entries(settings.migrations_folder):
        try:
            raw = _bytes(entry.path) if _no_file(entry, settings) is None else None
        except (OSError, MigrationFileError):
            raw = None  # a finding of read_folder's, which says why
        if file := numbered_file(entry.name, raw):
            found.append(file)
    return Snapshot(files=tuple(found))


def is_looked_at(name: str) -> bool:
    """Whether an entry of that name in the migrations folder counts as a file of it."""
    return name.lower().endswith(".sql") and not name.startswith(".")


def _entries(base: Path) -> list[os.DirEntry[str]]:
    """What has the name of a migration file, by name; folders and links that lead nowhere are among them."""
    with os.scandir(base) as found:
        return [e for e in sorted(found, key=attrgetter("name")) if is_looked_at(e.name)]


def _no_file(entry: os.DirEntry[str], settings: Settings) -> str | None:
    """Why an entry is not read as a file; None: it is. What is no file could wait for ever, or never end.

    Nor is a link read that leads out of the project: errors quote lines, and whose these are nobody would expect.
    """
    if not entry.is_symlink():
        if entry.is_file(follow_symlinks=False):
            return None
        return "it is a folder, not a file" if entry.is_dir(follow_symlinks=False) else _NO_FILE
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):  # nowhere, or in a circle
        return "it is a link that leads nowhere"
    if not any(target.is_relative_to(folder.resolve()) for folder in (settings.folder, settings.migrations_folder)):
        return "it is a link that leads out of the project"
    if target.is_dir():
        return "it is a link to a folder, not to a file"
    return None if target.is_file() else _NO_FILE


_NO_FILE = "it is no file that can be read: a named pipe, a socket or a device"


def _repeatables(
    folder: Path, broken: list[MigrationFileError] | None, stray: list[tuple[str, str]], settings: Settings
) -> list[Migration]:
    if not folder.is_dir():
        return []
    files = []
    for entry in _entries(folder):
        if (problem := _no_file(entry, settings) or unprintable(entry.name)) is not None:
            stray.append((f"{REPEATABLE}/{entry.name}", problem))
        else:
            files.append(Path(entry.path))
    plain = [f for f in files if not f.name.lower().endswith((".down.sql", ".verify.sql"))]
    made = []
    for path in plain:
        verify = path.with_name(f"{path.stem}.verify.sql")
        up = _read(str(path), f"{REPEATABLE}/{path.name}", broken)
        check = _read(str(verify), f"{REPEATABLE}/{verify.name}", broken) if verify in files else None
        if up is not None:
            made.append(Migration(up=up, version=None, verify=check))
    return made


def _read(path: str, name: str, broken: list[MigrationFileError] | None, *, versioned: bool = False) -> SqlFile | None:
    try:
        text = decode(_bytes(path), name)
        directives = parse_directives(text, name)
        if versioned and directives.uses:
            raise MigrationFileError(
                "uses=… is for repeatable files: a versioned one runs once, whatever the setting is later",
                file=name,
                hint=f"move it to {REPEATABLE}/, or leave the directive away: current_setting('lockstep.…') works as well",
            )
        return SqlFile(name=name, text=text, checksum=checksum(text), directives=directives)
    except OSError as error:
        problem = MigrationFileError(
            f"cannot be read: {error.strerror}",
            file=name,
            hint=f"check its permissions: ls -l {Path(path).name}",
        )
    except MigrationFileError as error:
        problem = error
    if broken is None:
        raise problem
    broken.append(problem)
    return None


def _bytes(path: str) -> bytes:
    """What a file holds, at a third of the cost of Path.read_bytes: a folder holds thousands."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        parts = []
        size = 0
        while part := os.read(descriptor, 65536):
            parts.append(part)
            if (size := size + len(part)) > LARGEST:
                raise MigrationFileError(
                    f"is larger than {LARGEST // 2**20} MiB, and is not read",
                    file=Path(path).name,
                    hint="data of that size is loaded by a program of its own, or in several files",
                )
        return b"".join(parts)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognition:
    """How an older ledger's rows are recognised: by file name."""

    known: dict[str, tuple[str, str | None, frozenset[str]]]  # checksum, content digest, others' checksums


def recognition(settings: Settings, folder: Folder) -> Recognition:
    """Return, per versioned file, its checksum, its content digest and what older tools would have recorded."""
    base = settings.migrations_folder
    return Recognition(
        known={
            m.name: (m.up.checksum, m.up.content_digest, foreign_checksums(_bytes(str(base / m.name))))
            for m in folder.versioned
        }
    )


def target_of(settings: Settings, environment: Environment, *, with_settings: bool = True) -> Target:
    """Return the target of one environment. Raises ConfigError for an unset variable or an unreadable URL.

    Without `with_settings` the values of `settings = {…}` are left out: reading the ledger does not need them.
    """
    url = settings.url(environment)
    key = f"environments.{environment.name}.url"
    if url is None:
        address = Address()
    else:
        try:
            address = parse_address(url.reveal())
        except ValueError as error:
            raise ConfigError(str(error), where=f"{settings.where(key)} ({key})", hint="lockstep config") from None
    return Target(
        environment=environment.name,
        address=address,
        ledger_schema=settings.project.ledger_schema,
        schemas=tuple(settings.project.schemas),
        every_schema=environment.every_schema,
        role=environment.table.role,
        backup_role=environment.table.backup_role or environment.table.role,
        reader=settings.project.ledger_reader,
        search_path=environment.table.search_path,
        settings=settings.setting_values(environment) if with_settings else {},
        lock_timeout_ms=environment.lock_timeout_ms,
        max_blocking_ms=environment.max_blocking_ms,
        statement_timeout_ms=environment.statement_timeout_ms,
        retry_budget_ms=environment.retry_budget_ms,
    )


def destination(settings: Settings, text: str) -> Target:
    """Return the target that `text` means: an environment, a postgresql:// URL, or ${NAME} for a variable with one.

    Raises UsageError; no message repeats a URL.
    """
    if text in settings.environments:
        return target_of(settings, settings.environment(text), with_settings=False)
    if "://" not in text and "=" not in text and not text.startswith("$"):
        known = ", ".join(settings.environments) or "none"
        raise UsageError(f"'{text}' is neither an environment (there are: {known}) nor a postgresql:// URL")
    try:
        address = parse_address(settings.resolved(text, "--into"))
    except ValueError as error:
        raise UsageError(f"--into: {error}") from None
    return Target(
        environment="copy",
        address=address,
        ledger_schema=settings.project.ledger_schema,
        schemas=tuple(settings.project.schemas),
    )
