"""Every kind of object by hand: created, altered and dropped, the change set names exactly it; undone, nothing is left.

On PostgreSQL 17 (the tests' own server) and 15. The token must change whenever the digest does: a schema that is
wrongly held to be unchanged is the one mistake that nobody would notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lockstep.core.address import parse_address
from lockstep.core.changes import Action, exact_changes
from lockstep.core.fingerprint import Fingerprint
from lockstep.core.kinds import KINDS
from lockstep.postgres.audit import Event
from lockstep.postgres.connection import Session, Target, open_session
from lockstep.postgres.fingerprint import Live, read_live, token_sql
from lockstep.postgres.ledger_setup import create_ledger
from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.object_kinds import CASES, GROUND, INVISIBLE, READER, WRITER, Case

PG15 = Path("/usr/lib/postgresql/15/bin")
_SIGNS = {Action.CREATED: "+", Action.ALTERED: "~", Action.DROPPED: "-"}


@dataclass(slots=True, kw_only=True)
class Ground:
    """A database with what the cases stand on."""

    session: Session
    admin: psycopg.Connection
    name: str
    last: Live | None = None

    @property
    def major(self) -> int:
        return self.session.facts.version // 10000

    def look(self) -> Live:
        """Read the schema, unless the token says that it is still the one that was read last."""
        if self.last is None or self.token() != self.last.token:
            self.last = read_live(self.session)
        return self.last

    def token(self) -> str:
        row = self.session.connection.execute(token_sql(self.session)).fetchone()
        assert row is not None
        return str(row[0])

    def run(self, text: str) -> None:
        statements = text.split(";") if "VACUUM" in text or "CONCURRENTLY" in text else [text]
        for statement in statements:
            self.admin.execute(statement.encode())


@contextmanager
def ground_on(server: ThrowawayServer) -> Iterator[Ground]:
    name = "fingerprint_kinds"
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("CREATE ROLE {}; CREATE ROLE {}").format(sql.Identifier(READER), sql.Identifier(WRITER)))
    with ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(server.url(name), autocommit=True))
        connection.add_notice_handler(lambda _: None)
        connection.execute(GROUND.encode())
        target = Target(environment="dev", address=parse_address(server.url(name)), schemas=("app", "late", "public"))
        session = open_session(target, run_id="kinds")
        stack.callback(session.close)
        create_ledger(session, recognise={}, reader=None, event=Event(event="init", run_id="kinds"))
        yield Ground(session=session, admin=connection, name=name)
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        admin.execute(sql.SQL("DROP ROLE {}, {}").format(sql.Identifier(READER), sql.Identifier(WRITER)))


@pytest.fixture(scope="module")
def ground17(server: ThrowawayServer) -> Iterator[Ground]:
    with ground_on(server) as ground:
        yield ground


@pytest.fixture(scope="module")
def ground15() -> Iterator[Ground]:
    with ThrowawayServer(PG15) as server, ground_on(server) as ground:
        yield ground


@pytest.fixture(params=["ground17", pytest.param("ground15", marks=pytest.mark.postgresql15)])
def ground(request: pytest.FixtureRequest) -> Ground:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Ground)
    return found


def names(before: Fingerprint, after: Fingerprint) -> list[str]:
    return sorted(_SIGNS[change.action] + change.label for change in exact_changes(before, after))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_change_by_hand_names_exactly_its_objects_and_undone_leaves_nothing(ground: Ground, case: Case) -> None:
    if ground.major < case.since:
        return  # this server does not know the statement
    seen = [first := ground.look()]
    for text, expected in case.steps[:-1]:
        before = seen[-1]
        ground.run(text)
        seen.append(after := ground.look())
        assert names(before.fingerprint, after.fingerprint) == sorted(expected.splitlines()), text
        if expected:
            assert after.token not in {one.token for one in seen[:-1]}, f"the token did not see: {text}"
    ground.run(case.steps[-1][0])
    last = ground.look()
    assert names(first.fingerprint, last.fingerprint) == []
    assert last.fingerprint.digest == first.fingerprint.digest
    assert last.token != seen[-1].token, "the token did not see the end"


@pytest.mark.parametrize(("text", "token_stays"), [one[1:] for one in INVISIBLE], ids=[one[0] for one in INVISIBLE])
def test_what_is_no_part_of_the_schema_does_not_show(ground: Ground, text: str, token_stays: bool) -> None:
    before = ground.look()
    with psycopg.connect(ground.admin.info.dsn, password=ground.admin.info.password, autocommit=True) as connection:
        connection.execute(text.replace("{database}", ground.name).encode())
        after = read_live(ground.session)
        assert ground.token() == after.token  # to read changes nothing
    assert names(before.fingerprint, after.fingerprint) == []
    assert after.fingerprint.digest == before.fingerprint.digest
    if token_stays:
        assert after.token == before.token


def test_neither_the_ledger_nor_what_extensions_bring_is_part_of_it(ground: Ground) -> None:
    ground.run(
        "CREATE EXTENSION IF NOT EXISTS hstore SCHEMA public; COMMENT ON TABLE public.schema_migrations IS 'mine'"
    )
    found = {one.label for one in ground.look().fingerprint.objects.values()}
    ground.run("DROP EXTENSION hstore; COMMENT ON TABLE public.schema_migrations IS NULL")
    assert {label for label in found if "hstore" in label} == {"extension hstore", "version of extension hstore"}
    assert not [label for label in found if "schema_migrations" in label]


def test_every_kind_that_a_rule_can_name_has_a_case() -> None:
    known = sorted(KINDS, key=len, reverse=True)
    seen = set()
    for case in CASES:
        for _, expected in case.steps:
            for line in expected.splitlines():
                text = line[1:].replace("version of extension", "extension version")
                seen.add(next(kind for kind in known if text.startswith(kind)))
    assert seen == set(KINDS)
