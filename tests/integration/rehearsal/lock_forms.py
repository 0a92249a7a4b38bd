"""The forms of DDL whose locks, rewrites and scans are known: each with what must be there first, and who says so.

docs/reference/locks-seen.md is made of them. `bench.rehearsal` runs them once more, on a large database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lockstep.core.locking.lock_modes import Mode


def base(scale: int = 1) -> str:
    """The schema that all forms work on, and its rows: 10,000 customers, 30,000 orders and items, times `scale`."""
    return f"""
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE customers (id bigint PRIMARY KEY, email text, name varchar(40));
CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer_id bigint NOT NULL CONSTRAINT orders_customer_fkey REFERENCES customers,
    total int, state text, code varchar(20), feeling mood
);
CREATE INDEX orders_code ON orders (code);
CREATE TABLE items (id bigint NOT NULL, order_id int NOT NULL, customer_id bigint, label text);
CREATE TABLE lines (id bigint PRIMARY KEY, order_id bigint CONSTRAINT lines_order_fkey REFERENCES orders);
CREATE TABLE log (at date NOT NULL, text text) PARTITION BY RANGE (at);
CREATE TABLE log_2024 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE log_2025 PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE log_2026 (at date NOT NULL, text text);
INSERT INTO customers SELECT i, 'c' || i, 'name ' || i FROM generate_series(1, {10_000 * scale}) i;
INSERT INTO orders SELECT i, 1 + i % {10_000 * scale}, i % 1000, 'new', 'code ' || i, 'sad'
  FROM generate_series(1, {30_000 * scale}) i;
INSERT INTO items SELECT i, i, 1 + i % {10_000 * scale}, 'item ' || i FROM generate_series(1, {30_000 * scale}) i;
INSERT INTO lines SELECT i, i FROM generate_series(1, {30_000 * scale}) i;
INSERT INTO log SELECT date '2024-01-01' + i % 700, 'line ' || i FROM generate_series(1, {20_000 * scale}) i;
INSERT INTO log_2026 SELECT date '2026-01-01' + i % 300, 'line ' || i FROM generate_series(1, {10_000 * scale}) i;
CREATE MATERIALIZED VIEW sums AS SELECT customer_id, sum(total) AS total FROM orders GROUP BY customer_id;
CREATE UNIQUE INDEX sums_customer ON sums (customer_id);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One statement."""

    statement: str
    source: str  # page of the manual, or function in PostgreSQL's source, that says so
    before: str = ""  # run and committed first
    outside: bool = False  # it cannot run in a transaction
    blocker: str = ""  # run in another session's transaction, so that what would be over at once waits, and is seen
    #: Locks that are held for a moment only, so that a sample may miss them: relation -> how strong, and how before that.
    momentary: Mapping[str, tuple[Mode, Mode | None]] = field(default_factory=dict)
    since: int = 0  # first major version that knows it
    #: Where the lock table says something else than what is seen, and why that is right.
    static: str = ""


_ALTER = "ALTER TABLE"
_LEVEL = "`AlterTableGetLockLevel` (tablecmds.c)"
_SUE, _AE = Mode.SHARE_UPDATE_EXCLUSIVE, Mode.ACCESS_EXCLUSIVE


def alter(statement: str, source: str = "", **more: object) -> Form:
    """A form of ALTER TABLE, of which the manual says: ACCESS EXCLUSIVE unless explicitly noted."""
    return Form(statement=statement, source=f"{_ALTER}{': ' + source if source else ', Description'}", **more)  # type: ignore[arg-type]


#: The lock table does not follow the foreign keys of a column whose type changes: which column they are of is seldom known.
_UNFOLLOWED = "predicted no lock on public.orders, seen ACCESS EXCLUSIVE"

FORMS = (
    # -- columns
    alter("ALTER TABLE orders ADD COLUMN a int", "Notes (no default: no rewrite)"),
    alter("ALTER TABLE orders ADD COLUMN a int NOT NULL DEFAULT 0", "Notes (a constant default is stored once)"),
    alter("ALTER TABLE orders ADD COLUMN a timestamptz DEFAULT now()", "Notes (not volatile: evaluated once)"),
    alter("ALTER TABLE orders ADD COLUMN a uuid DEFAULT gen_random_uuid()", "Notes (a volatile default rewrites)"),
    alter("ALTER TABLE orders ADD COLUMN a bigint GENERATED ALWAYS AS IDENTITY", "Notes (an identity column rewrites)"),
    alter("ALTER TABLE orders ADD COLUMN a int GENERATED ALWAYS AS (total * 2) STORED",
          "Notes (a stored generated column rewrites)"),
    alter("ALTER TABLE orders DROP COLUMN state", "Notes (DROP COLUMN does not remove it physically)"),
    alter("ALTER TABLE orders RENAME COLUMN state TO status", "RENAME"),
    alter("ALTER TABLE orders RENAME TO sales", "RENAME"),
    alter("ALTER TABLE orders ALTER COLUMN state SET DEFAULT 'new'", "SET/DROP DEFAULT; " + _LEVEL),
    alter("ALTER TABLE orders ALTER COLUMN state SET STATISTICS 500", "SET STATISTICS"),
    # -- types
    alter("ALTER TABLE orders ALTER COLUMN code TYPE varchar(40)",
          "Notes (binary coercible: no rewrite); `CheckIndexCompatible` (indexcmds.c): the index stays"),
    alter("ALTER TABLE orders ALTER COLUMN code TYPE varchar(15) USING left(code, 15)", "SET DATA TYPE, Notes (rewrite)"),
    alter("ALTER TABLE orders ALTER COLUMN code TYPE text COLLATE \"C\"",
          "Notes (indexes are rebuilt where the collation changes)"),
    alter("ALTER TABLE items ALTER COLUMN order_id TYPE bigint", "SET DATA TYPE, Notes (rewrite)"),
    alter("ALTER TABLE lines ALTER COLUMN order_id TYPE int",
          "SET DATA TYPE; `ATPostAlterTypeCleanup` (tablecmds.c): the foreign key is dropped and made again",
          static=_UNFOLLOWED),
    alter("ALTER TABLE customers ALTER COLUMN id TYPE int",
          "SET DATA TYPE; `ATPostAlterTypeCleanup` (tablecmds.c): foreign keys from elsewhere, too",
          before="DROP MATERIALIZED VIEW sums", static=_UNFOLLOWED),
    # -- not null and checks
    alter("ALTER TABLE orders ALTER COLUMN state SET NOT NULL", "SET NOT NULL (reads the table)"),
    alter("ALTER TABLE orders ALTER COLUMN state SET NOT NULL", "SET NOT NULL (a valid CHECK spares the scan)",
          before="ALTER TABLE orders ADD CONSTRAINT proves CHECK (state IS NOT NULL)"),
    alter("ALTER TABLE orders ALTER COLUMN customer_id DROP NOT NULL", "DROP NOT NULL; " + _LEVEL),
    alter("ALTER TABLE orders ADD CONSTRAINT c CHECK (total >= 0)", "ADD table_constraint (reads the table)"),
    alter("ALTER TABLE orders ADD CONSTRAINT c CHECK (total >= 0) NOT VALID", "ADD table_constraint NOT VALID"),
    alter("ALTER TABLE orders VALIDATE CONSTRAINT c", "VALIDATE CONSTRAINT",
          before="ALTER TABLE orders ADD CONSTRAINT c CHECK (total >= 0) NOT VALID"),
    alter("ALTER TABLE orders DROP CONSTRAINT c", "DROP CONSTRAINT; " + _LEVEL,
          before="ALTER TABLE orders ADD CONSTRAINT c CHECK (total >= 0)"),
    # -- foreign keys
    alter("ALTER TABLE items ADD CONSTRAINT f FOREIGN KEY (customer_id) REFERENCES customers", "ADD FOREIGN KEY"),
    alter("ALTER TABLE items ADD CONSTRAINT f FOREIGN KEY (customer_id) REFERENCES customers NOT VALID",
          "ADD FOREIGN KEY, NOT VALID"),
    alter("ALTER TABLE items VALIDATE CONSTRAINT f", "Notes (ROW SHARE on the referenced table)",
          before="ALTER TABLE items ADD CONSTRAINT f FOREIGN KEY (customer_id) REFERENCES customers NOT VALID"),
    alter("ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey",
          "`ATExecDropConstraint` (tablecmds.c): its triggers on the referenced table go, too"),
    alter("ALTER TABLE items ADD COLUMN a bigint REFERENCES customers", "ADD COLUMN, ADD FOREIGN KEY"),
    # -- unique
    alter("ALTER TABLE items ADD CONSTRAINT u UNIQUE (id)", "ADD table_constraint; " + _LEVEL),
    alter("ALTER TABLE items ADD CONSTRAINT u UNIQUE USING INDEX items_id", "ADD table_constraint_using_index (the index is renamed)",
          before="CREATE UNIQUE INDEX items_id ON items (id)"),
    alter("ALTER TABLE items ADD PRIMARY KEY (id)", "ADD table_constraint; " + _LEVEL),
    alter("ALTER TABLE items ADD CONSTRAINT p PRIMARY KEY USING INDEX items_id", "ADD table_constraint_using_index (the index is renamed)",
          before="CREATE UNIQUE INDEX items_id ON items (id)"),
    # -- indexes
    Form(statement="CREATE INDEX i ON orders (total)", source="CREATE INDEX, Building Indexes Concurrently"),
    Form(statement="CREATE INDEX i ON log (text)", source="CREATE INDEX (partitions, one after another)"),
    Form(statement="CREATE INDEX CONCURRENTLY i ON orders (total)", outside=True,
         source="CREATE INDEX, Building Indexes Concurrently (two scans)"),
    Form(statement="DROP INDEX orders_code", source="DROP INDEX: CONCURRENTLY"),
    Form(statement="DROP INDEX CONCURRENTLY orders_code", outside=True, blocker="LOCK TABLE orders IN ACCESS SHARE MODE",
         momentary={"orders_code": (_AE, _SUE)}, source="`index_drop` (index.c)"),
    Form(statement="REINDEX INDEX orders_code", source="REINDEX, Notes"),
    Form(statement="REINDEX TABLE orders", source="REINDEX, Notes"),
    Form(statement="REINDEX INDEX CONCURRENTLY orders_code", outside=True, blocker="LOCK TABLE orders IN ACCESS SHARE MODE",
         momentary={"orders_code": (_AE, _SUE)}, source="REINDEX, Rebuilding Indexes Concurrently (two scans)"),
    Form(statement="ALTER INDEX orders_code RENAME TO orders_by_code", source="ALTER INDEX: RENAME"),
    # -- tables
    Form(statement="CREATE TABLE notes (id bigint, order_id bigint REFERENCES orders)",
         source="CREATE TABLE: REFERENCES"),
    Form(statement="CREATE TABLE copied AS SELECT * FROM orders", source="Explicit Locking: ACCESS SHARE (a query)"),
    Form(statement="DROP TABLE items", source="Explicit Locking: ACCESS EXCLUSIVE"),
    Form(statement="DROP TABLE lines",
         source="`RemoveTriggerById` (trigger.c): the foreign key's triggers on the referenced table go, too"),
    Form(statement="TRUNCATE lines", source="TRUNCATE, Notes"),
    Form(statement="TRUNCATE orders, lines", source="TRUNCATE, Notes"),
    alter("ALTER TABLE orders SET (fillfactor = 70)", "SET storage_parameter"),
    alter("ALTER TABLE items SET UNLOGGED", "SET LOGGED/UNLOGGED (rewrite)"),
    Form(statement="CLUSTER orders USING orders_code", source="CLUSTER, Description"),
    Form(statement="VACUUM FULL orders", outside=True, source="VACUUM, Description"),
    Form(statement="ANALYZE orders", source="Explicit Locking: SHARE UPDATE EXCLUSIVE (samples, no scan)"),
    # -- partitions
    alter("ALTER TABLE log ATTACH PARTITION log_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
          "ATTACH PARTITION (reads the table)"),
    alter("ALTER TABLE log ATTACH PARTITION log_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
          "ATTACH PARTITION (a valid CHECK spares the scan)",
          before="ALTER TABLE log_2026 ADD CHECK (at >= '2026-01-01' AND at < '2027-01-01')"),
    alter("ALTER TABLE log ATTACH PARTITION log_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
          "ATTACH PARTITION (the default partition is locked and read, too)",
          before="CREATE TABLE log_rest PARTITION OF log DEFAULT"),
    alter("ALTER TABLE log DETACH PARTITION log_2024", "DETACH PARTITION; " + _LEVEL),
    alter("ALTER TABLE log DETACH PARTITION log_2024 CONCURRENTLY", "DETACH PARTITION CONCURRENTLY", outside=True,
          blocker="LOCK TABLE log_2024 IN ACCESS SHARE MODE", momentary={"log_2024": (_AE, None)}),
    Form(statement="CREATE TABLE log_2027 PARTITION OF log FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
         source="CREATE TABLE: PARTITION OF"),
    # -- triggers, policies, words
    Form(statement="CREATE TRIGGER t BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch()",
         source="Explicit Locking: SHARE ROW EXCLUSIVE"),
    Form(statement="DROP TRIGGER t ON orders", source="`RemoveTriggerById` (trigger.c)",
         before="CREATE TRIGGER t BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch()"),
    alter("ALTER TABLE orders DISABLE TRIGGER USER", "DISABLE/ENABLE TRIGGER"),
    alter("ALTER TABLE orders ENABLE ROW LEVEL SECURITY", "ENABLE ROW LEVEL SECURITY; " + _LEVEL),
    Form(statement="CREATE POLICY p ON orders USING (true)", source="`CreatePolicy` (policy.c)"),
    Form(statement="COMMENT ON TABLE orders IS 'bought'", source="COMMENT, Description"),
    Form(statement="COMMENT ON COLUMN orders.total IS 'in cents'", source="COMMENT, Description"),
    # -- views, types
    Form(statement="CREATE VIEW v AS SELECT id FROM orders", source="Explicit Locking: ACCESS SHARE (a query)"),
    Form(statement="CREATE MATERIALIZED VIEW m AS SELECT state, count(*) FROM orders GROUP BY state",
         source="Explicit Locking: ACCESS SHARE (a query)"),
    Form(statement="REFRESH MATERIALIZED VIEW sums", source="Explicit Locking: ACCESS EXCLUSIVE"),
    Form(statement="REFRESH MATERIALIZED VIEW CONCURRENTLY sums", source="Explicit Locking: EXCLUSIVE"),
    Form(statement="ALTER TYPE mood ADD VALUE 'calm'", source="`AlterEnum` (typecmds.c): no lock on any table"),
    # -- rows
    Form(statement="UPDATE orders SET total = total + 1", source="Explicit Locking: ROW EXCLUSIVE"),
    Form(statement="DELETE FROM items WHERE id % 2 = 0", source="Explicit Locking: ROW EXCLUSIVE"),
    Form(statement="INSERT INTO items SELECT id, id, customer_id, 'x' FROM orders",
         source="Explicit Locking: ROW EXCLUSIVE, ACCESS SHARE on other tables"),
    Form(statement="LOCK TABLE orders IN SHARE MODE", source="LOCK"),
)  # fmt: skip
