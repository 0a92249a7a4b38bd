"""What a rehearsal advises runs as it is printed, and comes to the same end as the statement that it replaces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from lockstep.core.locking.column_rewrites import BATCHES
from lockstep.core.locking.rewrites import ALONE
from lockstep.core.migration import SqlFile
from lockstep.core.rehearsal.advice import advice_of
from lockstep.core.statements import parse_script
from lockstep.postgres.partitions import read_partitioned

SCHEMA = """
CREATE TABLE public.events (id int NOT NULL, at date NOT NULL, kind text) PARTITION BY RANGE (at);
CREATE TABLE public.events_1 PARTITION OF public.events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE public."Events 2" PARTITION OF public.events FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE TABLE public.events_3 (id int NOT NULL, at date NOT NULL, kind text);
CREATE TABLE public.kinds (id int, kind text) PARTITION BY LIST (kind);
CREATE TABLE public.kinds_a PARTITION OF public.kinds FOR VALUES IN ('a');
CREATE TABLE public.kinds_b (id int, kind text);
CREATE TABLE public.orders (id int, total int, tax int);
CREATE DOMAIN public.mail AS text;
CREATE TABLE public.letters (id int, sent_to public.mail);
INSERT INTO public.events SELECT n, '2024-01-05'::date + n % 40, 'x' FROM generate_series(1, 1000) AS n;
INSERT INTO public.events_3 SELECT n, '2024-03-05', 'x' FROM generate_series(1, 1000) AS n;
INSERT INTO public.kinds_b SELECT n, CASE WHEN n % 2 = 0 THEN 'b' END FROM generate_series(1, 1000) AS n;
INSERT INTO public.orders SELECT n, n, NULL FROM generate_series(1, 12000) AS n;
INSERT INTO public.letters VALUES (1, 'a@b');
"""


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as opened:
        opened.execute(SCHEMA.encode())
        yield opened


def advised(connection: psycopg.Connection[Any], statement: str) -> list[str]:
    """The files that are advised instead of a statement, as a person would copy them."""
    file = SqlFile(name="001-x.sql", text=f"{statement};\n", checksum="")
    found = advice_of([file], ["001-x.sql"], read_partitioned(connection))
    _, _, text = found["001-x.sql", 1].partition("\n")
    assert text
    return [part for part in re.split(r"^-- file \d+\n", text, flags=re.MULTILINE) if part.strip()]


def apply(connection: psycopg.Connection[Any], text: str) -> None:
    """Run one file as Lockstep would."""
    head = text.splitlines()[0]
    if head == ALONE:
        for one in parse_script(text, "x.sql", transactional=False).statements:
            connection.execute(text[one.start : one.end].encode())
    elif head == BATCHES:
        rounds = 0
        while connection.execute(text.encode()).rowcount:
            rounds += 1
            assert rounds < 10
    else:
        with connection.transaction():
            connection.execute(text.encode())


#: statement -> (what shows that it was done, what that says)
CASES = {
    "CREATE INDEX events_kind ON public.events (kind)": (
        "SELECT count(*), bool_and(indisvalid) FROM pg_index WHERE indexrelid::regclass::text ~ 'events_kind'", (3, True)),
    "CREATE UNIQUE INDEX ON public.events (id, at)": (
        "SELECT count(*), bool_and(indisvalid) FROM pg_index WHERE indexrelid::regclass::text ~ 'events_id_at'", (3, True)),
    "ALTER TABLE public.events ATTACH PARTITION public.events_3 FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')": (
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass", (3,)),
    "ALTER TABLE public.events ATTACH PARTITION public.events_3 FOR VALUES FROM ('2024-03-01') TO (MAXVALUE)": (
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass", (3,)),
    "ALTER TABLE public.kinds ATTACH PARTITION public.kinds_b FOR VALUES IN ('b', NULL)": (
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'kinds'::regclass", (2,)),
    "ALTER DOMAIN public.mail ADD CHECK (VALUE LIKE '%@%')": (
        "SELECT conname, convalidated FROM pg_constraint WHERE contypid = 'mail'::regtype", ("mail_check", True)),
    "TRUNCATE public.orders": ("SELECT count(*) FROM public.orders", (0,)),
    "UPDATE public.orders SET tax = total / 5": ("SELECT count(*) FROM public.orders WHERE tax = total / 5", (12000,)),
    "ALTER TABLE public.orders ALTER COLUMN total SET NOT NULL, ADD CONSTRAINT positive CHECK (total > 0)": (
        "SELECT (SELECT attnotnull FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'total'), "
        "(SELECT array_agg(conname::text || convalidated) FROM pg_constraint WHERE conrelid = 'orders'::regclass AND contype = 'c')",
        (True, ["positivetrue"])),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("statement", "proof"), CASES.items(), ids=list(CASES))
def test_the_advice_runs_and_comes_to_the_same_end(
    statement: str, proof: tuple[str, tuple[object, ...]], connection: psycopg.Connection[Any]
) -> None:
    files = advised(connection, statement)
    for text in files:
        apply(connection, text)
    assert connection.execute(proof[0].encode()).fetchone() == proof[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE public.events ATTACH PARTITION public.events_3 FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')",
        "ALTER TABLE public.kinds ATTACH PARTITION public.kinds_b FOR VALUES IN ('b', NULL)",
    ],
)
def test_attaching_after_the_advice_looks_at_no_row(statement: str, connection: psycopg.Connection[Any]) -> None:
    *before, last = advised(connection, statement)
    part = "events_3" if "events" in statement else "kinds_b"
    for text in before:
        apply(connection, text)

    def reads() -> int:
        row = connection.execute("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = %s", (part,)).fetchone()
        return row[0] if row else 0

    with connection.transaction():
        begun = reads()
        connection.execute(last.encode())
        assert reads() == begun
    apply(connection, f"ALTER TABLE public.{part.split('_')[0]} DETACH PARTITION public.{part};")
    with connection.transaction():
        begun = reads()
        connection.execute(statement.encode())
        assert reads() == begun + 1  # without it, every row


@pytest.mark.slow
def test_what_a_file_accepts_is_advised_all_the_same() -> None:
    from lockstep.core.directives import parse_directives

    text = '-- lockstep: allow=adding-not-nullable-field reason="ten rows"\nALTER TABLE t ALTER COLUMN a SET NOT NULL;'
    file = SqlFile(name="001-x.sql", text=text, checksum="", directives=parse_directives(text, "001-x.sql"))
    assert ("001-x.sql", 2) in advice_of([file], ["001-x.sql"])


@pytest.mark.slow
def test_from_18_on_not_null_is_added_not_valid() -> None:
    file = SqlFile(name="001-x.sql", text="ALTER TABLE public.t ALTER COLUMN a SET NOT NULL;", checksum="")
    text = advice_of([file], ["001-x.sql"], major=18)["001-x.sql", 1]
    assert "ALTER TABLE public.t ADD CONSTRAINT t_a_not_null NOT NULL a NOT VALID;" in text
    parse_script(text.split("\n", 1)[1], "x.sql")
