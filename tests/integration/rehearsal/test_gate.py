"""The gate: what did not pass its rehearsal does not reach production, unless somebody says so by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.service.store import open_store
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


@pytest.mark.slow
def test_a_backup_that_is_too_old_by_now_is_no_pass(prod: Project) -> None:
    prepare(prod)
    prod.toml += '[rehearsal]\nmax_backup_age = "1ms"\n'
    prod.configure(prod="protected = true")
    prod.write("001-index.sql", "CREATE INDEX orders_id ON orders (id);")
    done = prod.run("sync", "prod")
    assert done.code == 7, done.err
    assert "old by now, and max_backup_age is 1 ms" in done.err


@pytest.mark.slow
def test_what_was_rehearsed_stands_beside_what_it_took_and_calibrates(prod: Project) -> None:
    prepare(prod)
    for number in range(1, 4):
        prod.write(f"00{number}-wait.sql", "SELECT pg_sleep(0.05);")
        assert (done := prod.run("sync", "prod")).code == 0, done.err
    assert "(rehearsed " in done.out + done.err
    rows = events(prod, "apply")
    assert all(details["rehearsed"]["ms"] >= 50 for (details,) in rows)  # type: ignore[index]
    shown = prod.run("history", "prod").out
    assert "rehearsed" in shown
    prod.write("004-wait.sql", "SELECT pg_sleep(0.05);")
    found = prod.run("rehearse", "prod", "--fresh", "--json").document["rehearsal"]["calibration"]
    assert found["runs"] == 3
    assert found["migrations"] == 3
    assert 0.2 < found["ratio"] < 5


def test_what_was_changed_otherwise_than_rehearsed_is_an_error(prod: Project) -> None:
    """A migration that does something else when it is not on a copy: whatever the reason, it is told."""
    prepare(prod)
    prod.write(
        "001-otherwise.sql",
        "DO $$ BEGIN IF current_database() LIKE 'trial%' THEN ALTER TABLE orders ADD a int; "
        "ELSE ALTER TABLE orders ADD b int; END IF; END $$;",
    )
    done = prod.run("sync", "prod")
    assert done.code == 4, done.err
    assert "it changed other things than the rehearsal predicts" in done.err
    assert "column public.orders.a: expected to be created, was not touched" in done.err
    assert prod.query("SELECT count(*) FROM schema_migrations WHERE version = 1", "prod") == [(1,)]


@pytest.mark.slow
@pytest.mark.parametrize("encrypted", [True, False])
def test_beside_an_encrypted_backup_no_definition_lies_in_clear(prod: Project, encrypted: bool, tmp_path: Path) -> None:
    pyrage = pytest.importorskip("pyrage")
    prepare(prod)
    if encrypted:
        key = pyrage.x25519.Identity.generate()
        (tmp_path / "key.txt").write_text(str(key))
        (tmp_path / "key.txt").chmod(0o600)
        prod.toml += f'encrypt_to = ["{key.to_public()}"]\n[rehearsal]\nidentity = "{tmp_path / "key.txt"}"\n'
        prod.configure(prod="protected = true")
    prod.write("001-m.sql", "CREATE FUNCTION hook() RETURNS text LANGUAGE sql AS $$ SELECT 's3cret-body' $$;")
    done = prod.run("sync", "prod")
    assert done.code == 0, done.err
    assert "1 object changed, as rehearsed" in done.out + done.err
    with open_store(prod.settings()) as store:
        [manifest] = store.backups.listing("prod").backups
        kept = store.backups.rehearsal(manifest, manifest.run_id, manifest.attempt)
    assert kept is not None and len(kept.changes) == 1 and kept.change_digest
    assert ("s3cret-body" in repr(kept)) is not encrypted
