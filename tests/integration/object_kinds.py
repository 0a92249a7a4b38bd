"""Every kind of object and every aspect that a fingerprint covers: how it is made, changed and undone by hand.

A case is a list of steps. Each has SQL and the change set that it must cause: `+` created, `-` dropped, `~` altered.
The last step undoes everything before it, so it has none: the digest must be what it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

READER = "fp_kinds_reader"
WRITER = "fp_kinds_writer"

#: What all cases stand on, in a database of their own. `app` and `public` are covered; `other` is not.
GROUND: Final = """
CREATE SCHEMA app; CREATE SCHEMA other;
CREATE TYPE app.mood AS ENUM ('sad', 'ok');
CREATE TABLE app.base (id int PRIMARY KEY, note text, price numeric(8,2), at timestamptz, code varchar(8), tags text[], n int);
CREATE TABLE app.child (id int, base_id int);
CREATE TABLE app.filled (id int, n int);
CREATE TABLE app.parent (id int, note text);
CREATE TABLE app.heir (id int, note text);
CREATE TABLE app.measured (at date NOT NULL, value int) PARTITION BY RANGE (at);
CREATE TABLE app.loose (at date NOT NULL, value int);
CREATE TABLE other.outside (id int PRIMARY KEY, kind text);
CREATE TYPE other.shade AS ENUM ('dark');
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION app.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION app.both(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
CREATE FUNCTION app.less(app.mood, app.mood) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 < $2';
CREATE FUNCTION app.more(app.mood, app.mood) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > $2';
CREATE FUNCTION app.order_of(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION app.as_number(app.mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION app.granted() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE VIEW app.seen AS SELECT id, note FROM app.base;
CREATE SEQUENCE app.counter;
CREATE DOMAIN app.word AS text;
CREATE MATERIALIZED VIEW app.kept AS SELECT id FROM app.base;
CREATE INDEX base_note ON app.base (note);
CREATE UNIQUE INDEX base_n ON app.base (n);
ALTER TABLE app.base ALTER COLUMN n SET NOT NULL;
CREATE FOREIGN DATA WRAPPER wrapper; CREATE SERVER far FOREIGN DATA WRAPPER wrapper;
CREATE FOREIGN TABLE app.remote (id int) SERVER far;
CREATE PUBLICATION stream;
GRANT USAGE ON SCHEMA other TO PUBLIC;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind or aspect."""

    name: str
    steps: tuple[tuple[str, str], ...]  # SQL, the changes that it must cause (one a line); the last: ""
    since: int = 14  # major version


CASES: list[Case] = []


def case(name: str, *steps: tuple[str, str] | str, since: int = 14) -> None:
    """Add a case: pairs of SQL and changes, and at last the SQL that undoes them."""
    *pairs, undo = steps
    assert isinstance(undo, str) and all(isinstance(pair, tuple) for pair in pairs)
    CASES.append(Case(name=name, steps=(*pairs, (undo, "")), since=since))  # type: ignore[arg-type]


# -- tables -------------------------------------------------------------------------------------------------------

case(
    "table",
    ("CREATE TABLE app.t (id int, name text)", "+table app.t\n+column app.t.id\n+column app.t.name"),
    ("ALTER TABLE app.t SET UNLOGGED", "~table app.t"),
    "DROP TABLE app.t",
)
case(
    "table renamed",
    (
        "ALTER TABLE app.heir RENAME TO t",
        "-table app.heir\n-column app.heir.id\n-column app.heir.note\n+table app.t\n+column app.t.id\n+column app.t.note",
    ),
    "ALTER TABLE app.t RENAME TO heir",
)
case(
    "table moved to an uncovered schema",
    ("ALTER TABLE app.heir SET SCHEMA other", "-table app.heir\n-column app.heir.id\n-column app.heir.note"),
    "ALTER TABLE other.heir SET SCHEMA app",
)
case(
    "sequence moved between covered schemas",
    ("ALTER SEQUENCE app.counter SET SCHEMA public", "-sequence app.counter\n+sequence public.counter"),
    "ALTER SEQUENCE public.counter SET SCHEMA app",
)
case(
    "storage parameters",
    ("ALTER TABLE app.heir SET (fillfactor = 70, toast.autovacuum_enabled = false)", "~table app.heir"),
    ("ALTER TABLE app.heir SET (autovacuum_vacuum_scale_factor = 0.01)", "~table app.heir"),
    "ALTER TABLE app.heir RESET (fillfactor, toast.autovacuum_enabled, autovacuum_vacuum_scale_factor)",
)
case(
    "partition",
    (
        "CREATE TABLE app.p1 PARTITION OF app.measured FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "+table app.p1\n+column app.p1.at\n+column app.p1.value",
    ),
    (
        "ALTER TABLE app.measured DETACH PARTITION app.p1;"
        "ALTER TABLE app.measured ATTACH PARTITION app.p1 FOR VALUES FROM ('2026-01-01') TO ('2026-03-01')",
        "~table app.p1",
    ),
    ("ALTER TABLE app.measured DETACH PARTITION app.p1", "~table app.p1\n~column app.p1.at\n~column app.p1.value"),
    "DROP TABLE app.p1",
)
case(
    "attached partition",
    (
        "ALTER TABLE app.measured ATTACH PARTITION app.loose DEFAULT",
        "~table app.loose\n~column app.loose.at\n~column app.loose.value",
    ),
    "ALTER TABLE app.measured DETACH PARTITION app.loose",
)
case(
    "partition key",
    (
        "CREATE TABLE app.pt (a int, b int) PARTITION BY LIST (a)",
        "+table app.pt\n+column app.pt.a\n+column app.pt.b",
    ),
    ("DROP TABLE app.pt; CREATE TABLE app.pt (a int, b int) PARTITION BY HASH (b)", "~table app.pt"),
    "DROP TABLE app.pt",
)
case(
    "inheritance",
    ("ALTER TABLE app.heir INHERIT app.parent", "~table app.heir"),
    "ALTER TABLE app.heir NO INHERIT app.parent",
)
case(
    "inherited table",
    (
        "CREATE TABLE app.young (age int) INHERITS (app.parent)",
        "+table app.young\n+column app.young.age\n+column app.young.id\n+column app.young.note",
    ),
    ("ALTER TABLE app.young NO INHERIT app.parent", "~table app.young\n~column app.young.id\n~column app.young.note"),
    "DROP TABLE app.young",
)
case(
    "typed table",
    (
        "CREATE TYPE app.row AS (id int, name text); CREATE TABLE app.rows OF app.row",
        "+type app.row\n+table app.rows\n+column app.rows.id\n+column app.rows.name",
    ),
    ("ALTER TABLE app.rows NOT OF", "~table app.rows"),
    "DROP TABLE app.rows; DROP TYPE app.row",
)
case(
    "row level security",
    ("ALTER TABLE app.base ENABLE ROW LEVEL SECURITY", "~table app.base"),
    ("ALTER TABLE app.base FORCE ROW LEVEL SECURITY", "~table app.base"),
    ("ALTER TABLE app.base DISABLE ROW LEVEL SECURITY", "~table app.base"),
    "ALTER TABLE app.base NO FORCE ROW LEVEL SECURITY",
)
case(
    "replica identity",
    ("ALTER TABLE app.base REPLICA IDENTITY FULL", "~table app.base"),
    ("ALTER TABLE app.base REPLICA IDENTITY NOTHING", "~table app.base"),
    ("ALTER TABLE app.base REPLICA IDENTITY USING INDEX base_n", "~table app.base"),
    "ALTER TABLE app.base REPLICA IDENTITY DEFAULT",
)
case(
    "table access method",
    ("CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler", "+access method heap2"),
    ("CREATE TABLE app.am (id int) USING heap2", "+table app.am\n+column app.am.id"),
    ("DROP TABLE app.am; CREATE TABLE app.am (id int)", "~table app.am"),
    "DROP TABLE app.am; DROP ACCESS METHOD heap2",
)

# -- columns ------------------------------------------------------------------------------------------------------

case(
    "column",
    ("ALTER TABLE app.base ADD c int", "+column app.base.c"),
    ("ALTER TABLE app.base ALTER c TYPE bigint", "~column app.base.c"),
    ("ALTER TABLE app.base RENAME c TO d", "-column app.base.c\n+column app.base.d"),
    "ALTER TABLE app.base DROP d",
)
case(
    "column default",
    ("ALTER TABLE app.heir ALTER note SET DEFAULT 'x'", "~column app.heir.note"),
    ("ALTER TABLE app.heir ALTER note SET DEFAULT 'y'", "~column app.heir.note"),
    "ALTER TABLE app.heir ALTER note DROP DEFAULT",
)
case(
    "column not null",
    ("ALTER TABLE app.heir ALTER note SET NOT NULL", "~column app.heir.note"),
    "ALTER TABLE app.heir ALTER note DROP NOT NULL",
)
case(
    "column length",
    ("ALTER TABLE app.loose ADD c varchar(10)", "+column app.loose.c"),
    ("ALTER TABLE app.loose ALTER c TYPE varchar(20)", "~column app.loose.c"),
    ("ALTER TABLE app.loose ALTER c TYPE text", "~column app.loose.c"),
    "ALTER TABLE app.loose DROP c",
)
case(
    "column collation",
    ('ALTER TABLE app.heir ALTER note TYPE text COLLATE "C"', "~column app.heir.note"),
    'ALTER TABLE app.heir ALTER note TYPE text COLLATE "default"',
)
case(
    "identity",
    ("ALTER TABLE app.loose ADD c int GENERATED ALWAYS AS IDENTITY", "+column app.loose.c\n+sequence app.loose_c_seq"),
    ("ALTER TABLE app.loose ALTER c SET GENERATED BY DEFAULT", "~column app.loose.c"),
    ("ALTER TABLE app.loose ALTER c SET INCREMENT BY 5", "~sequence app.loose_c_seq"),
    ("ALTER TABLE app.loose ALTER c DROP IDENTITY", "~column app.loose.c\n-sequence app.loose_c_seq"),
    "ALTER TABLE app.loose DROP c",
)
case(
    "serial",
    ("ALTER TABLE app.loose ADD c bigserial", "+column app.loose.c\n+sequence app.loose_c_seq"),
    ("ALTER SEQUENCE app.loose_c_seq OWNED BY NONE", "~sequence app.loose_c_seq"),
    "ALTER TABLE app.loose DROP c; DROP SEQUENCE app.loose_c_seq",
)
case(
    "generated column",
    ("ALTER TABLE app.loose ADD c int GENERATED ALWAYS AS (value * 2) STORED", "+column app.loose.c"),
    ("ALTER TABLE app.loose ALTER c DROP EXPRESSION", "~column app.loose.c"),
    "ALTER TABLE app.loose DROP c",
)
case(
    "generated column's expression",
    ("ALTER TABLE app.loose ADD c int GENERATED ALWAYS AS (value * 2) STORED", "+column app.loose.c"),
    ("ALTER TABLE app.loose ALTER c SET EXPRESSION AS (value * 3)", "~column app.loose.c"),
    "ALTER TABLE app.loose DROP c",
    since=17,
)
case(
    "virtual column",
    ("ALTER TABLE app.loose ADD c int GENERATED ALWAYS AS (value * 2) VIRTUAL", "+column app.loose.c"),
    "ALTER TABLE app.loose DROP c",
    since=18,
)
case(
    "column storage",
    ("ALTER TABLE app.heir ALTER note SET STORAGE EXTERNAL", "~column app.heir.note"),
    ("ALTER TABLE app.heir ALTER note SET STORAGE MAIN", "~column app.heir.note"),
    "ALTER TABLE app.heir ALTER note SET STORAGE EXTENDED",
)
case(
    "column compression",
    ("ALTER TABLE app.heir ALTER note SET COMPRESSION pglz", "~column app.heir.note"),
    "ALTER TABLE app.heir ALTER note SET COMPRESSION default",
)
case(
    "column statistics target",
    ("ALTER TABLE app.heir ALTER note SET STATISTICS 500", "~column app.heir.note"),
    "ALTER TABLE app.heir ALTER note SET STATISTICS -1",
)
case(
    "column options",
    ("ALTER TABLE app.heir ALTER note SET (n_distinct = -0.5)", "~column app.heir.note"),
    "ALTER TABLE app.heir ALTER note RESET (n_distinct)",
)
case(
    "view column default",
    ("ALTER VIEW app.seen ALTER note SET DEFAULT 'x'", "+column app.seen.note"),
    "ALTER VIEW app.seen ALTER note DROP DEFAULT",
)

# -- constraints --------------------------------------------------------------------------------------------------

case(
    "check constraint",
    ("ALTER TABLE app.loose ADD CONSTRAINT c CHECK (value > 0) NOT VALID", "+constraint app.loose.c"),
    ("ALTER TABLE app.loose VALIDATE CONSTRAINT c", "~constraint app.loose.c"),
    (
        "ALTER TABLE app.loose RENAME CONSTRAINT c TO d",
        "-constraint app.loose.c\n+constraint app.loose.d",
    ),
    "ALTER TABLE app.loose DROP CONSTRAINT d",
)
case(
    "inherited check constraint shows at its parent alone",
    (
        "CREATE TABLE app.p2 PARTITION OF app.measured FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "+table app.p2\n+column app.p2.at\n+column app.p2.value",
    ),
    ("ALTER TABLE app.measured ADD CONSTRAINT c CHECK (value > 0)", "+constraint app.measured.c"),
    "ALTER TABLE app.measured DROP CONSTRAINT c; DROP TABLE app.p2",
)
case(
    "foreign key",
    (
        "ALTER TABLE app.child ADD CONSTRAINT f FOREIGN KEY (base_id) REFERENCES app.base NOT VALID",
        "+constraint app.child.f",
    ),
    ("ALTER TABLE app.child VALIDATE CONSTRAINT f", "~constraint app.child.f"),
    ("ALTER TABLE app.child ALTER CONSTRAINT f DEFERRABLE INITIALLY DEFERRED", "~constraint app.child.f"),
    ("ALTER TABLE app.child DISABLE TRIGGER ALL", "~constraint app.child.f"),
    ("ALTER TABLE app.child ENABLE TRIGGER ALL", "~constraint app.child.f"),
    (
        "ALTER TABLE app.child DROP CONSTRAINT f, ADD CONSTRAINT f FOREIGN KEY (base_id) REFERENCES app.base ON DELETE CASCADE",
        "~constraint app.child.f",
    ),
    "ALTER TABLE app.child DROP CONSTRAINT f",
)
case(
    "primary key",
    ("ALTER TABLE app.child ADD CONSTRAINT k PRIMARY KEY (id)", "+constraint app.child.k\n~column app.child.id"),
    ("ALTER INDEX app.k SET (fillfactor = 60)", "~constraint app.child.k"),
    ("ALTER TABLE app.child CLUSTER ON k", "~constraint app.child.k"),
    "ALTER TABLE app.child DROP CONSTRAINT k; ALTER TABLE app.child ALTER id DROP NOT NULL",
)
case(
    "unique constraint",
    ("ALTER TABLE app.child ADD CONSTRAINT u UNIQUE (id) DEFERRABLE", "+constraint app.child.u"),
    ("ALTER TABLE app.child DISABLE TRIGGER ALL", "~constraint app.child.u"),
    ("ALTER TABLE app.child DROP CONSTRAINT u, ADD CONSTRAINT u UNIQUE (id, base_id)", "~constraint app.child.u"),
    "ALTER TABLE app.child DROP CONSTRAINT u",
)
case(
    "unique nulls not distinct",
    ("ALTER TABLE app.child ADD CONSTRAINT u UNIQUE NULLS NOT DISTINCT (id)", "+constraint app.child.u"),
    ("ALTER TABLE app.child DROP CONSTRAINT u, ADD CONSTRAINT u UNIQUE (id)", "~constraint app.child.u"),
    "ALTER TABLE app.child DROP CONSTRAINT u",
    since=15,
)
case(
    "exclusion constraint",
    (
        "ALTER TABLE app.child ADD CONSTRAINT x EXCLUDE USING gist (int4range(id, base_id) WITH &&)",
        "+constraint app.child.x",
    ),
    ("ALTER INDEX app.x ALTER COLUMN 1 SET STATISTICS 50", "~constraint app.child.x"),
    (
        "ALTER TABLE app.child DROP CONSTRAINT x,"
        " ADD CONSTRAINT x EXCLUDE USING gist (int4range(id, base_id) WITH &&) WHERE (id > 0)",
        "~constraint app.child.x",
    ),
    "ALTER TABLE app.child DROP CONSTRAINT x",
)
case(
    "named not null constraint",
    (
        "ALTER TABLE app.child ADD CONSTRAINT there NOT NULL base_id NOT VALID",
        "+not null constraint app.child.there\n~column app.child.base_id",
    ),
    ("ALTER TABLE app.child VALIDATE CONSTRAINT there", "~not null constraint app.child.there"),
    "ALTER TABLE app.child DROP CONSTRAINT there",
    since=18,
)
case(
    "not enforced",
    ("ALTER TABLE app.loose ADD CONSTRAINT c CHECK (value > 0) NOT ENFORCED", "+constraint app.loose.c"),
    "ALTER TABLE app.loose DROP CONSTRAINT c",
    since=18,
)

# -- indexes, statistics ------------------------------------------------------------------------------------------

case(
    "index",
    ("CREATE INDEX i ON app.base (code)", "+index app.i"),
    ("ALTER INDEX app.i SET (fillfactor = 60)", "~index app.i"),
    ("ALTER INDEX app.i RENAME TO j", "-index app.i\n+index app.j"),
    ("DROP INDEX app.j; CREATE INDEX j ON app.base (code DESC)", "~index app.j"),
    ("DROP INDEX app.j; CREATE UNIQUE INDEX j ON app.base (lower(code)) WHERE n > 0", "~index app.j"),
    ("ALTER INDEX app.j ALTER COLUMN 1 SET STATISTICS 50", "~index app.j"),
    "DROP INDEX app.j",
)
case(
    "index validity",
    ("CREATE INDEX i ON app.base (code)", "+index app.i"),
    ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.i'::regclass", "~index app.i"),
    "DROP INDEX app.i",
)
case(
    "index clustered on",
    ("ALTER TABLE app.base CLUSTER ON base_note", "~index app.base_note"),
    "ALTER TABLE app.base SET WITHOUT CLUSTER",
)
case(
    "attached index",
    (
        "CREATE TABLE app.p3 PARTITION OF app.measured FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');"
        "CREATE INDEX whole ON ONLY app.measured (value); CREATE INDEX piece ON app.p3 (value)",
        "+table app.p3\n+column app.p3.at\n+column app.p3.value\n+index app.whole\n+index app.piece",
    ),
    ("ALTER INDEX app.whole ATTACH PARTITION app.piece", "~index app.piece\n~index app.whole"),
    "DROP INDEX app.whole; DROP TABLE app.p3",
)
case(
    "statistics object",
    ("CREATE STATISTICS app.s ON n, code FROM app.base", "+statistics app.s"),
    ("ALTER STATISTICS app.s SET STATISTICS 300", "~statistics app.s"),
    ("DROP STATISTICS app.s; CREATE STATISTICS app.s (mcv) ON n, code FROM app.base", "~statistics app.s"),
    "DROP STATISTICS app.s",
)
case(
    "statistics object on an uncovered table",
    ("CREATE STATISTICS app.s ON id, kind FROM other.outside", "+statistics app.s"),
    "DROP STATISTICS app.s",
)

# -- sequences, views ---------------------------------------------------------------------------------------------

case(
    "sequence",
    ("CREATE SEQUENCE app.s", "+sequence app.s"),
    ("ALTER SEQUENCE app.s INCREMENT 2", "~sequence app.s"),
    ("ALTER SEQUENCE app.s AS smallint MAXVALUE 100", "~sequence app.s"),
    ("ALTER SEQUENCE app.s CYCLE CACHE 5 MINVALUE -5", "~sequence app.s"),
    ("ALTER SEQUENCE app.s START 7", "~sequence app.s"),
    ("ALTER SEQUENCE app.s OWNED BY app.child.id", "~sequence app.s"),
    "DROP SEQUENCE app.s",
)
case(
    "unlogged sequence",
    ("CREATE UNLOGGED SEQUENCE app.s", "+sequence app.s"),
    ("ALTER SEQUENCE app.s SET LOGGED", "~sequence app.s"),
    "DROP SEQUENCE app.s",
    since=15,
)
case(
    "view",
    ("CREATE VIEW app.v AS SELECT id FROM app.base", "+view app.v"),
    ("CREATE OR REPLACE VIEW app.v AS SELECT id FROM app.base WHERE n > 0", "~view app.v"),
    ("CREATE OR REPLACE VIEW app.v AS SELECT id, note FROM app.base WHERE n > 0", "~view app.v"),
    ("ALTER VIEW app.v SET (security_barrier = true)", "~view app.v"),
    ("ALTER VIEW app.v RENAME COLUMN note TO remark", "~view app.v"),
    "DROP VIEW app.v",
)
case(
    "view with a constant changed",
    ("CREATE VIEW app.v AS SELECT id FROM app.base WHERE note = 'a'", "+view app.v"),
    ("CREATE OR REPLACE VIEW app.v AS SELECT id FROM app.base WHERE note = 'b'", "~view app.v"),
    "DROP VIEW app.v",
)
case(
    "security invoker",
    ("ALTER VIEW app.seen SET (security_invoker = true)", "~view app.seen"),
    "ALTER VIEW app.seen RESET (security_invoker)",
    since=15,
)
case(
    "materialized view",
    ("CREATE MATERIALIZED VIEW app.m AS SELECT id FROM app.base", "+materialized view app.m"),
    ("CREATE UNIQUE INDEX m_id ON app.m (id)", "+index app.m_id"),
    ("ALTER MATERIALIZED VIEW app.m SET (fillfactor = 50)", "~materialized view app.m"),
    (
        "DROP MATERIALIZED VIEW app.m; CREATE MATERIALIZED VIEW app.m WITH (fillfactor = 50) AS SELECT id FROM app.base WHERE n > 0",
        "~materialized view app.m\n-index app.m_id",
    ),
    "DROP MATERIALIZED VIEW app.m",
)

# -- routines -----------------------------------------------------------------------------------------------------

case(
    "function",
    ("CREATE FUNCTION app.f(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'", "+function app.f(integer)"),
    ("CREATE OR REPLACE FUNCTION app.f(a int) RETURNS int LANGUAGE sql AS 'SELECT 2'", "~function app.f(integer)"),
    ("ALTER FUNCTION app.f IMMUTABLE", "~function app.f(integer)"),
    ("ALTER FUNCTION app.f STRICT SECURITY DEFINER PARALLEL SAFE COST 7 LEAKPROOF", "~function app.f(integer)"),
    ("ALTER FUNCTION app.f SET search_path = ''", "~function app.f(integer)"),
    (
        "CREATE FUNCTION app.f(a text) RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "+function app.f(text)",
    ),
    "DROP FUNCTION app.f(int); DROP FUNCTION app.f(text)",
)
case(
    "function's argument names and defaults",
    ("CREATE FUNCTION app.f(a int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1'", "+function app.f(integer)"),
    (
        "CREATE OR REPLACE FUNCTION app.f(a int DEFAULT 2) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "~function app.f(integer)",
    ),
    "DROP FUNCTION app.f(int)",
)
case(
    "function with a parsed body",
    ("CREATE FUNCTION app.f(a int) RETURNS int LANGUAGE sql RETURN a + 1", "+function app.f(integer)"),
    ("CREATE OR REPLACE FUNCTION app.f(a int) RETURNS int LANGUAGE sql RETURN a + 2", "~function app.f(integer)"),
    "DROP FUNCTION app.f(int)",
)
case(
    "procedure",
    ("CREATE PROCEDURE app.p(a int) LANGUAGE plpgsql AS 'BEGIN END'", "+procedure app.p(integer)"),
    (
        "CREATE OR REPLACE PROCEDURE app.p(a int) LANGUAGE plpgsql AS 'BEGIN NULL; END'",
        "~procedure app.p(integer)",
    ),
    "DROP PROCEDURE app.p(int)",
)
case(
    "aggregate",
    ("CREATE AGGREGATE app.total(int) (SFUNC = app.both, STYPE = int)", "+aggregate app.total(integer)"),
    (
        "CREATE OR REPLACE AGGREGATE app.total(int) (SFUNC = app.both, STYPE = int, INITCOND = '5', PARALLEL = SAFE)",
        "~aggregate app.total(integer)",
    ),
    "DROP AGGREGATE app.total(int)",
)
case(
    "operator",
    (
        "CREATE OPERATOR app.<+> (LEFTARG = app.mood, RIGHTARG = app.mood, FUNCTION = app.less)",
        "+operator app.<+>(app.mood, app.mood)",
    ),
    (
        "ALTER OPERATOR app.<+> (app.mood, app.mood) SET (RESTRICT = scalarltsel)",
        "~operator app.<+>(app.mood, app.mood)",
    ),
    "DROP OPERATOR app.<+> (app.mood, app.mood)",
)
case(
    "operator family and class",
    ("CREATE OPERATOR FAMILY app.fam USING btree", "+operator family app.fam using btree"),
    (
        "CREATE OPERATOR app.<<< (LEFTARG = app.mood, RIGHTARG = app.mood, FUNCTION = app.less)",
        "+operator app.<<<(app.mood, app.mood)",
    ),
    (
        "ALTER OPERATOR FAMILY app.fam USING btree ADD OPERATOR 1 app.<<< (app.mood, app.mood)",
        "~operator family app.fam using btree",
    ),
    (
        "CREATE OPERATOR CLASS app.cls FOR TYPE app.mood USING btree FAMILY app.fam AS FUNCTION 1 enum_cmp(anyenum, anyenum)",
        "+operator class app.cls using btree\n~operator family app.fam using btree",
    ),
    (
        "ALTER OPERATOR CLASS app.cls USING btree RENAME TO cls2",
        "-operator class app.cls using btree\n+operator class app.cls2 using btree",
    ),
    "DROP OPERATOR FAMILY app.fam USING btree CASCADE; DROP OPERATOR app.<<< (app.mood, app.mood)",
)
case(
    "cast",
    ("CREATE CAST (app.mood AS int) WITH FUNCTION app.as_number(app.mood)", "+cast app.mood as integer"),
    (
        "DROP CAST (app.mood AS int); CREATE CAST (app.mood AS int) WITH FUNCTION app.as_number(app.mood) AS IMPLICIT",
        "~cast app.mood as integer",
    ),
    "DROP CAST (app.mood AS int)",
)
case(
    "language",
    ("CREATE LANGUAGE pl2 HANDLER plpgsql_call_handler", "+language pl2"),
    ("CREATE OR REPLACE TRUSTED LANGUAGE pl2 HANDLER plpgsql_call_handler", "~language pl2"),
    (
        "CREATE OR REPLACE TRUSTED LANGUAGE pl2 HANDLER plpgsql_call_handler INLINE plpgsql_inline_handler VALIDATOR plpgsql_validator",
        "~language pl2",
    ),
    "DROP LANGUAGE pl2",
)
case(
    "transform",
    (
        "CREATE FUNCTION app.from_sql(internal) RETURNS internal LANGUAGE internal IMMUTABLE AS 'boolin';"
        "CREATE FUNCTION app.to_sql(internal) RETURNS app.mood LANGUAGE internal IMMUTABLE AS 'boolin'",
        "+function app.from_sql(internal)\n+function app.to_sql(internal)",
    ),
    (
        "CREATE TRANSFORM FOR app.mood LANGUAGE plpgsql (FROM SQL WITH FUNCTION app.from_sql(internal))",
        "+transform app.mood for plpgsql",
    ),
    (
        "CREATE OR REPLACE TRANSFORM FOR app.mood LANGUAGE plpgsql"
        " (FROM SQL WITH FUNCTION app.from_sql(internal), TO SQL WITH FUNCTION app.to_sql(internal))",
        "~transform app.mood for plpgsql",
    ),
    "DROP TRANSFORM FOR app.mood LANGUAGE plpgsql; DROP FUNCTION app.from_sql(internal), app.to_sql(internal)",
)

# -- triggers, rules, policies ------------------------------------------------------------------------------------

case(
    "trigger",
    (
        "CREATE TRIGGER t BEFORE UPDATE ON app.base FOR EACH ROW EXECUTE FUNCTION app.touch()",
        "+trigger app.base.t",
    ),
    ("ALTER TABLE app.base DISABLE TRIGGER t", "~trigger app.base.t"),
    ("ALTER TABLE app.base ENABLE REPLICA TRIGGER t", "~trigger app.base.t"),
    ("ALTER TABLE app.base ENABLE ALWAYS TRIGGER t", "~trigger app.base.t"),
    (
        "CREATE OR REPLACE TRIGGER t BEFORE UPDATE OF note ON app.base FOR EACH ROW EXECUTE FUNCTION app.touch()",
        "~trigger app.base.t",
    ),
    "DROP TRIGGER t ON app.base",
)
case(
    "trigger of a partitioned table",
    (
        "CREATE TABLE app.p4 PARTITION OF app.measured FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "+table app.p4\n+column app.p4.at\n+column app.p4.value",
    ),
    (
        "CREATE TRIGGER t AFTER INSERT ON app.measured FOR EACH ROW EXECUTE FUNCTION app.touch()",
        "+trigger app.measured.t",
    ),
    ("ALTER TABLE app.p4 DISABLE TRIGGER t", "+trigger app.p4.t"),
    "DROP TRIGGER t ON app.measured; DROP TABLE app.p4",
)
case(
    "event trigger",
    ("CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION app.watch()", "+event trigger e"),
    ("ALTER EVENT TRIGGER e DISABLE", "~event trigger e"),
    (
        "DROP EVENT TRIGGER e; CREATE EVENT TRIGGER e ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION app.watch()",
        "~event trigger e",
    ),
    "DROP EVENT TRIGGER e",
)
case(
    "rule",
    ("CREATE RULE r AS ON INSERT TO app.child DO INSTEAD NOTHING", "+rule app.child.r"),
    ("CREATE OR REPLACE RULE r AS ON INSERT TO app.child DO ALSO NOTIFY app", "~rule app.child.r"),
    ("ALTER TABLE app.child DISABLE RULE r", "~rule app.child.r"),
    "DROP RULE r ON app.child",
)
case(
    "policy",
    ("CREATE POLICY p ON app.base USING (n > 0)", "+policy app.base.p"),
    ("ALTER POLICY p ON app.base USING (n > 1)", "~policy app.base.p"),
    ("ALTER POLICY p ON app.base WITH CHECK (n > 1)", "~policy app.base.p"),
    (f"ALTER POLICY p ON app.base TO {READER}", "~policy app.base.p"),
    (
        "DROP POLICY p ON app.base; CREATE POLICY p ON app.base AS RESTRICTIVE FOR SELECT USING (n > 1)",
        "~policy app.base.p",
    ),
    "DROP POLICY p ON app.base",
)

# -- types --------------------------------------------------------------------------------------------------------

case(
    "enum",
    ("CREATE TYPE app.e AS ENUM ('a', 'b')", "+type app.e"),
    ("ALTER TYPE app.e ADD VALUE 'c' BEFORE 'b'", "~type app.e"),
    ("ALTER TYPE app.e RENAME VALUE 'a' TO 'x'", "~type app.e"),
    "DROP TYPE app.e",
)
case(
    "domain",
    ("CREATE DOMAIN app.d AS text", "+domain app.d"),
    ("ALTER DOMAIN app.d SET DEFAULT 'x'", "~domain app.d"),
    ("ALTER DOMAIN app.d SET NOT NULL", "~domain app.d"),
    ("ALTER DOMAIN app.d ADD CONSTRAINT short CHECK (length(VALUE) < 5) NOT VALID", "+constraint app.d.short"),
    ("ALTER DOMAIN app.d VALIDATE CONSTRAINT short", "~constraint app.d.short"),
    "DROP DOMAIN app.d",
)
case(
    "composite type",
    ("CREATE TYPE app.c AS (a int, b text)", "+type app.c"),
    ("ALTER TYPE app.c ALTER ATTRIBUTE a TYPE bigint", "~type app.c"),
    ("ALTER TYPE app.c ADD ATTRIBUTE z int", "~type app.c"),
    "DROP TYPE app.c",
)
case(
    "range type",
    ("CREATE TYPE app.r AS RANGE (SUBTYPE = float8)", "+type app.r"),
    ("DROP TYPE app.r; CREATE TYPE app.r AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi)", "~type app.r"),
    "DROP TYPE app.r",
)
case(
    "base type",
    (
        "CREATE TYPE app.b; CREATE FUNCTION app.b_in(cstring) RETURNS app.b LANGUAGE internal IMMUTABLE STRICT AS 'int4in';"
        "CREATE FUNCTION app.b_out(app.b) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out'",
        "+type app.b\n+function app.b_in(cstring)\n+function app.b_out(app.b)",
    ),
    (
        "CREATE TYPE app.b (INPUT = app.b_in, OUTPUT = app.b_out, INTERNALLENGTH = 4, PASSEDBYVALUE, ALIGNMENT = int4)",
        "~type app.b",
    ),
    ("COMMENT ON TYPE app.b IS 'x'", "+comment on type app.b"),
    "DROP TYPE app.b CASCADE",
)
case(
    "collation",
    ("CREATE COLLATION app.c (LOCALE = 'C')", "+collation app.c"),
    ("DROP COLLATION app.c; CREATE COLLATION app.c (LOCALE = 'POSIX')", "~collation app.c"),
    ("ALTER COLLATION app.c RENAME TO d", "-collation app.c\n+collation app.d"),
    "DROP COLLATION app.d",
)
case(
    "conversion",
    ("CREATE CONVERSION app.c FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8", "+conversion app.c"),
    (
        "DROP CONVERSION app.c; CREATE DEFAULT CONVERSION app.c FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
        "~conversion app.c",
    ),
    "DROP CONVERSION app.c",
)
case(
    "text search",
    ("CREATE TEXT SEARCH DICTIONARY app.d (TEMPLATE = simple)", "+text search dictionary app.d"),
    ("ALTER TEXT SEARCH DICTIONARY app.d (ACCEPT = false)", "~text search dictionary app.d"),
    ('CREATE TEXT SEARCH CONFIGURATION app.c (PARSER = "default")', "+text search configuration app.c"),
    ("ALTER TEXT SEARCH CONFIGURATION app.c ADD MAPPING FOR word WITH app.d", "~text search configuration app.c"),
    ("ALTER TEXT SEARCH CONFIGURATION app.c ALTER MAPPING FOR word WITH simple", "~text search configuration app.c"),
    "DROP TEXT SEARCH CONFIGURATION app.c; DROP TEXT SEARCH DICTIONARY app.d",
)
case(
    "text search parser and template",
    (
        "CREATE TEXT SEARCH PARSER app.p (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype)",
        "+text search parser app.p",
    ),
    ("CREATE TEXT SEARCH TEMPLATE app.t (LEXIZE = dsimple_lexize)", "+text search template app.t"),
    (
        "DROP TEXT SEARCH TEMPLATE app.t; CREATE TEXT SEARCH TEMPLATE app.t (INIT = dsimple_init, LEXIZE = dsimple_lexize)",
        "~text search template app.t",
    ),
    "DROP TEXT SEARCH PARSER app.p; DROP TEXT SEARCH TEMPLATE app.t",
)

# -- grants -------------------------------------------------------------------------------------------------------

case(
    "grant on a table",
    (f"GRANT SELECT ON app.base TO {READER}", f"+grant to {READER} on table app.base"),
    (f"GRANT UPDATE ON app.base TO {READER}", f"~grant to {READER} on table app.base"),
    (f"GRANT UPDATE ON app.base TO {READER} WITH GRANT OPTION", f"~grant to {READER} on table app.base"),
    ("GRANT SELECT ON app.base TO PUBLIC", "+grant to PUBLIC on table app.base"),
    f"REVOKE ALL ON app.base FROM {READER}; REVOKE ALL ON app.base FROM PUBLIC",
)
case(
    "grant on a column",
    (f"GRANT SELECT (note) ON app.base TO {READER}", f"+grant to {READER} on column app.base.note"),
    (f"GRANT UPDATE (note) ON app.base TO {READER}", f"~grant to {READER} on column app.base.note"),
    f"REVOKE ALL (note) ON app.base FROM {READER}",
)
case(
    "grant on views, sequences, foreign tables",
    (
        f"GRANT SELECT ON app.seen, app.kept, app.remote TO {READER}; GRANT USAGE ON SEQUENCE app.counter TO {READER}",
        f"+grant to {READER} on view app.seen\n+grant to {READER} on materialized view app.kept\n"
        f"+grant to {READER} on foreign table app.remote\n+grant to {READER} on sequence app.counter",
    ),
    (f"GRANT SELECT (id) ON app.seen TO {WRITER}", f"+grant to {WRITER} on column app.seen.id"),
    f"REVOKE ALL ON app.seen, app.kept, app.remote FROM {READER}, {WRITER}; REVOKE ALL ON SEQUENCE app.counter FROM {READER}",
)
case(
    "grant on a function",
    ("REVOKE EXECUTE ON FUNCTION app.granted() FROM PUBLIC", "+grant to PUBLIC on function app.granted()"),
    (f"GRANT EXECUTE ON FUNCTION app.granted() TO {READER}", f"+grant to {READER} on function app.granted()"),
    f"GRANT EXECUTE ON FUNCTION app.granted() TO PUBLIC; REVOKE EXECUTE ON FUNCTION app.granted() FROM {READER}",
)
case(
    "grant on types",
    ("REVOKE USAGE ON TYPE app.mood FROM PUBLIC", "+grant to PUBLIC on type app.mood"),
    (f"GRANT USAGE ON DOMAIN app.word TO {READER}", f"+grant to {READER} on domain app.word"),
    f"GRANT USAGE ON TYPE app.mood TO PUBLIC; REVOKE USAGE ON DOMAIN app.word FROM {READER}",
)
case(
    "grant on a schema",
    (f"GRANT USAGE ON SCHEMA app TO {READER}", f"+grant to {READER} on schema app"),
    (f"GRANT CREATE ON SCHEMA app TO {READER}", f"~grant to {READER} on schema app"),
    f"REVOKE ALL ON SCHEMA app FROM {READER}",
)
case(
    "grant on a language, a wrapper, a server",
    ("REVOKE USAGE ON LANGUAGE sql FROM PUBLIC; GRANT USAGE ON LANGUAGE sql TO PUBLIC", ""),
    (f"GRANT USAGE ON FOREIGN SERVER far TO {READER}", f"+grant to {READER} on foreign server far"),
    (
        f"GRANT USAGE ON FOREIGN DATA WRAPPER wrapper TO {READER}",
        f"+grant to {READER} on foreign data wrapper wrapper",
    ),
    f"REVOKE USAGE ON FOREIGN SERVER far FROM {READER}; REVOKE USAGE ON FOREIGN DATA WRAPPER wrapper FROM {READER}",
)
case(
    "grant to a member of an owner's role",
    (
        f"ALTER TABLE app.heir OWNER TO {WRITER}; GRANT SELECT ON app.heir TO postgres",
        "+grant to postgres on table app.heir",
    ),
    "REVOKE SELECT ON app.heir FROM postgres; ALTER TABLE app.heir OWNER TO postgres",
)
case(
    "default privileges",
    (
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO {READER}",
        f"+default privileges of postgres on tables to {READER} in schema app",
    ),
    (
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT INSERT ON TABLES TO {READER}",
        f"~default privileges of postgres on tables to {READER} in schema app",
    ),
    (
        "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        "+default privileges of postgres on functions to PUBLIC",
    ),
    (
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {WRITER} GRANT USAGE ON SCHEMAS TO {READER}",
        f"+default privileges of {WRITER} on schemas to {READER}",
    ),
    f"ALTER DEFAULT PRIVILEGES IN SCHEMA app REVOKE ALL ON TABLES FROM {READER};"
    "ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;"
    f"ALTER DEFAULT PRIVILEGES FOR ROLE {WRITER} REVOKE USAGE ON SCHEMAS FROM {READER}",
)

# -- comments -----------------------------------------------------------------------------------------------------

_COMMENTS: tuple[tuple[str, str], ...] = (
    ("TABLE app.base", "table app.base"),
    ("COLUMN app.base.note", "column app.base.note"),
    ("COLUMN app.seen.note", "column app.seen.note"),
    ("CONSTRAINT base_pkey ON app.base", "constraint app.base.base_pkey"),
    ("INDEX app.base_note", "index app.base.base_note"),
    ("INDEX app.base_pkey", "index app.base.base_pkey"),
    ("VIEW app.seen", "view app.seen"),
    ("MATERIALIZED VIEW app.kept", "materialized view app.kept"),
    ("SEQUENCE app.counter", "sequence app.counter"),
    ("FUNCTION app.granted()", "function app.granted()"),
    ("TYPE app.mood", "type app.mood"),
    ("DOMAIN app.word", "domain app.word"),
    ("SCHEMA app", "schema app"),
    ("FOREIGN TABLE app.remote", "foreign table app.remote"),
    ("SERVER far", "foreign server far"),
    ("FOREIGN DATA WRAPPER wrapper", "foreign data wrapper wrapper"),
    ("PUBLICATION stream", "publication stream"),
)
case(
    "comments",
    *((f"COMMENT ON {sql} IS 'one'", f"+comment on {label}") for sql, label in _COMMENTS),
    ("COMMENT ON TABLE app.base IS E'two\\nlines\\t\\\\ \\u00e9 \\\\N'", "~comment on table app.base"),
    "; ".join(f"COMMENT ON {sql} IS NULL" for sql, _ in _COMMENTS),
)
case(
    "comments on what was made for them",
    (
        "CREATE TYPE app.c AS (a int); CREATE PROCEDURE app.p() LANGUAGE sql AS ''; CREATE STATISTICS app.s ON n, code FROM app.base;"
        "CREATE AGGREGATE app.total(int) (SFUNC = app.both, STYPE = int); CREATE RULE r AS ON INSERT TO app.child DO INSTEAD NOTHING;"
        "CREATE TRIGGER t BEFORE UPDATE ON app.base FOR EACH ROW EXECUTE FUNCTION app.touch(); CREATE POLICY p ON app.base;"
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION app.watch(); CREATE COLLATION app.k (LOCALE = 'C');"
        "CREATE CONVERSION app.v FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8; CREATE CAST (app.mood AS int) WITH FUNCTION app.as_number(app.mood);"
        "CREATE OPERATOR app.<+> (LEFTARG = int, RIGHTARG = int, FUNCTION = app.both); CREATE OPERATOR FAMILY app.fam USING btree;"
        "CREATE OPERATOR CLASS app.cls FOR TYPE app.mood USING btree FAMILY app.fam AS FUNCTION 1 enum_cmp(anyenum, anyenum);"
        'CREATE TEXT SEARCH DICTIONARY app.d (TEMPLATE = simple); CREATE TEXT SEARCH CONFIGURATION app.g (PARSER = "default");'
        "ALTER DOMAIN app.word ADD CONSTRAINT short CHECK (length(VALUE) < 5); CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;"
        "CREATE LANGUAGE pl2 HANDLER plpgsql_call_handler",
        "+type app.c\n+procedure app.p()\n+statistics app.s\n+aggregate app.total(integer)\n+rule app.child.r\n+trigger app.base.t\n"
        "+policy app.base.p\n+event trigger e\n+collation app.k\n+conversion app.v\n+cast app.mood as integer\n"
        "+operator app.<+>(integer, integer)\n+operator family app.fam using btree\n+operator class app.cls using btree\n"
        "+text search dictionary app.d\n+text search configuration app.g\n+constraint app.word.short\n+access method heap2\n+language pl2",
    ),
    (
        "COMMENT ON COLUMN app.c.a IS 'x'; COMMENT ON PROCEDURE app.p() IS 'x'; COMMENT ON STATISTICS app.s IS 'x';"
        "COMMENT ON AGGREGATE app.total(int) IS 'x'; COMMENT ON RULE r ON app.child IS 'x'; COMMENT ON TRIGGER t ON app.base IS 'x';"
        "COMMENT ON POLICY p ON app.base IS 'x'; COMMENT ON EVENT TRIGGER e IS 'x'; COMMENT ON COLLATION app.k IS 'x';"
        "COMMENT ON CONVERSION app.v IS 'x'; COMMENT ON CAST (app.mood AS int) IS 'x'; COMMENT ON OPERATOR app.<+> (int, int) IS 'x';"
        "COMMENT ON OPERATOR FAMILY app.fam USING btree IS 'x'; COMMENT ON OPERATOR CLASS app.cls USING btree IS 'x';"
        "COMMENT ON TEXT SEARCH DICTIONARY app.d IS 'x'; COMMENT ON TEXT SEARCH CONFIGURATION app.g IS 'x';"
        "COMMENT ON CONSTRAINT short ON DOMAIN app.word IS 'x'; COMMENT ON ACCESS METHOD heap2 IS 'x'; COMMENT ON LANGUAGE pl2 IS 'x'",
        "+comment on column app.c.a\n+comment on procedure app.p()\n+comment on statistics app.s\n+comment on aggregate app.total(integer)\n"
        "+comment on rule app.child.r\n+comment on trigger app.base.t\n+comment on policy app.base.p\n+comment on event trigger e\n"
        "+comment on collation app.k\n+comment on conversion app.v\n+comment on cast app.mood as integer\n"
        "+comment on operator app.<+>(integer, integer)\n+comment on operator family app.fam using btree\n"
        "+comment on operator class app.cls using btree\n+comment on text search dictionary app.d\n"
        "+comment on text search configuration app.g\n+comment on constraint app.word.short\n+comment on access method heap2\n"
        "+comment on language pl2",
    ),
    "DROP TYPE app.c; DROP PROCEDURE app.p(); DROP STATISTICS app.s; DROP AGGREGATE app.total(int); DROP RULE r ON app.child;"
    "DROP TRIGGER t ON app.base; DROP POLICY p ON app.base; DROP EVENT TRIGGER e; DROP COLLATION app.k; DROP CONVERSION app.v;"
    "DROP CAST (app.mood AS int); DROP OPERATOR app.<+> (int, int); DROP OPERATOR FAMILY app.fam USING btree CASCADE;"
    "DROP TEXT SEARCH CONFIGURATION app.g; DROP TEXT SEARCH DICTIONARY app.d; ALTER DOMAIN app.word DROP CONSTRAINT short;"
    "DROP ACCESS METHOD heap2; DROP LANGUAGE pl2",
)
case(
    "comments on columns whose names have dots",
    (
        'CREATE TABLE app."a.b" (c int); CREATE TABLE app.a ("b.c" int)',
        "+table app.a.b\n+column app.a.b.c\n+table app.a\n+column app.a.b.c",
    ),
    (
        "COMMENT ON COLUMN app.\"a.b\".c IS 'x'; COMMENT ON COLUMN app.a.\"b.c\" IS 'y'",
        '+comment on column app."a.b".c\n+comment on column app.a."b.c"',
    ),
    ('DROP TABLE app."a.b"', '-table app.a.b\n-column app.a.b.c\n-comment on column app."a.b".c'),
    "DROP TABLE app.a",
)

# -- what belongs to no schema ------------------------------------------------------------------------------------

case(
    "schema",
    ("DROP SCHEMA IF EXISTS late CASCADE; CREATE SCHEMA late", "+schema late"),
    ("COMMENT ON SCHEMA late IS 'x'", "+comment on schema late"),
    "DROP SCHEMA late",
)
case(
    "publication",
    ("CREATE PUBLICATION p FOR TABLE app.base", "+publication p"),
    ("ALTER PUBLICATION p ADD TABLE app.child", "~publication p"),
    ("ALTER PUBLICATION p SET (publish = 'insert', publish_via_partition_root = true)", "~publication p"),
    "DROP PUBLICATION p",
)
case(
    "publication's columns, filter, schemas",
    ("CREATE PUBLICATION p FOR TABLE app.base (id, note)", "+publication p"),
    ("ALTER PUBLICATION p SET TABLE app.base (id, note) WHERE (id > 5)", "~publication p"),
    ("ALTER PUBLICATION p SET TABLES IN SCHEMA app", "~publication p"),
    "DROP PUBLICATION p",
    since=15,
)
case(
    "subscription",
    (
        "CREATE SUBSCRIPTION s CONNECTION 'host=localhost port=1 dbname=x' PUBLICATION p WITH (connect = false, slot_name = NONE)",
        "+subscription s",
    ),
    ("ALTER SUBSCRIPTION s SET PUBLICATION q WITH (refresh = false)", "~subscription s"),
    ("ALTER SUBSCRIPTION s SET (binary = true)", "~subscription s"),
    "DROP SUBSCRIPTION s",
)
case(
    "extension and its version",
    ("CREATE EXTENSION pg_trgm SCHEMA app VERSION '1.5'", "+extension pg_trgm\n+version of extension pg_trgm"),
    ("ALTER EXTENSION pg_trgm UPDATE TO '1.6'", "~version of extension pg_trgm"),
    ("ALTER EXTENSION pg_trgm SET SCHEMA public", "~extension pg_trgm"),
    "DROP EXTENSION pg_trgm",
)
case(
    "foreign data wrapper and server",
    ("CREATE FOREIGN DATA WRAPPER w", "+foreign data wrapper w"),
    ("ALTER FOREIGN DATA WRAPPER w OPTIONS (a '1')", "~foreign data wrapper w"),
    ("CREATE SERVER s FOREIGN DATA WRAPPER w", "+foreign server s"),
    ("ALTER SERVER s OPTIONS (host 'a')", "~foreign server s"),
    ("ALTER SERVER s VERSION '2'", "~foreign server s"),
    "DROP FOREIGN DATA WRAPPER w CASCADE",
)
case(
    "foreign table",
    (
        "CREATE FOREIGN TABLE app.f (id int OPTIONS (column_name 'x')) SERVER far OPTIONS (table_name 'y')",
        "+foreign table app.f\n+column app.f.id",
    ),
    ("ALTER FOREIGN TABLE app.f OPTIONS (SET table_name 'z')", "~foreign table app.f"),
    ("ALTER FOREIGN TABLE app.f ALTER id OPTIONS (SET column_name 'z')", "~column app.f.id"),
    "DROP FOREIGN TABLE app.f",
)

# -- what others are called ----------------------------------------------------------------------------------------
# The definition of a covered object names objects that are not covered: the token must see those, too.

case(
    "uncovered type renamed",
    ("ALTER TABLE app.loose ADD c other.shade", "+column app.loose.c"),
    ("ALTER TYPE other.shade RENAME TO tint", "~column app.loose.c"),
    "ALTER TYPE other.tint RENAME TO shade; ALTER TABLE app.loose DROP c",
)
case(
    "uncovered table renamed",
    (
        "ALTER TABLE app.child ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES other.outside",
        "+constraint app.child.f",
    ),
    ("ALTER TABLE other.outside RENAME TO away", "~constraint app.child.f"),
    ("ALTER TABLE other.away RENAME COLUMN id TO key", "~constraint app.child.f"),
    ("ALTER SCHEMA other RENAME TO others", "~constraint app.child.f"),
    "ALTER SCHEMA others RENAME TO other; ALTER TABLE other.away RENAME TO outside;"
    "ALTER TABLE other.outside RENAME COLUMN key TO id; ALTER TABLE app.child DROP CONSTRAINT f",
)
case(
    "uncovered function renamed",
    (
        "CREATE FUNCTION other.note() RETURNS text LANGUAGE sql AS 'SELECT ''x''';"
        "ALTER TABLE app.loose ADD c text DEFAULT other.note()",
        "+column app.loose.c",
    ),
    ("ALTER FUNCTION other.note() RENAME TO remark", "~column app.loose.c"),
    "ALTER TABLE app.loose DROP c; DROP FUNCTION other.remark()",
)
case(
    "role renamed",
    (f"GRANT SELECT ON app.base TO {READER}", f"+grant to {READER} on table app.base"),
    (
        f"ALTER ROLE {READER} RENAME TO {READER}_2",
        f"-grant to {READER} on table app.base\n+grant to {READER}_2 on table app.base",
    ),
    f"ALTER ROLE {READER}_2 RENAME TO {READER}; REVOKE ALL ON app.base FROM {READER}",
)

# -- what must not show -------------------------------------------------------------------------------------------

#: name, SQL, whether even the token must stay: what a database does every day.
INVISIBLE: tuple[tuple[str, str, bool], ...] = (
    ("rows", "INSERT INTO app.filled SELECT i, i FROM generate_series(1, 500) i", True),
    ("analyze", "ANALYZE app.filled", True),
    ("vacuum", "VACUUM app.filled", True),
    ("vacuum full", "VACUUM FULL app.base", False),
    ("truncate", "TRUNCATE app.filled RESTART IDENTITY", True),
    ("refresh", "REFRESH MATERIALIZED VIEW app.kept", True),
    ("nextval", "SELECT nextval('app.counter')", True),
    ("setval", "SELECT setval('app.counter', 50)", True),
    ("restart", "ALTER SEQUENCE app.counter RESTART", False),
    ("reindex", "REINDEX TABLE app.base", False),
    ("reindex concurrently", "REINDEX TABLE CONCURRENTLY app.base", False),
    ("temporary table", "CREATE TEMP TABLE t (id serial PRIMARY KEY, a int CHECK (a > 0) DEFAULT 4)", True),
    ("column dropped and added anew", "ALTER TABLE app.child DROP base_id, ADD base_id int", False),
    ("owner's own grants", "GRANT ALL ON app.child TO CURRENT_USER", False),
    ("the owner's grants taken away", "REVOKE TRUNCATE ON app.child FROM CURRENT_USER", False),
    ("owner", f"ALTER TABLE app.child OWNER TO {WRITER}; ALTER TABLE app.child OWNER TO postgres", False),
    ("uncovered table", "CREATE TABLE other.more (id serial PRIMARY KEY); COMMENT ON TABLE other.more IS 'x'", False),
    ("uncovered function", "CREATE FUNCTION other.more() RETURNS int LANGUAGE sql AS 'SELECT 1'", False),
    ("settings of the database", "ALTER ROLE CURRENT_USER IN DATABASE {database} SET work_mem = '5MB'", True),
)  # fmt: skip
