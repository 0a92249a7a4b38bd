"""What is called a hazard reads or rewrites the table under a strong lock; its safe rewrite runs, and does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from lockstep.core.findings import Finding
from lockstep.core.locking.column_rewrites import BATCHES
from lockstep.core.locking.hazards import find_hazards
from lockstep.core.locking.known import Known
from lockstep.core.locking.locks import script_locks
from lockstep.core.locking.rewrites import ALONE
from lockstep.core.migration import SqlFile
from lockstep.core.statements import parse_script
from tests.integration.test_locks import MODES

SCHEMA = """
CREATE TABLE public.customers (id bigint PRIMARY KEY);
CREATE TABLE public.orders (
    id bigint NOT NULL, customer_id bigint, total bigint, state varchar(20), "Weird name" text, created_at timestamptz
);
CREATE INDEX orders_state_idx ON public.orders (state);
CREATE TABLE public.archive (id bigint);
"""
ROWS = """
INSERT INTO public.customers SELECT generate_series(1, 100);
INSERT INTO public.orders SELECT n, n % 100 + 1, n, 'new', 'x', now() FROM generate_series(1, 6000) AS n;
"""


@dataclass(frozen=True)
class Effect:
    """What one transaction did to public.orders."""

    strong: bool  # it held a lock that reads or writes wait for
    read: bool  # it read the table from end to end
    rewritten: bool  # its rows were written anew

    @property
    def hazardous(self) -> bool:
        return self.strong and (self.read or self.rewritten)


@pytest.fixture
def session(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"{SCHEMA} {ROWS}".encode())
        yield connection


def findings(*texts: str, before: str = SCHEMA) -> list[Finding]:
    """The hazards of the last of several files; those before it tell what is there."""
    known = Known()
    script_locks(parse_script(before, "000-schema.sql"), known)
    files = [SqlFile(name=f"{n:03}-x.sql", text=text, checksum="") for n, text in enumerate(texts, start=1)]
    return [find_hazards(file, known) for file in files][-1]


def run(session: psycopg.Connection, text: str, *, keep: bool) -> Effect:
    """Run a file's text in one transaction and look at what it did, just before the end."""
    before = filenode(session)
    session.execute("BEGIN")
    try:
        reads = whole_reads(session)
        session.execute(text.encode())
        held = session.execute(
            "SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'public.orders'::regclass"
        ).fetchall()
        return Effect(
            strong=any(MODES[mode.lower()].strong for (mode,) in held),
            read=whole_reads(session) > reads,
            rewritten=filenode(session) != before,
        )
    finally:
        session.execute("COMMIT" if keep else "ROLLBACK")


def whole_reads(session: psycopg.Connection) -> int:
    """How often this session read the table from end to end, as far as it was not reported to the server yet."""
    (count,) = session.execute(
        "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relid = 'public.orders'::regclass"
    ).fetchone() or (0,)
    return int(count)


def filenode(session: psycopg.Connection) -> int:
    (node,) = session.execute("SELECT pg_relation_filenode('public.orders')").fetchone() or (0,)
    return int(node)


#: statement -> the rule that it breaks; each reads or rewrites the table while others wait.
HAZARDS = {
    "ALTER TABLE public.orders ADD COLUMN token uuid DEFAULT gen_random_uuid()": "adding-field-with-default",
    "ALTER TABLE public.orders ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()": "adding-field-with-default",
    "ALTER TABLE public.orders ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY": "adding-field-with-default",
    "ALTER TABLE public.orders ADD COLUMN n bigserial": "adding-field-with-default",
    "ALTER TABLE public.orders ADD COLUMN twice bigint GENERATED ALWAYS AS (total * 2) STORED": "adding-field-with-default",
    "ALTER TABLE public.orders ADD COLUMN n bigint CHECK (n > 0)": "constraint-missing-not-valid",
    "ALTER TABLE public.orders ADD COLUMN c bigint DEFAULT 1 REFERENCES public.customers (id)": "adding-foreign-key-constraint",
    "ALTER TABLE public.orders ADD COLUMN n bigint CONSTRAINT only_one UNIQUE": "disallowed-unique-constraint",
    "ALTER TABLE public.orders ALTER COLUMN total TYPE numeric(12, 2)": "changing-column-type",
    "ALTER TABLE public.orders ALTER COLUMN total TYPE text USING total::text || '!'": "changing-column-type",
    "ALTER TABLE public.orders ALTER COLUMN state TYPE varchar(10)": "changing-column-type",
    "ALTER TABLE public.orders ALTER COLUMN total SET NOT NULL": "adding-not-nullable-field",
    'ALTER TABLE public.orders ALTER COLUMN "Weird name" SET NOT NULL': "adding-not-nullable-field",
    "ALTER TABLE public.orders ADD CONSTRAINT positive CHECK (total > 0)": "constraint-missing-not-valid",
    "ALTER TABLE public.orders ADD CHECK (total > 0)": "constraint-missing-not-valid",
    "ALTER TABLE public.orders ADD FOREIGN KEY (customer_id) REFERENCES public.customers ON DELETE CASCADE":
        "adding-foreign-key-constraint",
    "ALTER TABLE public.orders ADD CONSTRAINT one UNIQUE (id, total) DEFERRABLE": "disallowed-unique-constraint",
    'ALTER TABLE public.orders ADD PRIMARY KEY (id, "Weird name")': "adding-serial-primary-key-field",
    "CREATE INDEX ON public.orders (total) WHERE total > 5": "require-concurrent-index-creation",
    "CREATE INDEX IF NOT EXISTS orders_total_idx ON public.orders USING brin (total)": "require-concurrent-index-creation",
    "REINDEX TABLE public.orders": "require-concurrent-reindex",
    "REINDEX INDEX public.orders_state_idx": "require-concurrent-reindex",
}  # fmt: skip


@pytest.mark.parametrize(("statement", "rule"), HAZARDS.items(), ids=list(HAZARDS))
def test_a_hazard_is_real_and_its_rewrite_avoids_it(statement: str, rule: str, session: psycopg.Connection) -> None:
    (finding,) = findings(f"{statement};")
    assert finding.rule == rule
    assert run(session, statement, keep=False).hazardous
    effects = [effect for text in files_of(finding) if (effect := apply(session, text))]
    assert not [effect for effect in effects if effect.hazardous]
    (invalid,) = session.execute(
        "SELECT (SELECT count(*) FROM pg_index WHERE NOT indisvalid) + (SELECT count(*) FROM pg_constraint WHERE NOT convalidated)"
    ).fetchone() or (None,)
    assert invalid == 0
    assert_same_result(statement, session)


def files_of(finding: Finding) -> list[str]:
    """The files of a rewrite, as a person would copy them out of the hint."""
    assert finding.hint
    _, _, text = finding.hint.partition(":\n")
    return [part for part in re.split(r"^-- file \d+\n", text, flags=re.MULTILINE) if part.strip()]


def apply(session: psycopg.Connection, text: str) -> Effect | None:
    """Apply one file of a rewrite as Lockstep would; the effect of a transactional one."""
    head = text.splitlines()[0]
    if head == ALONE:
        for statement in parse_script(text, "x.sql", transactional=False).statements:
            session.execute(text[statement.start : statement.end].encode())
        return None
    if head == BATCHES:
        rounds = 0
        while session.execute(text.encode()).rowcount:
            rounds += 1
            assert rounds < 10
        assert rounds >= 2
        return None
    return run(session, text, keep=True)


SHAPE = """
SELECT 'column', attname, format_type(atttypid, atttypmod), attnotnull::text, attidentity::text
FROM pg_attribute WHERE attrelid = 'public.orders'::regclass AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT 'constraint', conname, pg_get_constraintdef(oid), '', '' FROM pg_constraint
WHERE conrelid = 'public.orders'::regclass AND contype <> 'n'
UNION ALL
SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid), '', '' FROM pg_index
WHERE indrelid = 'public.orders'::regclass
ORDER BY 1, 2
"""


def assert_same_result(statement: str, session: psycopg.Connection) -> None:
    """The rewrite ends with the table that the statement would have made."""
    rewritten = session.execute(SHAPE.encode()).fetchall()
    session.execute("DROP TABLE public.orders, public.customers, public.archive CASCADE")
    session.execute(f"{SCHEMA} {ROWS} {statement}".encode())
    direct = session.execute(SHAPE.encode()).fetchall()
    if "TYPE" in statement and "state" in statement:
        # The old column's indexes are for its author to make anew: the rewrite says so.
        direct = [row for row in direct if row[0] != "index"]
    assert rewritten == direct


#: Statements that look like hazards and read nothing for long under a strong lock.
HARMLESS = (
    "ALTER TABLE public.orders ADD COLUMN a timestamptz NOT NULL DEFAULT now()",
    "ALTER TABLE public.orders ADD COLUMN a bigint NOT NULL DEFAULT 0",
    "ALTER TABLE public.orders ADD COLUMN a text DEFAULT lower('X') || 'y'",
    "ALTER TABLE public.orders ADD COLUMN a bigint REFERENCES public.customers (id)",
    "ALTER TABLE public.orders ALTER COLUMN state TYPE varchar(40)",
    "ALTER TABLE public.orders ALTER COLUMN state TYPE text",
    "ALTER TABLE public.orders ALTER COLUMN total TYPE bigint",
    "ALTER TABLE public.orders ADD CONSTRAINT positive CHECK (total > 0) NOT VALID",
    "ALTER TABLE public.orders ADD FOREIGN KEY (customer_id) REFERENCES public.customers NOT VALID",
    "ALTER TABLE public.orders DROP COLUMN state",
    "CREATE TABLE public.notes (order_id bigint, customer_id bigint REFERENCES public.customers)",
)


@pytest.mark.parametrize("statement", HARMLESS)
def test_what_is_no_hazard_does_not_read_the_table_under_a_strong_lock(
    statement: str, session: psycopg.Connection
) -> None:
    assert findings(f"{statement};") == []
    assert not run(session, statement, keep=False).hazardous


def test_not_null_after_a_validated_check_is_no_hazard_and_reads_nothing(session: psycopg.Connection) -> None:
    texts = [
        "ALTER TABLE public.orders ADD CONSTRAINT c CHECK (total IS NOT NULL) NOT VALID;",
        "ALTER TABLE public.orders VALIDATE CONSTRAINT c;",
        "ALTER TABLE public.orders ALTER COLUMN total SET NOT NULL;",
    ]
    assert findings(*texts) == []
    assert [run(session, text, keep=True).hazardous for text in texts] == [False, False, False]


def test_validating_in_the_same_transaction_reads_under_the_strong_lock(session: psycopg.Connection) -> None:
    text = """
        ALTER TABLE public.orders ADD CONSTRAINT positive CHECK (total > 0) NOT VALID;
        ALTER TABLE public.orders VALIDATE CONSTRAINT positive;
    """
    assert [one.rule for one in findings(text)] == ["validating-in-same-transaction"]
    assert run(session, text, keep=False).hazardous


def test_a_new_enum_value_cannot_be_used_in_its_own_transaction(session: psycopg.Connection) -> None:
    session.execute("CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE moods (mood mood)")
    text = "ALTER TYPE mood ADD VALUE 'calm'; INSERT INTO moods VALUES ('calm');"
    assert [one.rule for one in findings(text)] == ["enum-value-in-same-transaction"]
    with pytest.raises(psycopg.errors.UnsafeNewEnumValueUsage):
        run(session, text, keep=False)
    own = "CREATE TYPE shade AS ENUM ('dark'); ALTER TYPE shade ADD VALUE 'light'; SELECT 'light'::shade;"
    (finding,) = findings(own)
    assert "PostgreSQL before 17" in finding.message and finding.hint == "name the value in CREATE TYPE"
    if session.info.server_version < 170000:
        with pytest.raises(psycopg.errors.UnsafeNewEnumValueUsage):
            run(session, own, keep=False)
    else:
        run(session, own, keep=False)


def test_a_backfill_of_the_whole_table_ends_and_leaves_the_same_rows(session: psycopg.Connection) -> None:
    text = """
        ALTER TABLE public.orders ADD COLUMN tax bigint;
        UPDATE public.orders SET tax = total / 5, state = 'taxed' WHERE total > 100;
    """
    (finding,) = findings(text)
    assert finding.rule == "slow-work-under-lock"
    session.execute("ALTER TABLE public.orders ADD COLUMN tax bigint")
    (batched,) = files_of(finding)
    apply(session, batched)
    wrong = session.execute(
        "SELECT count(*) FROM public.orders WHERE (tax IS NOT DISTINCT FROM total / 5 AND state = 'taxed') <> (total > 100)"
    ).fetchone()
    assert wrong == (0,)
