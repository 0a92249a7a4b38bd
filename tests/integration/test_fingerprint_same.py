"""The same schema has the same fingerprint: on two databases, after up-down-up, after a restore, on another major version."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from lockstep.core.address import parse_address
from lockstep.core.changes import compare, exact_changes
from lockstep.core.fingerprint import Fingerprint, label
from lockstep.postgres.connection import Target, open_session
from lockstep.postgres.fingerprint import read_live
from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.example.example_schema import apply_all, revert_all

ZOO = Path(__file__).with_name("fingerprint_zoo.sql")

#: What PostgreSQL prints in other words after a restore, of the zoo. docs/explanation/fingerprint.md tells why.
REPRINTED = {
    "column zoo.person.is_new", "constraint zoo.orders.overlap", "constraint zoo.person.person_kind_check",
    "constraint zoo.person.person_status_check", "constraint zoo.person.person_word_check", "constraint zoo.word.word_check",
    "function zoo.body(integer, character varying, text[])", "index zoo.by_state", "index zoo.by_states",
    "materialized view zoo.kept", "policy zoo.orders.theirs", "procedure zoo.noted(text)", "rule zoo.orders.kept",
    "statistics zoo.expressions", "trigger zoo.orders.touch", "view zoo.grouped", "view zoo.joined", "view zoo.nested",
}  # fmt: skip
#: Whose text 14 and 15 print in other words than 16 and later.
OTHER_TEXT = {"materialized view zoo.kept", "view zoo.nested", "view zoo.parsed", "view zoo.single"}

#: Other majors than the tests' own: 15 where Debian's packages are, and whatever `make test-majors` names.
PROGRAMS = {15: Path("/usr/lib/postgresql/15/bin")} | {
    int(major): Path(folder)
    for major, _, folder in (one.partition("=") for one in os.environ.get("LOCKSTEP_TEST_MAJORS", "").split(",") if one)
}


def look(url: str) -> Fingerprint:
    target = Target(environment="dev", address=parse_address(url), schemas=("public", "zoo"))
    session = open_session(target, run_id="same")
    try:
        return read_live(session).fingerprint
    finally:
        session.close()


def execute(url: str, text: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(text.encode())


def load_zoo(url: str) -> Fingerprint:
    with psycopg.connect(url) as connection:
        connection.execute(ZOO.read_bytes())
    return look(url)


@pytest.fixture(scope="module")
def server15() -> Iterator[ThrowawayServer]:
    with ThrowawayServer(PROGRAMS[15]) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def _role(server: ThrowawayServer) -> Iterator[None]:
    yield
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS fp_zoo_reader")


def test_the_same_statements_give_the_same_fingerprint_to_the_letter(new_database: Callable[[], str]) -> None:
    one, other = new_database(), new_database()
    execute(other, "CREATE TABLE public.gone (a int); DROP TABLE public.gone; CREATE SCHEMA shift")  # other numbers
    assert load_zoo(one).digest == load_zoo(other).digest


def test_the_order_and_history_of_columns_do_not_show(new_database: Callable[[], str]) -> None:
    one, other = new_database(), new_database()
    execute(
        one,
        "CREATE TABLE t (a int, b text NOT NULL DEFAULT 'x', c int); CREATE INDEX i ON t (c, a); GRANT SELECT (c) ON t TO PUBLIC",
    )
    execute(
        other,
        "CREATE TABLE t (old int, c bigint, b text); ALTER TABLE t ADD z int, ADD a int; ALTER TABLE t DROP z, DROP old; ALTER TABLE t ALTER c TYPE int,"
        " ALTER b SET NOT NULL, ALTER b SET DEFAULT 'x'; CREATE INDEX i ON t (c, a); GRANT SELECT (c) ON t TO PUBLIC",
    )
    assert look(one).digest == look(other).digest


def test_neither_settings_nor_the_reading_role_show(server: ThrowawayServer, new_database: Callable[[], str]) -> None:
    url = new_database()
    execute(
        url,
        "CREATE TABLE public.paid (a money DEFAULT 1234.5, b interval DEFAULT '1 day 2:03', c float8 DEFAULT 0.1, d bytea DEFAULT 'x')",
    )
    before = load_zoo(url)
    name = url.rpartition("/")[2]
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE ROLE fp_same_plain LOGIN PASSWORD 'pw'")
        for setting in (
            "datestyle = 'German'", "intervalstyle = 'iso_8601'", "timezone = 'Asia/Tokyo'", "extra_float_digits = -5", "bytea_output = 'escape'",
            "quote_all_identifiers = on", "search_path = 'zoo, public'", "standard_conforming_strings = off",
        ):  # fmt: skip
            admin.execute(f"ALTER DATABASE {name} SET {setting}".encode())
    try:
        assert look(url).digest == before.digest
        found = look(server.url(name, user="fp_same_plain", password="pw"))
        assert [change.label for change in exact_changes(before, found)] == []
    finally:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("DROP ROLE fp_same_plain")


def test_bytes_of_no_encoding_are_read(server: ThrowawayServer) -> None:
    name = "fp_same_ascii"
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING SQL_ASCII LOCALE 'C'".encode())
        try:
            with psycopg.connect(server.url(name), client_encoding="SQL_ASCII", autocommit=True) as connection:
                connection.execute(b"COMMENT ON SCHEMA public IS 'caf\xe9'")
            comments = [one.definition for one in look(server.url(name)).objects.values() if one.kind == "comment"]
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    assert comments == [r"caf\xe9"]


def test_a_change_in_the_middle_of_a_read_does_not_tear_it(database: str) -> None:
    execute(database, "CREATE VIEW v AS SELECT 1 AS a; CREATE FUNCTION before() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    with psycopg.connect(database) as other, ThreadPoolExecutor(1) as pool:
        other.execute("ALTER FUNCTION before() RENAME TO after; COMMENT ON VIEW v IS 'locked'; LOCK TABLE v")
        reading = pool.submit(look, database)
        blocked = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        with psycopg.connect(database, autocommit=True) as watcher:
            while watcher.execute(blocked).fetchone() == (0,):
                assert not reading.done()
        other.commit()
        found = reading.result()
    assert [change.label for change in exact_changes(found, look(database))] == []
    assert [one.definition.split("(")[0] for one in found.objects.values() if one.kind == "function"] == [
        "CREATE OR REPLACE FUNCTION public.after"
    ]


@pytest.mark.postgresql15
def test_the_collation_of_the_database_does_not_show(server15: ThrowawayServer) -> None:
    with psycopg.connect(server15.url(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE plain TEMPLATE template0 LOCALE 'C'")
        admin.execute("CREATE DATABASE english TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
    text = """
        CREATE TABLE public."Z" (a int, "B" int); CREATE TABLE public."a b" (a int, "B" int, "c d" int);
        CREATE VIEW public.v AS SELECT "Z".a, "Z"."B", x."B" AS c, x."c d" AS d FROM public."Z", public."a b" x;
        CREATE PUBLICATION p FOR TABLE public."Z", public."a b";
    """
    for name in ("plain", "english"):
        execute(server15.url(name), text)
    changes = exact_changes(look(server15.url("plain")), look(server15.url("english")))
    assert [f"{change.label}: {change.before} {change.after}" for change in changes] == []


def test_up_down_up_ends_where_the_first_up_did(new_database: Callable[[], str]) -> None:
    url = new_database()
    empty = look(url)
    apply_all(url)
    first = look(url)
    revert_all(url)
    reverted = look(url)
    apply_all(url)
    again = look(url)
    assert [change.label for change in exact_changes(first, again)] == []
    assert again.digest == first.digest
    assert [change.label for change in exact_changes(empty, reverted)] == []


def restore(pg_bin: Path, source: str, copy: str, archive: Path) -> None:
    subprocess.run([pg_bin / "pg_dump", "-Fc", "-f", archive, "-d", source], check=True)
    subprocess.run([pg_bin / "pg_restore", "--exit-on-error", "-d", copy, archive], check=True)


def test_a_restored_dump_is_equal_but_for_the_closed_list_of_round_trips(
    new_database: Callable[[], str], pg_bin: Path, tmp_path: Path
) -> None:
    source, copy = new_database(), new_database()
    before = load_zoo(source)
    restore(pg_bin, source, copy, tmp_path / "archive")
    found = compare(before, look(copy))
    assert [change.label for change in found.changes] == []
    assert {label(key) for key in found.reprinted} == REPRINTED

    # What is really different in the copy is no matter of its round trip.
    execute(
        copy,
        "ALTER TABLE zoo.person DROP CONSTRAINT person_status_check, ADD CONSTRAINT person_status_check CHECK (status IN ('new', 'older'));"
        "DROP INDEX zoo.by_states; CREATE INDEX by_states ON zoo.orders (total) WHERE state IN ('open');"
        "ALTER POLICY theirs ON zoo.orders USING (state IN ('open', 'held') OR person = 1)",
    )
    found = compare(before, look(copy))
    assert [change.label for change in found.changes] == [
        "constraint zoo.person.person_status_check", "index zoo.by_states", "policy zoo.orders.theirs",
    ]  # fmt: skip


def test_the_example_migrations_survive_a_dump_to_the_letter(
    new_database: Callable[[], str], pg_bin: Path, tmp_path: Path
) -> None:
    source, copy = new_database(), new_database()
    apply_all(source)
    restore(pg_bin, source, copy, tmp_path / "archive")
    assert look(copy).digest == look(source).digest


@pytest.fixture(
    scope="module", params=[pytest.param(m, marks=pytest.mark.postgresql15) if m == 15 else m for m in PROGRAMS]
)
def other_server(request: pytest.FixtureRequest) -> Iterator[ThrowawayServer]:
    with ExitStack() as stack:
        if request.param == 15:
            running = request.getfixturevalue("server15")
        else:
            running = stack.enter_context(ThrowawayServer(PROGRAMS[request.param]))
        with psycopg.connect(running.url(), autocommit=True) as admin:
            admin.execute("CREATE DATABASE zoo")
            admin.execute("CREATE DATABASE example")
            admin.execute("CREATE DATABASE copy")
        yield running


def test_another_major_has_the_same_schema_but_for_the_text_of_views(
    other_server: ThrowawayServer, new_database: Callable[[], str], tmp_path: Path
) -> None:
    here, there = load_zoo(new_database()), load_zoo(other_server.url("zoo"))
    found = compare(here, there)
    assert found.across_majors
    assert [change.label for change in found.changes] == []
    assert {label(key) for key in found.other_text} == (OTHER_TEXT if there.major < 16 else set())
    assert here.portable_digest == there.portable_digest
    assert here.digest != there.digest or there.major > 17

    restore(PROGRAMS[there.major], other_server.url("zoo"), other_server.url("copy"), tmp_path / "archive")
    trip = compare(there, look(other_server.url("copy")))
    assert [change.label for change in trip.changes] == []
    assert {label(key) for key in trip.reprinted} == REPRINTED

    # What is really different there is found there.
    execute(
        other_server.url("zoo"),
        "CREATE OR REPLACE VIEW zoo.single WITH (security_barrier) AS SELECT vt.a, vt.b FROM zoo.wide vt WHERE vt.c = 'x' WITH LOCAL CHECK OPTION;"
        "ALTER TABLE zoo.wide ADD d int; GRANT DELETE ON zoo.wide TO fp_zoo_reader; ALTER TABLE zoo.wide ALTER b DROP NOT NULL",
    )
    found = compare(here, look(other_server.url("zoo")))
    assert [change.label for change in found.changes] == [
        "column zoo.wide.b", "column zoo.wide.d", "grant to fp_zoo_reader on table zoo.wide", "view zoo.single",
    ]  # fmt: skip


def test_the_example_migrations_are_the_same_on_another_major(
    other_server: ThrowawayServer, new_database: Callable[[], str]
) -> None:
    url = new_database()
    apply_all(url)
    apply_all(other_server.url("example"))
    found = compare(look(url), look(other_server.url("example")))
    # 18 comes with another pgcrypto.
    assert [c.label for c in found.changes if c.label != "version of extension pgcrypto"] == []
    assert found.other_text == ()
