"""A plan applied by the engine itself with a tracing watch, on a test's own database: what the tests of the trace share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from lockstep.core.rehearsal.trace import FileTrace, StatementTrace
from lockstep.errors import MigrationFailed
from lockstep.postgres.connection import Target
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.tracing import TracingWatch, install_reasons
from lockstep.service.applying import open_apply
from lockstep.service.run import new_run_id
from tests.project import Project


def trace(project: Project, environment: str = "dev", *, reasons: bool = True) -> list[FileTrace]:
    """Apply all that is pending; the trace of each file. The last is of the one that failed, if one did."""
    with psycopg.connect(project.urls[environment], autocommit=True) as admin:
        assert install_reasons(admin) is reasons
    watches: list[TracingWatch] = []

    def watch(target: Target, run_id: str) -> TracingWatch:
        watches.append(TracingWatch(target, run_id))
        return watches[-1]

    found, run = [], RunInfo(run_id=new_run_id())
    with open_apply(
        project.settings(), project.environment(environment), project.files(), run, watch=watch
    ) as applying:
        for step in applying.plan.steps:
            watches[0].begin_file(applying.work.session, step.name, step.migration.up)
            try:
                applying.apply(step)
            except MigrationFailed:
                found.append(watches[0].end_file(applying.work.session))
                break
            found.append(watches[0].end_file(applying.work.session))
    return found


def locks(one: StatementTrace, *, new: bool = False) -> dict[str, str]:
    """Modes by relation, of what existed before, or of what is new."""
    return {lock.relation: lock.mode.value for lock in one.locks if lock.existed is not new}


@contextmanager
def in_the_way(url: str, statement: str) -> Iterator[None]:
    """Another session's transaction, which ends shortly after somebody waits for it: what waits can be seen at leisure."""
    done = threading.Event()
    with psycopg.connect(url) as blocker:
        blocker.execute(statement.encode())
        pid = blocker.info.backend_pid

        def give_way() -> None:
            with psycopg.connect(url, autocommit=True) as watcher:
                while not done.wait(0.02):
                    if watcher.execute(_WAITS, (pid,)).fetchone():
                        done.wait(0.1)
                        break
            blocker.rollback()

        thread = threading.Thread(target=give_way)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


_WAITS = "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid)) AND datname = current_database()"
