"""How each tool wants its files: functions that write the migrations `first` to `last` into a folder.

All get the same SQL. A number more may be added to a folder that is there already.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from bench.migrations import Kind

Layout = Callable[[Path, int, int, Kind], None]
Parts = Callable[[int, Kind], dict[str, str]]  # number -> file name in migrations/ -> text


def named(number: int) -> str:
    """A migration's name, where a tool lets one choose."""
    return f"{number:06d}_change_{number}"


def in_migrations(parts: Parts, **settings: str) -> Layout:
    """Files in migrations/, each by itself; `settings` are other files of the folder, by name (`__` for a dot)."""

    def lay_out(folder: Path, first: int, last: int, kind: Kind) -> None:
        files = _folder(folder / "migrations")
        for name, text in settings.items():
            (folder / name.replace("__", ".")).write_text(text)
        for number in range(first, last + 1):
            for name, text in parts(number, kind).items():
                (files / name).write_text(text)

    return lay_out


def up_alone(number: int, kind: Kind) -> dict[str, str]:
    return {f"{named(number)}.sql": kind.up(number)}


def one_file(number: int, kind: Kind) -> dict[str, str]:
    """An SQL file, and its way back beside it: lockstep's."""
    found = up_alone(number, kind)
    if kind.down is not None:
        found[f"{named(number)}.down.sql"] = kind.down(number)
    return found


def dbmate(number: int, kind: Kind) -> dict[str, str]:
    """Both ways in one file."""
    return {f"{named(number)}.sql": f"-- migrate:up\n{kind.up(number)}-- migrate:down\n{_down(number, kind)}"}


def sqlx(number: int, kind: Kind) -> dict[str, str]:
    """One file, or two where there is a way back; a folder may not hold both forms."""
    if kind.down is None:
        return up_alone(number, kind)
    return {f"{named(number)}.up.sql": kind.up(number), f"{named(number)}.down.sql": kind.down(number)}


def yoyo(number: int, kind: Kind) -> dict[str, str]:
    found = up_alone(number, kind)
    if kind.down is not None:
        found[f"{named(number)}.rollback.sql"] = kind.down(number)
    return found


def dblift(number: int, kind: Kind) -> dict[str, str]:
    """Names as Flyway's."""
    found = {f"V{number}__change_{number}.sql": kind.up(number)}
    if kind.down is not None:
        found[f"U{number}__change_{number}.sql"] = kind.down(number)
    return found


def node_pg_migrate(number: int, kind: Kind) -> dict[str, str]:
    text = f"-- Up Migration\n{kind.up(number)}\n-- Down Migration\n{_down(number, kind)}"
    return {f"{number:06d}_change-{number}.sql": text}


def liquibase(number: int, kind: Kind) -> dict[str, str]:
    """Formatted SQL: a change set per file, which is sent as it is."""
    back = "".join(f"--rollback {line}\n" for line in _down(number, kind).splitlines())
    head = f"--liquibase formatted sql\n--changeset bench:{number} splitStatements:false\n"
    return {f"{named(number)}.sql": f"{head}{kind.up(number)}{back}"}


def alembic(folder: Path, first: int, last: int, kind: Kind) -> None:
    """Revisions of raw SQL, each after the one before."""
    versions = _folder(folder / "migrations/versions")
    (folder / "alembic.ini").write_text(_ALEMBIC_INI)
    (folder / "migrations/env.py").write_text(_ALEMBIC_ENV)
    for number in range(first, last + 1):
        before = f'"{number - 1:06d}"' if number > 1 else "None"
        (versions / f"{named(number)}.py").write_text(
            f'from alembic import op\n\nrevision = "{number:06d}"\ndown_revision = {before}\n\n\n'
            f'def upgrade():\n    op.execute("""\n{kind.up(number)}""")\n\n\n'
            f'def downgrade():\n    op.execute("""\n{_down(number, kind)}""")\n'
        )


def graphile_migrate(folder: Path, first: int, last: int, kind: Kind) -> None:
    """Committed migrations, each with a hash over the one before and itself; nothing in the current one."""
    committed = _folder(folder / "migrations/committed")
    (folder / ".gmrc").write_text("{}\n")
    (folder / "migrations/current.sql").write_text("")
    before = ""
    if first > 1:
        found = re.search("^--! Hash: (.+)$", (committed / f"{first - 1:06d}.sql").read_text(), re.MULTILINE)
        assert found is not None
        before = found[1]
    for number in range(first, last + 1):
        body = kind.up(number).strip() + "\n"
        digest = "sha1:" + hashlib.sha1(f"{before}\n{body}".lstrip().encode()).hexdigest()
        (committed / f"{number:06d}.sql").write_text(f"--! Previous: {before or '-'}\n--! Hash: {digest}\n\n{body}")
        before = digest


def sqitch(folder: Path, first: int, last: int, kind: Kind) -> None:
    """A plan, and a script per change; no verify scripts."""
    deploy, revert = _folder(folder / "deploy"), _folder(folder / "revert")
    plan = folder / "sqitch.plan"
    if not plan.exists():
        plan.write_text("%syntax-version=1.0.0\n%project=bench\n\n")
        (folder / "sqitch.conf").write_text(_SQITCH_CONF)
    with plan.open("a") as lines:
        for number in range(first, last + 1):
            name = named(number)
            lines.write(f"{name} 2026-01-01T00:00:00Z Bench <bench@example.com> # change {number}\n")
            (deploy / f"{name}.sql").write_text(f"BEGIN;\n{kind.up(number)}COMMIT;\n")
            if kind.down is not None:
                (revert / f"{name}.sql").write_text(f"BEGIN;\n{kind.down(number)}COMMIT;\n")


def _down(number: int, kind: Kind) -> str:
    return kind.down(number) if kind.down is not None else ""


def _folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


_ALEMBIC_INI = "[alembic]\nscript_location = migrations\npath_separator = os\n"
_ALEMBIC_ENV = """\
import os

from alembic import context
from sqlalchemy import create_engine, pool

url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:", 1)
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"""
_SQITCH_CONF = """\
[core]
    engine = pg
[user]
    name = Bench
    email = bench@example.com
"""
