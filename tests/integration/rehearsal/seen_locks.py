"""The forms run by the real engine and traced, each on a copy of its own; and the table that is made of what was seen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql

from lockstep.core.rehearsal.trace import FileTrace, StatementTrace, TracedLock
from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.rehearsal.lock_forms import FORMS, Form, base
from tests.integration.rehearsal.tracing import in_the_way, trace
from tests.project import Project

TEMPLATE = "forms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What was seen of one form."""

    form: Form
    file: FileTrace
    seen: StatementTrace


def prepare(server: ThrowawayServer, scale: int = 1, *, extra: str = "") -> None:
    """Make the database that all forms get a copy of: schema, rows, a ledger. `extra` is more SQL for it."""
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    with psycopg.connect(server.url(TEMPLATE), autocommit=True) as inside:
        inside.execute((base(scale) + extra).encode())
        inside.execute("VACUUM ANALYZE")
        inside.execute("CHECKPOINT")
    with _project(server.url(TEMPLATE)) as project:
        assert project.run("init").code == 0
        assert project.run("baseline", "dev", "--version", "none").code == 0


@contextmanager
def _project(url: str) -> Iterator[Project]:
    with tempfile.TemporaryDirectory() as folder:
        project = Project(folder=Path(folder), urls={"dev": url})
        (project.folder / "migrations").mkdir()
        project.configure()
        yield project


def forms(server: ThrowawayServer) -> tuple[Form, ...]:
    """The forms that this server knows."""
    with psycopg.connect(server.url()) as admin:
        return tuple(form for form in FORMS if form.since <= admin.info.server_version // 10_000)


def sight(server: ThrowawayServer, form: Form) -> Sighting:
    """Run one form on a copy, and trace it."""
    name = "form"
    with psycopg.connect(server.url(), autocommit=True) as admin:
        strategy = " STRATEGY file_copy" if admin.info.server_version >= 150000 else ""
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}" + strategy).format(sql.Identifier(name), sql.Identifier(TEMPLATE))
        )
    try:
        with _project(server.url(name)) as project:
            if form.before:
                project.query(form.before)
            head = "-- lockstep: transaction=none\n" if form.outside else ""
            project.write("001-form.sql", f"{head}{form.statement};")
            with in_the_way(server.url(name), form.blocker) if form.blocker else nullcontext():
                (file,) = trace(project)
        (seen,) = file.statements
        return Sighting(form=form, file=file, seen=replace(seen, locks=_steady(form, seen.locks)))
    finally:
        with psycopg.connect(server.url(), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _steady(form: Form, locks: tuple[TracedLock, ...]) -> tuple[TracedLock, ...]:
    """Locks with those that a sample sees by chance as they are when nobody sees them."""
    found = []
    for lock in locks:
        if bare(lock.relation) not in form.momentary:
            found.append(lock)
        elif (steady := form.momentary[bare(lock.relation)][1]) is not None:
            found.append(replace(lock, mode=steady))
    return tuple(found)


def bare(name: str) -> str:
    return name.removeprefix("public.")


# -- the table ---------------------------------------------------------------------------------------------------------

HEADER = (
    "| statement | locks that others feel | other locks | rewritten | read whole | says who |\n"
    "| --- | --- | --- | --- | --- | --- |\n"
)


def row(sighting: Sighting) -> str:
    """One row of the table, without sizes and times: it is the same on a large database."""
    form, seen = sighting.form, sighting.seen
    old = [lock for lock in seen.locks if lock.existed]
    felt = [f"{lock.mode.value} `{bare(lock.relation)}`" for lock in old if lock.mode.strong]
    felt += [f"{strong.value} `{name}`, for a moment" for name, (strong, _) in form.momentary.items()]
    other = [
        f"{lock.mode.value} `{bare(lock.relation)}`"
        for lock in sorted(old, key=lambda one: (-one.mode.rank, one.relation))
        if not lock.mode.strong
    ]
    rewritten = [f"`{bare(one.relation)}`{': ' + one.reason if one.reason else ''}" for one in seen.rewrites]
    rewritten += [f"`{bare(one)}` emptied" for one in seen.emptied]
    scans = [f"`{bare(one.relation)}`{f' × {one.scans}' if one.scans > 1 else ''}" for one in seen.scans]
    statement = f"`{form.statement}`" + (f" after `{form.before}`" if form.before else "")
    cells = (statement, *("<br>".join(cell) for cell in (felt, other, sorted(rewritten), scans)), form.source)
    return "| " + " | ".join(cells).replace("|  |", "| |").replace("|  |", "| |") + " |\n"
