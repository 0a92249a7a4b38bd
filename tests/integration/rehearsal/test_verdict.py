"""`lockstep rehearse` end to end: what it refuses, what it says instead, and that its advice then passes."""

from __future__ import annotations

import re

import pytest

from tests.project import Project

ORDERS = """
CREATE TABLE public.orders (id bigint PRIMARY KEY, total int, email text);
INSERT INTO public.orders SELECT n, n, 'u' || n FROM generate_series(1, 20000) AS n;
"""
SECRET = "s3cret-content"


def prepare(prod: Project, rehearsal: str = "", schema: str = ORDERS) -> None:
    prod.toml += f"\n[rehearsal]\n{rehearsal}\n"
    prod.configure(prod="protected = true")
    prod.query(schema, "prod")
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    assert prod.run("backup", "prod").code == 0


@pytest.mark.slow
def test_a_rewrite_is_refused_and_its_advice_passes(prod: Project) -> None:
    prepare(prod, 'max_rewrite = "100kB"\nmax_blocking = "10min"')
    prod.write("001-token.sql", "ALTER TABLE public.orders ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid();")
    refused = prod.run("rehearse", "prod")
    assert refused.code == 7, refused.err
    assert "rehearsal failed: 1 problem in 001-token" in refused.out
    assert "failed: 001-token.sql:1  [rewrites-too-much]" in refused.out
    advice = re.search(r"instead: add the column empty.*?:\n(.*?)    more:", refused.out, re.DOTALL)
    assert advice
    prod.remove("001-token.sql")
    files = [part for part in re.split(r"^ *-- file \d+\n", advice[1], flags=re.MULTILINE) if part.strip()]
    for number, text in enumerate(files, start=1):
        prod.write(f"{number:03}-token.sql", re.sub(r"^ {6}", "", text, flags=re.MULTILINE))
    passed = prod.run("rehearse", "prod", "--statements")
    assert passed.code == 0, passed.out + passed.err
    assert "rehearsal passed: backup verified, 5 migrations pass" in passed.out


@pytest.mark.slow
def test_what_a_file_accepts_is_allowed_and_shown(prod: Project) -> None:
    prepare(prod, 'max_rewrite = "100kB"\nmax_blocking = "10min"')
    prod.write(
        "001-token.sql",
        '-- lockstep: allow=rewrites-too-much reason="a window is agreed"\n'
        "ALTER TABLE public.orders ADD COLUMN token uuid DEFAULT gen_random_uuid();",
    )
    done = prod.run("rehearse", "prod")
    assert done.code == 0, done.out + done.err
    assert "allowed: 001-token.sql:2  [rewrites-too-much]" in done.out
    assert "because: a window is agreed" in done.out


#: Each passes on an empty schema and fails on the rows -> what is told.
FAILING = {
    "CREATE UNIQUE INDEX ON public.users (email);":
        "public.users: 2 rows have the same value in (email): id = 17 and id = 23",
    "-- lockstep: transaction=none\nCREATE UNIQUE INDEX CONCURRENTLY users_email ON public.users (email);":
        "public.users: 2 rows have the same value in (email): id = 17 and id = 23",
    "ALTER TABLE public.users ALTER COLUMN name SET NOT NULL;": "public.users: 1 row has no value in name: id = 5",
    "ALTER TABLE public.users ADD FOREIGN KEY (boss) REFERENCES public.users;":
        "public.users: 1 row refers with (boss) to a row of public.users that is not there: id = 9",
    "ALTER TABLE public.users ALTER COLUMN age TYPE int USING age::int;":
        "public.users: 1 row has a value in age that does not become int: id = 41",
}  # fmt: skip
USERS = f"""
CREATE TABLE public.users (id bigint PRIMARY KEY, email text, name text, boss bigint, age text);
INSERT INTO public.users SELECT n, 'u' || n, 'n', 1, '40' FROM generate_series(1, 100) AS n;
UPDATE public.users SET email = '{SECRET}' WHERE id IN (17, 23);
UPDATE public.users SET name = NULL, email = '{SECRET}5' WHERE id = 5;
UPDATE public.users SET boss = 777, email = '{SECRET}9' WHERE id = 9;
UPDATE public.users SET age = '{SECRET}' WHERE id = 41;
"""


def test_what_fails_on_the_data_is_caught_and_names_keys_without_contents(prod: Project) -> None:
    prepare(prod, schema=USERS)
    before = prod.query("SELECT * FROM public.users ORDER BY id", "prod")
    for sql, told in FAILING.items():
        prod.write("001-change.sql", sql)
        for words in (("rehearse", "prod"), ("rehearse", "prod", "--json")):
            done = prod.run(*words)
            assert done.code == 7, done.out + done.err
            assert told in " ".join(done.out.split())
            assert "fails-on-data" in done.out
            assert SECRET not in done.out + done.err and "777" not in done.out
    assert prod.query("SELECT * FROM public.users ORDER BY id", "prod") == before
    assert prod.query(
        "SELECT count(*) FROM pg_constraint WHERE conrelid = 'users'::regclass AND contype <> 'n'", "prod"
    ) == [(1,)]


def test_a_plan_that_leaves_its_database_could_not_be_verified(prod: Project) -> None:
    prepare(
        prod,
        schema=ORDERS
        + "CREATE SCHEMA net; CREATE FUNCTION net.http_post(url text) RETURNS int LANGUAGE sql AS 'SELECT 1';",
    )
    prod.write("001-fine.sql", "CREATE TABLE public.fine (id int);")
    prod.write("002-tell.sql", "SELECT net.http_post('https://example.com');")
    prod.write("003-more.sql", "CREATE TABLE public.more (id int);")
    done = prod.run("rehearse", "prod")
    assert done.code == 7, done.out + done.err
    assert "rehearsal could not verify" in done.out
    assert "could not verify: 002-tell.sql:1  [reaches-outside]" in done.out
    assert "003-more.sql was not tried" in done.out


@pytest.mark.slow
def test_what_keeps_others_waiting_is_refused_with_where_to_begin_another_file(prod: Project) -> None:
    prepare(prod, 'max_blocking = "1ms"')
    prod.write("001-index.sql", "CREATE INDEX orders_email ON public.orders (email);")
    prod.write(
        "002-tax.sql",
        "ALTER TABLE public.orders ADD COLUMN tax int;\nUPDATE public.orders SET tax = total / 5;",
    )
    refused = prod.run("rehearse", "prod")
    assert refused.code == 7, refused.err
    words = " ".join(refused.out.split())
    assert "failed: 001-index.sql:1 [blocks-too-long] SHARE on public.orders keeps writes waiting for" in words
    assert "CREATE INDEX CONCURRENTLY orders_email ON public.orders (email);" in refused.out
    assert "failed: 002-tax.sql:1 [blocks-too-long] ACCESS EXCLUSIVE on public.orders keeps reads and writes" in words
    assert re.search(r"[\d.]+ m?s of that is line 2, UPDATE", words)
    assert "instead: put it into a later file, in batches:" in words
    prod.remove("002-tax.sql")
    prod.write(
        "001-index.sql",
        "-- lockstep: transaction=none\nCREATE INDEX CONCURRENTLY orders_email ON public.orders (email);",
    )
    passed = prod.run("rehearse", "prod")
    assert passed.code == 0, passed.out + passed.err
    assert "nobody is kept waiting" in " ".join(passed.out.split())
