"""The database that backups are measured on: what a shop's looks like, in one of every kind of column, any size.

Narrow rows, wide text, jsonb, bytea (the part that no compression makes smaller), and the indexes that a restore builds
again. The same content every time. It knows nothing of what is measured.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import psycopg

from lockstep.postgres.throwaway import ThrowawayServer

NAME = "warehouse"
_SEED = 20261124

_WORDS = (
    *("order", "stock", "parcel", "street", "window", "garden", "paper", "engine", "winter", "silver", "market"),
    *("bridge", "letter", "colour", "answer", "number", "delivery", "invoice", "return", "customer", "warranty"),
    *("battery", "adapter", "manual", "printed", "cotton", "leather", "wooden", "metal", "small", "large", "quickly"),
    *("slowly", "never", "always", "often", "because", "without", "between", "under", "after", "before", "during"),
    *("against", "arrived", "broken", "replaced", "refunded", "damaged", "excellent", "terrible", "recommended"),
)

_TABLES = """
CREATE TABLE customer (id integer, email text, name text, city text, joined date, active boolean);
CREATE TABLE sale (id bigint, customer integer, at timestamptz, amount numeric(10,2), state smallint, note text);
CREATE TABLE event (id bigint, at timestamptz, kind text, data jsonb);
CREATE TABLE review (id integer, product integer, title text, body text);
CREATE TABLE attachment (id integer, name text, content bytea);
ALTER TABLE attachment ALTER content SET STORAGE EXTERNAL;
"""

#: Rows per MB of the whole. About a quarter each: sales, events, reviews; a sixth is attachments.
_FILL = """
INSERT INTO customer
SELECT i, 'customer' || i || '@example' || i % 97 || '.com', 'Name ' || md5(i::text),
       (ARRAY['Köln', 'Wien', 'Zürich', 'Lyon', 'Porto', 'Gent'])[1 + i % 6], date '2015-01-01' + i % 4000, i % 7 <> 0
FROM generate_series(1, {mb} * 150) i;
INSERT INTO sale
SELECT i, 1 + (random() * ({mb} * 150 - 1))::int, timestamptz '2020-01-01 00:00+00' + i * interval '7.3 s',
       (random() * 900)::numeric(10,2), (random() * 5)::int, CASE WHEN i % 11 = 0 THEN 'gift, call before delivery' END
FROM generate_series(1, {mb} * 2600) i;
INSERT INTO event
SELECT i, timestamptz '2024-01-01 00:00+00' + i * interval '3.1 s', (ARRAY['view', 'cart', 'pay', 'login'])[1 + i % 4],
       jsonb_build_object('session', md5((i / 20)::text), 'path', '/shop/' || (random() * 5000)::int, 'ms',
           (random() * 900)::int, 'agent', jsonb_build_object('name', 'browser ' || i % 13, 'mobile', i % 3 = 0),
           'tags', jsonb_build_array('t' || i % 50, 't' || i % 51, 'spring sale'))
FROM generate_series(1, {mb} * 900) i;
INSERT INTO attachment
SELECT i, 'scan-' || i || '.jpg', (
    SELECT string_agg(sha512((i || '-' || j)::bytea), '') FROM generate_series(1, 512) j)
FROM generate_series(1, {mb} * 5) i;
"""

_INDEXES = """
ALTER TABLE customer ADD PRIMARY KEY (id);
ALTER TABLE sale ADD PRIMARY KEY (id);
ALTER TABLE event ADD PRIMARY KEY (id);
ALTER TABLE review ADD PRIMARY KEY (id);
ALTER TABLE attachment ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX customer_email ON customer (lower(email));
CREATE INDEX sale_customer ON sale (customer);
CREATE INDEX event_session ON event ((data ->> 'session'));
ALTER TABLE sale ADD FOREIGN KEY (customer) REFERENCES customer;
"""


def make(server: ThrowawayServer, megabytes: int) -> int:
    """Make the database, of about that size, and return its true size in bytes. It has statistics and no dead rows."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {NAME}")
    with psycopg.connect(server.url(NAME), autocommit=True) as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(_TABLES)
        connection.execute(_FILL.format(mb=megabytes))
        with connection.cursor() as cursor, cursor.copy("COPY review FROM STDIN") as copy:
            for review in _reviews(megabytes * 220):
                copy.write_row(review)
        connection.execute(_INDEXES)
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    size: int = row[0]
    return size


def _reviews(count: int) -> Iterator[tuple[int, int, str, str]]:
    chance = random.Random(_SEED)
    sentences = [" ".join(chance.choices(_WORDS, k=chance.randint(6, 18))) + "." for _ in range(20_000)]
    for number in range(1, count + 1):
        yield number, chance.randrange(20_000), chance.choice(sentences)[:40], " ".join(chance.choices(sentences, k=25))
