"""The locks that the text of a statement promises are those that a real server takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from lockstep.core.locking.known import Known
from lockstep.core.locking.lock_modes import Mode
from lockstep.core.locking.locks import RelationLock, script_locks
from lockstep.core.statements import parse_script
from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.lock_catalogue import ALONE, BASE, CASES, Case

HELD = """
SELECT relation::oid::bigint, mode FROM pg_locks
WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
#: Relations that were there before, by OID: a dropped or renamed one must still be called by its old name.
PRESENT = """
SELECT c.oid::bigint, c.relname, c.relkind::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'public'
"""
MODES = {mode.value.replace(" ", "").lower() + "lock": mode for mode in Mode}


@pytest.fixture(scope="module")
def template(server: ThrowawayServer) -> Iterator[str]:
    """A database with the catalogue's schema, to be cloned."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE lock_template")
        with psycopg.connect(server.url("lock_template"), autocommit=True) as inside:
            inside.execute(BASE.encode())
        yield "lock_template"
        connection.execute("DROP DATABASE lock_template")


@pytest.fixture(scope="module")
def base(server: ThrowawayServer, template: str) -> Iterator[psycopg.Connection]:
    """A session in a copy of it that no test changes: every statement is rolled back."""
    name = "lock_base"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        with psycopg.connect(server.url(name), autocommit=True) as session:
            yield session
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def foretold(case: Case, *, knowing: bool) -> tuple[RelationLock, ...]:
    """What the text says; `knowing`: the files before it, which made the schema, were read, too."""
    known = Known()
    if knowing:
        for text in (BASE, case.before):
            script_locks(parse_script(text, "000-base.sql"), known)
    (found,) = script_locks(parse_script(case.statement, "001-case.sql", transactional=False), known)
    return found.locks


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.statement)
def test_a_statement_takes_the_locks_that_its_text_promises(
    case: Case, base: psycopg.Connection, server: ThrowawayServer, template: str, new_database: Callable[[], str]
) -> None:
    if base.info.server_version // 10000 < case.since:
        return  # the statement is younger than this server
    if not case.before:
        held = locks_of(base, case)
    else:
        with psycopg.connect(new_database(), autocommit=True) as session:
            session.execute(BASE.encode())
            session.execute(case.before.encode())
            held = locks_of(session, case)
    compare(case, held)


def locks_of(session: psycopg.Connection, case: Case) -> dict[str, Mode]:
    """Run the statement in a transaction that is rolled back; the strongest lock on each relation that was there."""
    present = {oid: (name, kind) for oid, name, kind in session.execute(PRESENT.encode())}
    named = {one.relation for one in foretold(case, knowing=False)}
    session.execute("BEGIN")
    try:
        session.execute(case.statement.encode())
        held: dict[str, Mode] = {}
        for oid, word in session.execute(HELD.encode()):
            name, kind = present.get(oid, ("", ""))
            mode = MODES[word.lower()]
            # Indexes come along with their tables; only those that the statement is about count.
            if name and (kind not in "iI" or name in named) and (name not in held or held[name].rank < mode.rank):
                held[name] = mode
        return held
    finally:
        session.execute("ROLLBACK")


def compare(case: Case, held: dict[str, Mode]) -> None:
    # The files before were read: every relation is named, with the very mode.
    exact = {one.relation.removeprefix("public."): one.mode for one in foretold(case, knowing=True) if one.named}
    exact = {name: mode for name, mode in exact.items() if name not in case.absent}
    assert exact == {name: mode for name, mode in held.items() if name not in case.reached}
    # The file stands alone: what cannot be named is at least there in words, with the mode.
    alone = foretold(case, knowing=False)
    named = {one.relation.removeprefix("public.") for one in alone if one.named}
    spoken = {one.mode for one in alone if not one.named}
    assert {mode for name, mode in held.items() if name not in named | case.reached} <= spoken


WAITED_FOR = """
SELECT l.mode FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
WHERE a.application_name = 'works' AND a.datname = current_database() AND l.relation = to_regclass(%s) AND NOT l.granted
"""


@pytest.mark.parametrize(("statement", "before", "table"), ALONE, ids=[statement for statement, _, _ in ALONE])
def test_a_statement_outside_of_a_transaction_waits_for_the_lock_that_its_text_promises(
    statement: str, before: str, table: str, database: str
) -> None:
    known = Known()
    for text in (BASE, before):
        script_locks(parse_script(text, "000-base.sql"), known)
    (found,) = script_locks(parse_script(statement, "001-case.sql", transactional=False), known)
    with (
        psycopg.connect(database, autocommit=True) as watcher,
        psycopg.connect(database) as blocker,
        psycopg.connect(database, autocommit=True, application_name="works") as worker,
    ):
        watcher.execute(f"{BASE} {before}".encode())
        blocker.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.Identifier(table)))
        work = threading.Thread(target=worker.execute, args=(statement.encode(),))
        work.start()
        try:
            seen = wait_for_lock(watcher, table)
        finally:
            blocker.rollback()
            work.join()
    assert {one.relation: one.mode for one in found.locks}[table] is seen


def wait_for_lock(watcher: psycopg.Connection, table: str) -> Mode:
    for _ in range(200):
        if row := watcher.execute(WAITED_FOR.encode(), (table,)).fetchone():
            return MODES[row[0].lower()]
        time.sleep(0.05)
    raise AssertionError("the statement never waited")
