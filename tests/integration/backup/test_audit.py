"""The audit log against attacks, and pruned: what the chain cannot show, the ends that backups and reports keep do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pyrage
import pytest
from pyrage import x25519

from lockstep.core.address import parse_address
from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.backup.store import Store
from tests.integration.rehash import REHASH
from tests.project import Outcome, Project

#: Whoever owns the table can do that.
OPEN = "ALTER TABLE schema_migrations_log DISABLE TRIGGER ALL; "


@pytest.fixture
def prod(project: Project, store: Store, server: ThrowawayServer, pg_bin: Path) -> Iterator[Project]:
    """prod has two migrations, each applied behind a backup; not protected, so that nothing else is in its log."""
    name = parse_address(project.urls["dev"]).database
    project.urls = {"prod": project.urls["dev"]}
    project.toml = (
        f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
        f'programs = "{pg_bin}"\n'
    )
    project.configure(prod="protected = false")
    assert project.run("init").code == 0
    for number in (1, 2):
        project.write(f"00{number}-a.sql", f"CREATE TABLE t{number} (id int);")
        assert project.run("backup", "prod").code == 0
        assert project.run("sync").code == 0
    yield project
    with psycopg.connect(server.url(), autocommit=True) as connection:
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (f"{name}_",)
        ).fetchall()
        for (made,) in rows:
            connection.execute(f'DROP DATABASE "{made}" WITH (FORCE)')


def rows(project: Project) -> list[tuple[int, str]]:
    return project.query("SELECT id, event FROM schema_migrations_log ORDER BY id", "prod")


def verify(project: Project, *more: str) -> Outcome:
    return project.run("history", "prod", "--verify", *more)


def age(project: Project, days: int, up_to: int = 1_000_000) -> None:
    """Make the log older, as if it had been written then."""
    project.query(
        OPEN + f"UPDATE schema_migrations_log SET at = at - interval '{days} days' WHERE id <= {up_to}; " + REHASH
        + "ALTER TABLE schema_migrations_log ENABLE ALWAYS TRIGGER schema_migrations_log_chain, "
        "ENABLE ALWAYS TRIGGER schema_migrations_log_keep, ENABLE ALWAYS TRIGGER schema_migrations_log_keep_all",
        "prod",
    )  # fmt: skip


# -- attacks ----------------------------------------------------------------------------------------------------------

# init 1, backup 2, apply 3, backup 4, apply 5. The backups saw rows 1 and 3 as the newest.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "found"),
    [
        ("UPDATE schema_migrations_log SET actor = 'nobody' WHERE id = 4", "row 4 (backup"),
        ("UPDATE schema_migrations_log SET details = '{}' WHERE id = 1", "row 1 (init"),
        ("DELETE FROM schema_migrations_log WHERE id = 3", "row 4 (backup"),
        ("DELETE FROM schema_migrations_log WHERE id = 1", "row 2 (backup"),
        ("DELETE FROM schema_migrations_log WHERE id >= 3", "row 3: backup"),  # the newest: the chain is whole
        ("DELETE FROM schema_migrations_log", "row 0: the log is empty"),
        (
            "UPDATE schema_migrations_log SET id = id + 1000 WHERE id >= 4;"
            "UPDATE schema_migrations_log SET previous_hash = 'made up' WHERE id = 1004;"
            "INSERT INTO schema_migrations_log (id, event, previous_hash, hash) SELECT 4, 'apply', hash, 'made up' "
            "FROM schema_migrations_log WHERE id = 3; UPDATE schema_migrations_log SET id = id - 999 WHERE id > 1000",
            "row 4 (apply",
        ),
        (
            "UPDATE schema_migrations_log SET id = 99 WHERE id = 2; UPDATE schema_migrations_log SET id = 2 WHERE id = 3;"
            "UPDATE schema_migrations_log SET id = 3 WHERE id = 99",
            "row 2 (apply",
        ),
        # Renumbered, and every hash computed anew: no chain shows that.
        (
            "DELETE FROM schema_migrations_log WHERE id = 2; UPDATE schema_migrations_log SET id = id - 1 WHERE id > 2;"
            + REHASH,
            "row 3 or before: backup",
        ),
        ("UPDATE schema_migrations_log SET actor = 'nobody' WHERE id = 1;" + REHASH, "row 1 or before: backup"),
        (  # one hash is forged to fit its own row: the next one tells
            "UPDATE schema_migrations_log SET actor = 'nobody' WHERE id = 4;"
            "UPDATE schema_migrations_log l SET hash = schema_migrations_log_hash(l) WHERE id = 4",
            "row 5 (apply",
        ),
    ],
)  # fmt: skip
def test_every_attack_is_found_and_the_first_broken_row_named(attack: str, found: str, prod: Project) -> None:
    assert rows(prod) == [(1, "init"), (2, "backup"), (3, "apply"), (4, "backup"), (5, "apply")]
    done = verify(prod)
    assert done.code == 0 and "audit log whole: 5 rows" in done.out, done
    assert "it fits 2 ends that were noted outside, the newest at row 3 (backup " in done.out
    assert "rows 4 to 5 are newer" in done.out
    prod.query(OPEN + attack, "prod")
    done = verify(prod)
    assert done.code == 4 and f"audit log broken at {found}" in done.err.splitlines()[0], done.err
    assert "whole" not in done.out
    document = verify(prod, "--json").document["environments"][0]
    assert not document["whole"] and document["findings"][0] == done.err.splitlines()[0]


@pytest.mark.slow
def test_an_end_that_a_run_reported_is_enough_to_find_what_is_missing_behind_the_last_backup(prod: Project) -> None:
    prod.write("003-a.sql", "SELECT 1;")
    assert prod.run("backup", "prod").code == 0
    end = prod.run("sync", "--json").document["environments"][0]["audit"]
    assert end["row"] == 7
    noted = f"{end['row']}:{end['hash']}"
    done = verify(prod, "--head", noted)
    assert done.code == 0 and "the newest at row 7 (--head)" in done.out
    assert verify(prod, "--head", noted[:14]).code == 0  # the first characters do
    wrong = verify(prod, "--head", f"7:{'0' * 64}")
    assert wrong.code == 4 and "broken at row 7 or before: --head" in wrong.err
    prod.query(OPEN + "DELETE FROM schema_migrations_log WHERE id >= 6", "prod")
    assert verify(prod).code == 0  # the last backup saw row 5
    done = verify(prod, "--head", noted)
    assert done.code == 4 and "broken at row 7: --head saw it as the newest, and the log ends at row 5" in done.err
    assert prod.run("history", "--head", noted).code == 2


def test_an_unreachable_bucket_is_said_and_neither_whole_nor_broken(prod: Project) -> None:
    prod.toml = prod.toml.replace("http://127.0.0.1:", "http://127.0.0.1:1/?")
    prod.configure(prod="protected = true")
    done = verify(prod)
    assert done.code == 8 and done.err == ""
    assert "the ends in the backups' manifests could not be read" in done.out
    assert "chain whole in itself, its end not compared" in done.out and "audit log whole" not in done.out
    prod.query(OPEN + "UPDATE schema_migrations_log SET actor = 'x' WHERE id = 2", "prod")
    assert verify(prod).code == 4


@pytest.mark.slow
def test_without_backup_it_is_said_that_missing_rows_at_the_end_would_not_show(prod: Project) -> None:
    prod.toml = ""
    prod.configure(prod="protected = false")
    done = verify(prod)
    assert done.code == 0 and "rows missing at the end would not show" in done.out


@pytest.mark.slow
def test_a_restore_explains_the_ends_that_the_replaced_log_had_and_no_others(prod: Project) -> None:
    name = parse_address(prod.urls["prod"]).database
    prod.write("003-a.sql", "SELECT 1;")
    assert prod.run("backup", "prod").code == 0  # it saw row 5
    assert prod.run("sync").code == 0
    first = prod.run("backups", "list", "prod", "--json").document["backups"][-2]["id"]
    done = prod.run("restore", first, "--into", "prod", "--replace", "--yes-i-mean", name)
    assert done.code == 0, done.err
    assert rows(prod)[-1] == (4, "restore")
    done = verify(prod)
    assert done.code == 0, done
    assert "1 noted end is of the log that a restore replaced: event 4" in done.out and first in done.out
    assert "it fits 2 ends" in done.out
    prod.write("003-a.sql", "SELECT 2;")
    assert prod.run("backup", "prod").code == 0  # it saw row 4
    assert prod.run("sync").code == 0  # backup 5, apply 6, apply 7
    assert verify(prod).code == 0
    prod.query(OPEN + "DELETE FROM schema_migrations_log WHERE id >= 4", "prod")
    done = verify(prod)  # with the event its excuse is gone
    assert done.code == 4 and "broken at row 4: backup" in done.err and "broken at row 5: backup" in done.err


def test_a_made_up_restore_is_found(prod: Project) -> None:
    backup = prod.run("backups", "list", "prod", "--json").document["backups"][-1]["id"]
    prod.query(OPEN + "DELETE FROM schema_migrations_log WHERE id >= 2", "prod")
    prod.query("ALTER TABLE schema_migrations_log ENABLE ALWAYS TRIGGER schema_migrations_log_chain", "prod")
    details = json.dumps({"backup": backup, "of": "prod"})
    prod.query(f"INSERT INTO schema_migrations_log (event, details) VALUES ('restore', '{details}')", "prod")
    done = verify(prod)
    assert done.code == 4 and f"broken at row 2: it says that backup {backup} of prod was restored" in done.err


@pytest.mark.slow
def test_ends_from_before_a_time_can_be_passed_over_and_that_is_said(prod: Project) -> None:
    prod.query(OPEN + "UPDATE schema_migrations_log SET actor = 'x' WHERE id = 1;" + REHASH, "prod")
    assert verify(prod).code == 4
    done = verify(prod, "--since", "2999-01-01")
    assert done.code == 0 and "2 noted ends are of backups before --since, and were passed over" in done.out


# -- pruning ----------------------------------------------------------------------------------------------------------


def prune(project: Project, *more: str) -> Outcome:
    return project.run("history", "prune", "prod", "--before", "100d", *more)


def test_pruned_rows_are_exported_first_and_the_chain_goes_on_from_the_anchor(prod: Project, store: Store) -> None:
    age(prod, 400)
    for key in store.stored():  # the ends that these backups saw are those from before the ageing
        store.client.delete_object(Bucket=store.name, Key=key)
    assert prod.run("backup", "prod").code == 0  # row 6: young, and the newest backup
    before = prod.query("SELECT * FROM schema_migrations_log WHERE id <= 5 ORDER BY id", "prod")
    dry = prune(prod, "--dry-run")
    assert dry.code == 0 and dry.out == "prod: 5 rows would be exported and removed: 1 to 5 of 6\n"
    assert len(rows(prod)) == 6 and not [key for key in store.stored() if "audit-log" in key]

    done = prune(prod, "--reason", "two years are enough")
    assert done.code == 0, done.err
    assert "prod: 5 rows exported and removed: 1 to 5 of 6" in done.out and "the anchor, event 7" in done.out
    assert rows(prod) == [(6, "backup"), (7, "prune")]
    (key,) = [key for key in store.stored() if "audit-log" in key]
    head, *lines = [json.loads(line) for line in gzip.decompress(store.read(key)).splitlines()]
    assert (head["format"], head["first"], head["last"]) == ("lockstep.audit-log/1", 1, 5)
    assert [line["id"] for line in lines] == [1, 2, 3, 4, 5]
    assert [(line["event"], line["hash"]) for line in lines] == [(row[2], row[12]) for row in before]
    (anchor,) = [row[0] for row in prod.query("SELECT details FROM schema_migrations_log WHERE id = 7", "prod")]
    assert (anchor["up_to"], anchor["hash"], anchor["rows"]) == (5, lines[-1]["hash"], 5)
    assert anchor["reason"] == "two years are enough" and anchor["key"] == key

    # The log still refuses, goes on, and verifies, against what backups saw after it, too.
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        prod.query("DELETE FROM schema_migrations_log", "prod")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        prod.query("SET session_replication_role = replica; DELETE FROM schema_migrations_log", "prod")
    assert prod.run("status", "--check").code == 0
    assert prod.run("backup", "prod").code == 0
    done = verify(prod)
    assert done.code == 0, done
    assert "it fits 2 ends" in done.out and "the newest at row 7" in done.out
    assert "audit log whole: 3 rows, 6 to 8" in done.out and f"exported to {key}" in done.out
    assert prod.run("backups", "prune", "--dry-run", "--json").document["environments"][0]["leftovers"] == []
    none = prune(prod)
    assert none.code == 0 and "no row of the audit log is older" in none.out


@pytest.mark.slow
def test_ends_of_pruned_rows_are_compared_with_the_export(prod: Project, store: Store) -> None:
    prod.toml += "keep = { last = 10, days = 0 }\n"
    prod.configure(prod="protected = true")
    assert prod.run("backup", "prod").code == 0  # it saw row 5
    done = prod.run("history", "prune", "prod", "--before", "0s")
    assert done.code == 0 and rows(prod) == [(6, "backup"), (7, "prune")], done
    done = verify(prod)
    assert done.code == 0 and "it fits 3 ends that were noted outside, the newest at row 5" in done.out
    (key,) = [key for key in store.stored() if "audit-log" in key]
    whole = store.read(key)
    store.client.put_object(Bucket=store.name, Key=key, Body=whole[:-1])
    done = verify(prod)
    assert done.code == 4 and "the export of the rows that were pruned is not as it was" in done.err
    store.client.delete_object(Bucket=store.name, Key=key)
    assert "is not in the bucket" in verify(prod).err
    store.client.put_object(Bucket=store.name, Key=key, Body=whole)
    prod.query(OPEN + "DELETE FROM schema_migrations_log WHERE id = 6", "prod")
    assert "broken at row 7 (prune" in verify(prod).err


@pytest.mark.slow
def test_all_rows_but_the_anchor_may_go(prod: Project, store: Store) -> None:
    """Without a backup, nothing is needed of a log that holds only what was applied."""
    prod.query(OPEN + "UPDATE schema_migrations_log SET event = 'note', details = '{}' WHERE event = 'backup';", "prod")
    age(prod, 400)
    assert prune(prod).code == 0
    assert rows(prod) == [(6, "prune")]
    assert verify(prod, "--since", "2999-01-01").code == 0
    prod.write("003-a.sql", "SELECT 1;")
    assert prod.run("backup", "prod").code == 0
    assert prod.run("sync").code == 0
    assert rows(prod) == [(6, "prune"), (7, "backup"), (8, "apply")]
    assert verify(prod, "--since", "2999-01-01").code == 0


@pytest.mark.slow
def test_what_is_still_in_force_stays_and_is_named(prod: Project) -> None:
    assert prod.run("revert", "prod", "--steps", "1", "--reason", "wrong").code != 0  # it has no down
    prod.write("002-a.down.sql", "DROP TABLE t2;")
    assert prod.run("revert", "prod", "--steps", "1").code == 0
    held = prod.query("SELECT id FROM schema_migrations_log WHERE event = 'revert'", "prod")[0][0]
    age(prod, 400)
    assert prod.run("backup", "prod").code == 0
    done = prune(prod)
    assert done.code == 0, done.err
    assert f"from row {held} on all stays: it holds version 2 back" in done.out
    assert rows(prod)[0] == (held, "revert")
    assert "held" in prod.run("status", "prod").out
    assert prod.run("sync", "prod").code == 7  # and it does hold


@pytest.mark.slow
def test_the_salt_survives_a_prune(prod: Project) -> None:
    prod.variables["ADMIN"] = "ops@example.com"
    prod.configure(prod='protected = false\nsettings = { admin = "${ADMIN}" }')
    prod.write("repeatable/who.sql", "-- lockstep: uses=admin\nCREATE OR REPLACE VIEW who AS SELECT 1 AS a;")
    assert prod.run("sync").code == 0
    age(prod, 400)
    assert prod.run("backup", "prod").code == 0
    assert prune(prod).code == 0
    assert rows(prod)[0][1] == "backup" and len(rows(prod)) == 2
    assert prod.run("status", "--check").code == 0  # with another salt it would be pending again
    prod.variables["ADMIN"] = "other@example.com"
    assert prod.run("status", "--check").code == 3
    # Of a second prune, too, when the first anchor itself goes.
    prod.variables["ADMIN"] = "ops@example.com"
    prod.toml += "keep = { last = 10, days = 0 }\n"
    prod.configure(prod='protected = false\nsettings = { admin = "${ADMIN}" }')
    assert prod.run("backup", "prod").code == 0
    assert prod.run("history", "prune", "prod", "--before", "0s").code == 0
    assert [event for _, event in rows(prod)] == ["backup", "prune"]
    assert prod.run("status", "--check").code == 0


@pytest.mark.slow
def test_an_encrypted_store_gets_an_encrypted_export(prod: Project, store: Store) -> None:
    key = x25519.Identity.generate()
    prod.toml += f'encrypt_to = ["{key.to_public()}"]\nkeep = {{ last = 10, days = 0 }}\n'
    prod.configure(prod="protected = true")
    assert prod.run("backup", "prod").code == 0
    assert prod.run("history", "prune", "prod", "--before", "0s").code == 0
    (name,) = [name for name in store.stored() if "audit-log" in name]
    assert name.endswith(".jsonl.gz.age")
    lines = gzip.decompress(pyrage.decrypt(store.read(name), [key])).splitlines()
    assert len(lines) == 6
    done = verify(prod)  # no key here: its bytes are compared, its rows are not
    assert done.code == 0 and "2 noted ends are of rows that were pruned, and were not compared" in done.out
    file = prod.folder / "key.txt"
    file.write_text(str(key))
    prod.toml += f'[rehearsal]\nidentity = "{file}"\n'
    prod.configure(prod="protected = true")
    assert "it fits 3 ends" in verify(prod).out


@pytest.mark.slow
def test_a_prune_is_refused_where_it_would_destroy_evidence_or_has_nowhere_to_export_to(
    prod: Project, store: Store
) -> None:
    age(prod, 400)
    assert prod.run("history", "prune", "prod").code == 2
    assert prod.run("history", "prune", "--before", "7d").code == 2
    assert prod.run("history", "prod", "--before", "7d").code == 2
    assert prod.run("history", "prune", "prod", "--before", "7d", "--verify").code == 2
    prod.query(OPEN + "UPDATE schema_migrations_log SET actor = 'x' WHERE id = 2", "prod")
    done = prune(prod)
    assert done.code == 4 and "broken at row 2, so all of it must stay" in done.err
    prod.query(REHASH, "prod")
    toml = prod.toml
    prod.toml = ""
    prod.configure(prod="protected = false")
    done = prune(prod)
    assert done.code == 2 and "there is no [backup] to export to" in done.err
    prod.toml = toml.replace("http://127.0.0.1:", "http://127.0.0.1:1/?")
    prod.configure(prod="protected = true")
    done = prune(prod)
    assert done.code == 8
    assert len(rows(prod)) == 5


def test_an_environment_called_prune_is_never_meant_by_mistake(prod: Project, new_database: Callable[[], str]) -> None:
    prod.urls["prune"] = new_database()
    prod.configure(prod="protected = true")
    assert prod.run("init", "prune").code == 0
    done = prod.run("history", "prune")
    assert done.code == 2 and "an environment as well" in done.err
    assert "1 " in prod.run("history", "prod", "prune").out
    assert prod.run("history", "prune", "prune", "--before", "7d", "--dry-run").code == 0


# -- every command ----------------------------------------------------------------------------------------------------


def test_every_command_that_changes_something_leaves_its_event(
    prod: Project, store: Store, new_database: Callable[[], str]
) -> None:
    """In the log of the environment that it changed. `deploy` and its flow end in the same use cases as `sync`."""
    prod.toml += "keep = { last = 1, days = 0 }\n"
    prod.configure(prod="protected = true")
    name = parse_address(prod.urls["prod"]).database

    def newest() -> int:
        return int(prod.query("SELECT max(id) FROM schema_migrations_log", "prod")[0][0])

    def leaves(events: list[str], *words: str, code: int = 0) -> None:
        before = newest()
        done = prod.run(*words)
        assert done.code == code, (words, done)
        found = prod.query(f"SELECT event, run_id FROM schema_migrations_log WHERE id > {before} ORDER BY id", "prod")
        assert [event for event, _ in found] == events, words
        assert all(run for _, run in found), words

    assert rows(prod)[0] == (1, "init")
    leaves([], "init")
    prod.query("DROP INDEX schema_migrations_log_version", "prod")
    leaves(["init"], "init")
    prod.write("003-a.sql", "SELECT 1;")
    prod.write("003-a.down.sql", "SELECT 1;")
    leaves(["backup", "verify", "rehearse", "ask", "approve", "apply"], "sync", "prod")
    leaves([], "sync", "prod")
    leaves(["backup", "ask", "approve", "revert"], "revert", "prod", "--steps", "1", "--reason", "x")
    leaves(["repair"], "repair", "prod", "--record", "3")
    leaves(["repair"], "repair", "prod", "--undo", str(newest()))
    leaves(["backup", "verify", "rehearse", "ask", "approve", "apply"], "sync", "prod", "--include", "3")
    prod.write("004-a.sql", "SELECT 1/0;")
    leaves(["backup", "verify", "rehearse", "refuse"], "sync", "prod", code=7)
    leaves(
        ["backup", "verify", "rehearse", "override", "ask", "approve", "fail"],
        "sync",
        "prod",
        "--override",
        "as agreed",
        code=6,
    )
    prod.write("002-a.sql", "SELECT 'changed';")
    leaves(["refuse"], "sync", "prod", code=4)
    assert "002-a" in prod.run("history", "prod", "--event", "refuse").out
    prod.write("002-a.sql", "CREATE TABLE t2 (id int);")
    leaves(["refuse"], "revert", "prod", "--to", "1", code=7)  # 002 has no down
    prod.remove("004-a.sql")
    leaves(["backup"], "backup", "prod")
    leaves(["verify"], "backups", "verify", "latest", "--level", "digests")
    leaves(["remove"], "backups", "prune", "prod")
    assert " backups" in prod.run("history", "prod", "--event", "remove").out
    leaves(["prune"], "history", "prune", "prod", "--before", "0s")
    before = newest()
    assert prod.run("restore", "latest", "--into", "prod", "--replace", "--yes-i-mean", name).code == 0
    assert rows(prod)[-1][1] == "restore" and newest() < before
    prod.urls["dev"] = new_database()
    prod.configure(prod="protected = true")
    assert prod.run("init", "dev").code == 0
    assert prod.run("baseline", "dev", "--version", "2").code == 0
    assert prod.query("SELECT event FROM schema_migrations_log", "dev") == [("init",), ("baseline",)]
