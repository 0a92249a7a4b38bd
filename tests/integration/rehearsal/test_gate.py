"""The gate: what did not pass its rehearsal does not reach production, unless somebody says so by name."""

from __future__ import annotations

from tests.project import Project


def prepare(prod: Project) -> None:
    prod.query("CREATE TABLE orders (id int, note text); INSERT INTO orders VALUES (7), (7)", "prod")
    assert prod.run("baseline", "prod", "--version", "none").code == 0


def events(prod: Project, event: str) -> list[tuple[object, ...]]:
    return prod.query(f"SELECT details FROM schema_migrations_log WHERE event = '{event}' ORDER BY id", "prod")


def test_a_plan_that_passes_is_applied_and_changed_what_was_rehearsed(prod: Project) -> None:
    prepare(prod)
    prod.write("001-index.sql", "CREATE INDEX orders_id ON orders (id);")
    done = prod.run("sync", "prod")
    assert done.code == 0, done.err
    assert "1 object changed, as rehearsed" in done.out + done.err
    [(details,)] = events(prod, "rehearse")
    assert details["outcome"] == "passed"  # type: ignore[index]


def test_a_plan_that_fails_is_refused_and_nothing_is_changed(prod: Project) -> None:
    prepare(prod)
    prod.write("001-unique.sql", "ALTER TABLE orders ADD PRIMARY KEY (id);")
    done = prod.run("sync", "prod")
    assert done.code == 7, done.err
    assert "the rehearsal failed, so nothing was applied" in done.err
    assert prod.query("SELECT count(*) FROM schema_migrations WHERE kind = 'versioned'", "prod") == [(0,)]
    [(details,)] = events(prod, "rehearse")
    assert details["outcome"] == "failed"  # type: ignore[index]


def test_an_override_goes_on_and_is_kept_with_who_gave_it(prod: Project) -> None:
    prepare(prod)
    prod.write("001-unique.sql", "ALTER TABLE orders ADD PRIMARY KEY (id);")
    done = prod.run("sync", "prod", "--override", "duplicates are being removed by hand")
    assert done.code == 6, done.err  # now it fails on production itself
    [(details,)] = events(prod, "override")
    assert details["reason"] == "duplicates are being removed by hand"  # type: ignore[index]
    assert "@" in details["by"]  # type: ignore[index]
