-- One of everything that PostgreSQL 14 and later know, with expressions that a dump's round trip or another major
-- version might print in other words. Applied in one transaction, into an empty database.
DO $$ BEGIN CREATE ROLE fp_zoo_reader; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
CREATE SCHEMA zoo;
CREATE EXTENSION pg_trgm SCHEMA public;
CREATE TYPE zoo.mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE zoo.pair AS (a int, b text COLLATE "C");
CREATE TYPE zoo.span AS RANGE (subtype = timestamptz);
CREATE DOMAIN zoo.word AS varchar(20) CHECK (VALUE IN ('a', 'b')) CHECK (VALUE <> '' AND VALUE !~ ' ' AND length(VALUE) < 10);
CREATE DOMAIN zoo.percent AS numeric(5, 2) DEFAULT 0 NOT NULL CHECK (VALUE BETWEEN 0 AND 100);
CREATE FUNCTION zoo.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS 'SELECT n * 2';
CREATE FUNCTION zoo.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';

CREATE TABLE zoo.person (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email varchar(200) NOT NULL UNIQUE,
    status varchar NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'old')),
    kind varchar(10) DEFAULT 'x' CHECK (kind NOT IN ('y', 'z')),
    code char(3) DEFAULT 'abc' CHECK (code IN ('abc', 'def')),
    letter char CHECK (letter = ANY (ARRAY['a', 'b'])),
    note text CHECK (note IN ('p', 'q') OR note LIKE 'r%' OR note ~* '^s'),
    label "char" CHECK (label IN ('a', 'b')),
    nick name CHECK (nick IN ('a', 'b')),
    mood zoo.mood DEFAULT 'ok' CHECK (mood IN ('ok', 'happy')),
    word zoo.word DEFAULT 'a' CHECK (word IN ('a', 'b')),
    age int CHECK (age BETWEEN 0 AND 150) CHECK (age IN (1, 2, 3) OR age > 5 OR age IS NULL),
    big bigint CHECK (big IN (1, 2)) CHECK (big <> -1) CHECK (big > 3000000000),
    small smallint DEFAULT -1 CHECK (small NOT BETWEEN 2 AND 4),
    price numeric(10, 2) DEFAULT 0.00 CHECK (price >= 0 AND price < 1e6 AND price <> 0.5),
    weight real DEFAULT 1.5 CHECK (weight > 0.1),
    ratio double precision DEFAULT '1e-3' CHECK (ratio < 0.3),
    born date DEFAULT '2000-01-01' CHECK (born > '1900-01-01' AND born < date '2100-01-01'),
    at timestamptz DEFAULT now() CHECK (at > '2000-01-01 00:00+00'),
    until timestamp DEFAULT (now() AT TIME ZONE 'UTC') CHECK (until > at AT TIME ZONE 'Europe/Berlin'),
    wait interval DEFAULT '1 day' CHECK (wait < interval '90 min' OR wait > '2 years'),
    clock time DEFAULT '08:00' CHECK (clock BETWEEN '08:00' AND '18:00'),
    tags text[] DEFAULT '{}' CHECK (tags <@ ARRAY['a', 'b']) CHECK (cardinality(tags) < 5),
    sizes int[] DEFAULT ARRAY[1, 2] CHECK (3 = ANY (sizes) IS NOT TRUE AND sizes[1] > 0),
    names varchar(10)[] CHECK (names && ARRAY['a', 'b']::varchar[]),
    data jsonb DEFAULT '{"a": 1}' CHECK (data ->> 'a' IS DISTINCT FROM 'x') CHECK (data ? 'a' OR jsonb_typeof(data) = 'object'),
    flag boolean DEFAULT true CHECK (flag IS NOT FALSE) CHECK (NOT (flag AND age > 3)),
    bits bit(4) DEFAULT B'0101', token bytea DEFAULT '\x00ff', ip inet DEFAULT '10.0.0.1', uid uuid DEFAULT gen_random_uuid(),
    during zoo.span DEFAULT 'empty', duo zoo.pair DEFAULT ROW(1, 'x')::zoo.pair CHECK ((duo).a > 0), part zoo.percent,
    full_name text GENERATED ALWAYS AS (email || ' ' || coalesce(note, '?')) STORED,
    is_new boolean GENERATED ALWAYS AS (status IN ('new', 'newer') AND age IN (1, 2)) STORED,
    CONSTRAINT whole CHECK (CASE WHEN age > 5 THEN note IS NOT NULL WHEN age = 3 THEN true ELSE false END),
    CONSTRAINT nested CHECK (age > 1 AND (age > 2 AND (age > 3 AND age > 4)) OR (age < 1 OR (age < 0 OR age < -1))),
    CONSTRAINT turned CHECK (NOT (status = 'new' OR status = 'x') AND status::text = 'y'),
    CONSTRAINT cast1 CHECK (age::text = '1' AND status::varchar(3) = 'new' AND (email)::text <> ''),
    CONSTRAINT called CHECK (zoo.twice(age) > 0 AND upper(status) = 'NEW' AND substring(email from 1 for 2) <> 'x' AND position('@' in email) > 0),
    CONSTRAINT dates CHECK (extract(year FROM born) > 1900 AND date_trunc('day', until) = until AND until + interval '1 day' > until),
    CONSTRAINT trims CHECK (trim(both ' ' from email) = email AND overlay(email placing 'x' from 1) <> 'y' AND coalesce(age, small, 1) > greatest(1, 2)),
    CONSTRAINT rows CHECK ((age, small) <> (1, 2) AND ROW(age, 1) IS NOT NULL AND nullif(age, 3) IS NOT DISTINCT FROM 4),
    CONSTRAINT arrays CHECK (status <> ALL (ARRAY['a', 'b']) AND status = ANY ('{c,d}') AND age = ANY ('{1,2}') AND array_length(tags, 1) > 0),
    CONSTRAINT regular CHECK (status SIMILAR TO '(a|b)%' AND status NOT LIKE 'a\_b' AND status ILIKE 'x')
);
CREATE TABLE zoo.orders (
    id serial PRIMARY KEY, person bigint REFERENCES zoo.person ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    total numeric(10, 2) DEFAULT 0, state varchar(10) DEFAULT 'open', at timestamptz DEFAULT CURRENT_TIMESTAMP, period tstzrange,
    CONSTRAINT overlap EXCLUDE USING gist (period WITH &&) WHERE (state IN ('open', 'held'))
);
ALTER TABLE zoo.orders ADD CONSTRAINT later CHECK (total > 0) NOT VALID;
CREATE INDEX by_state ON zoo.orders (total) WHERE state IN ('open', 'held');
CREATE INDEX by_states ON zoo.orders (total) WHERE state IN ('open', 'held') AND total > 0 AND person IS NOT NULL;
CREATE INDEX by_one ON zoo.orders (lower(state) DESC NULLS LAST, (total * 2)) INCLUDE (id) WHERE state = 'open';
CREATE INDEX by_part ON zoo.orders ((state = ANY (ARRAY['x', 'y'])), date_trunc('day', at AT TIME ZONE 'UTC'));
CREATE UNIQUE INDEX by_trgm ON zoo.person (email text_pattern_ops) WHERE mood IN ('ok', 'sad') AND age BETWEEN 3 AND 4;
CREATE INDEX by_gin ON zoo.person USING gin (note gin_trgm_ops, tags) WITH (fastupdate = off);
CREATE INDEX by_collation ON zoo.person (email COLLATE "C");
CREATE STATISTICS zoo.stats (ndistinct, mcv) ON total, state FROM zoo.orders;
CREATE STATISTICS zoo.expressions ON (total * 2), (state IN ('open', 'held')) FROM zoo.orders;
CREATE RULE kept AS ON DELETE TO zoo.orders WHERE old.state IN ('held', 'open') DO INSTEAD UPDATE zoo.orders SET state = 'gone' WHERE id = old.id;
CREATE TRIGGER touch BEFORE UPDATE OF state ON zoo.orders FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state AND NEW.state IN ('open', 'held')) EXECUTE FUNCTION zoo.touch('a', '1');
CREATE CONSTRAINT TRIGGER checked AFTER INSERT ON zoo.orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION zoo.touch();
ALTER TABLE zoo.orders DISABLE TRIGGER touch;
ALTER TABLE zoo.orders ENABLE ROW LEVEL SECURITY; ALTER TABLE zoo.orders FORCE ROW LEVEL SECURITY;
CREATE POLICY theirs ON zoo.orders FOR UPDATE TO fp_zoo_reader USING (state IN ('open', 'held') AND person = 1) WITH CHECK (EXISTS (SELECT FROM zoo.person p WHERE p.id = orders.person AND p.status IN ('new', 'old')));
CREATE POLICY narrow ON zoo.orders AS RESTRICTIVE USING (current_setting('app.user', true) = state);

CREATE TABLE zoo.event (at timestamptz NOT NULL, kind varchar(5) NOT NULL, n int, PRIMARY KEY (at, kind)) PARTITION BY RANGE (at);
CREATE TABLE zoo.event_1 PARTITION OF zoo.event FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2026-02-01 00:00+01');
CREATE TABLE zoo.event_2 PARTITION OF zoo.event FOR VALUES FROM ('2026-02-01 00:00+01') TO (MAXVALUE) PARTITION BY LIST (kind);
CREATE TABLE zoo.event_2a PARTITION OF zoo.event_2 (n DEFAULT 5, CHECK (n > 0)) FOR VALUES IN ('a', 'b');
CREATE TABLE zoo.event_2z PARTITION OF zoo.event_2 DEFAULT;
CREATE INDEX event_n ON zoo.event (n);
CREATE TABLE zoo.hashed (id int, a text) PARTITION BY HASH (lower(a));
CREATE TABLE zoo.hashed_0 PARTITION OF zoo.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
ALTER TABLE zoo.event ADD CONSTRAINT positive CHECK (n > 0), ADD FOREIGN KEY (n) REFERENCES zoo.orders;
CREATE TRIGGER event_touch AFTER INSERT ON zoo.event FOR EACH ROW EXECUTE FUNCTION zoo.touch();
CREATE TABLE zoo.parent (id int NOT NULL CHECK (id > 0), note text DEFAULT 'x');
CREATE TABLE zoo.child (extra int, note text DEFAULT 'y') INHERITS (zoo.parent);
CREATE UNLOGGED TABLE zoo.fast (a serial, b text) WITH (fillfactor = 70, toast.autovacuum_enabled = false);
ALTER TABLE zoo.fast ALTER b SET STORAGE EXTERNAL, ALTER b SET STATISTICS 300, ALTER b SET (n_distinct = -0.5), REPLICA IDENTITY FULL;
CREATE TABLE zoo.typed OF zoo.pair (a DEFAULT 5, PRIMARY KEY (a));
CREATE TABLE zoo.wide (old1 int, a int, old2 text, b int NOT NULL);
ALTER TABLE zoo.wide DROP old1, DROP old2, ADD c varchar DEFAULT 'z';
CREATE SEQUENCE zoo.counter AS smallint START 5 INCREMENT -1 MINVALUE -100 MAXVALUE 10 CYCLE CACHE 3;
CREATE SEQUENCE zoo.owned OWNED BY zoo.wide.a;

CREATE VIEW zoo.joined AS SELECT o.id, p.email, count(*) OVER (PARTITION BY o.state ORDER BY o.id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS n FROM zoo.orders o LEFT JOIN zoo.person p ON p.id = o.person AND p.status IN ('new', 'old') WHERE o.state IN ('open', 'held') AND NOT EXISTS (SELECT 1 FROM zoo.event e WHERE e.n = o.id);
CREATE VIEW zoo.used AS SELECT id, orders AS whole, email, m.* FROM zoo.orders JOIN zoo.person USING (id) CROSS JOIN LATERAL (SELECT max(n) AS most FROM zoo.event WHERE n < orders.id) m;
CREATE VIEW zoo.counted AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5), s AS MATERIALIZED (SELECT * FROM (VALUES (1, 'a'), (2, 'b')) v(x, y)) SELECT r.n, s.y, CASE s.x WHEN 1 THEN 'one' ELSE NULL END AS word FROM r JOIN s ON s.x = r.n;
CREATE VIEW zoo.grouped AS SELECT p.id, p.email, p.status, sum(o.total) FILTER (WHERE o.state IN ('open', 'held')) AS total, array_agg(o.id ORDER BY o.at DESC) AS ids FROM zoo.person p JOIN zoo.orders o ON o.person = p.id GROUP BY p.id HAVING count(*) > 1 ORDER BY 4 DESC NULLS LAST LIMIT 10 OFFSET 2;
CREATE VIEW zoo.sets AS SELECT id, GROUPING(id) AS g FROM zoo.orders GROUP BY ROLLUP (id) UNION ALL (SELECT 1, 2 EXCEPT SELECT n, n FROM zoo.event) INTERSECT SELECT 3, 4;
CREATE VIEW zoo.single WITH (security_barrier) AS SELECT vt.a, vt.b FROM zoo.wide vt WHERE vt.a > 0 WITH LOCAL CHECK OPTION;
CREATE VIEW zoo.parsed AS SELECT substring(email from 1 for 2) AS a, email LIKE 'x%' AS b, extract(epoch FROM at) AS c, at AT TIME ZONE 'UTC' AS d, email COLLATE "C" AS e, (duo).b AS f, tags[1:2] AS g, data #>> '{a,b}' AS h, age IS DISTINCT FROM 3 AS i, mood::text AS j, status IN ('a') AS k, trim(email) AS l, current_date AS m, '1 day'::interval * 2 AS n, ARRAY(SELECT 1) AS o, (SELECT 1) AS p, email ~ 'x' AS q, position('a' in email) AS r, xmlelement(name a, email) AS s, normalize(email) AS t FROM zoo.person;
CREATE VIEW zoo.nested AS SELECT j.id FROM zoo.joined j WHERE j.id IN (SELECT id FROM zoo.used) AND j.email = ANY (ARRAY['a', 'b']::varchar[]);
CREATE VIEW zoo.sampled AS SELECT w.a, f.k, f.ordinality FROM zoo.wide w TABLESAMPLE system (10), unnest(ARRAY[1, 2], ARRAY['a', 'b']) WITH ORDINALITY AS f(k, v), ROWS FROM (generate_series(1, 2), generate_series(1, 3)) AS g(x, y);
CREATE MATERIALIZED VIEW zoo.kept AS SELECT state, sum(total) AS total FROM zoo.orders WHERE state NOT IN ('x', 'y') GROUP BY state;
CREATE UNIQUE INDEX kept_state ON zoo.kept (state);
ALTER VIEW zoo.single ALTER a SET DEFAULT 7;

CREATE FUNCTION zoo.body(n int, s varchar DEFAULT 'x', VARIADIC rest text[] DEFAULT '{}') RETURNS SETOF zoo.orders LANGUAGE sql STABLE ROWS 5 BEGIN ATOMIC SELECT * FROM zoo.orders o WHERE o.state IN ('open', 'held') AND o.id = n; END;
CREATE FUNCTION zoo.returned(n int) RETURNS int LANGUAGE sql IMMUTABLE RETURN n + zoo.twice(n) * 2;
CREATE FUNCTION zoo.tabled(IN a int, OUT b text, OUT c timestamptz) RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' SET work_mem TO '4MB' AS $f$BEGIN RETURN; END$f$;
CREATE PROCEDURE zoo.done(INOUT a int) LANGUAGE plpgsql AS 'BEGIN a := 1; END';
CREATE PROCEDURE zoo.noted(b text) LANGUAGE sql BEGIN ATOMIC INSERT INTO zoo.wide (b, c) VALUES (1, noted.b); UPDATE zoo.wide SET c = 'y' WHERE c IN ('a', 'b'); END;
CREATE AGGREGATE zoo.total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0', COMBINEFUNC = int4pl, PARALLEL = SAFE);
CREATE OPERATOR zoo.<+> (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl, COMMUTATOR = OPERATOR(zoo.<+>));
CREATE OPERATOR CLASS zoo.mood_ops FOR TYPE zoo.mood USING hash AS FUNCTION 1 hashenum(anyenum);
CREATE CAST (zoo.pair AS text) WITH INOUT AS ASSIGNMENT;
CREATE COLLATION zoo.plain (LOCALE = 'C');
CREATE CONVERSION zoo.turned FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TEXT SEARCH DICTIONARY zoo.simple (TEMPLATE = simple, ACCEPT = false);
CREATE TEXT SEARCH CONFIGURATION zoo.words (COPY = english);
ALTER TEXT SEARCH CONFIGURATION zoo.words ALTER MAPPING FOR asciiword, word WITH zoo.simple, english_stem;
CREATE FOREIGN DATA WRAPPER zoo_far; CREATE SERVER zoo_server TYPE 't' VERSION '1' FOREIGN DATA WRAPPER zoo_far OPTIONS (host 'x', password 'secret');
CREATE FOREIGN TABLE zoo.remote (id int OPTIONS (column_name 'x') NOT NULL, note text DEFAULT 'y' CHECK (note IN ('a', 'b'))) SERVER zoo_server OPTIONS (table_name 'y');
CREATE FUNCTION zoo.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE PUBLICATION zoo_stream FOR TABLE zoo.orders, zoo.wide WITH (publish = 'insert, update');

GRANT USAGE ON SCHEMA zoo TO PUBLIC; GRANT ALL ON zoo.orders TO fp_zoo_reader; GRANT SELECT (email), UPDATE (email, note) ON zoo.person TO fp_zoo_reader WITH GRANT OPTION;
GRANT SELECT ON zoo.joined, zoo.kept TO PUBLIC; REVOKE EXECUTE ON FUNCTION zoo.twice FROM PUBLIC; GRANT USAGE ON SEQUENCE zoo.counter TO fp_zoo_reader;
REVOKE USAGE ON TYPE zoo.mood FROM PUBLIC; GRANT USAGE ON FOREIGN SERVER zoo_server TO fp_zoo_reader; GRANT CREATE ON SCHEMA public TO fp_zoo_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA zoo GRANT ALL ON TABLES TO fp_zoo_reader; ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
COMMENT ON TABLE zoo.person IS E'Zeile eins\nzwei\tTab\\Ende, 東京'; COMMENT ON COLUMN zoo.person.email IS 'where'; COMMENT ON CONSTRAINT whole ON zoo.person IS 'why';
COMMENT ON INDEX zoo.by_state IS 'fast'; COMMENT ON COLUMN zoo.joined.n IS 'number'; COMMENT ON DOMAIN zoo.word IS 'w'; COMMENT ON COLUMN zoo.pair.a IS 'a';
COMMENT ON FUNCTION zoo.twice IS 'x'; COMMENT ON SCHEMA zoo IS 'animals'; COMMENT ON TRIGGER touch ON zoo.orders IS 't'; COMMENT ON POLICY narrow ON zoo.orders IS 'p';
COMMENT ON CONSTRAINT word_check ON DOMAIN zoo.word IS 'c'; COMMENT ON STATISTICS zoo.stats IS 's'; COMMENT ON CAST (zoo.pair AS text) IS 'k'; COMMENT ON SERVER zoo_server IS 'far';
