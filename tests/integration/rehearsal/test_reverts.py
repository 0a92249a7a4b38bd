"""The gate of `revert`: proven, or tried on the backup that it takes, or overridden by name."""

from __future__ import annotations

import pytest

from lockstep.core.approval import Approval
from tests.project import Project


def pair(project: Project, version: int, up: str, down: str) -> None:
    project.write(f"{version:03d}-m.sql", up)
    project.write(f"{version:03d}-m.down.sql", down)


@pytest.fixture
def shop(prod: Project) -> Project:
    """prod with a table and a column, each applied by a deploy of its own."""
    pair(prod, 1, "CREATE TABLE orders (id int PRIMARY KEY, total int);", "DROP TABLE orders;")
    assert prod.run("sync", "prod").code == 0
    prod.query("INSERT INTO orders SELECT n, n FROM generate_series(1, 10) n", "prod")
    pair(prod, 2, "ALTER TABLE orders ADD COLUMN note text;", "ALTER TABLE orders DROP COLUMN note;")
    assert prod.run("sync", "prod").code == 0
    return prod


def standing(project: Project, version: int) -> object:
    return project.query(f"SELECT revert_proof->>'standing' FROM schema_migrations WHERE version = {version}", "prod")[
        0
    ][0]


def overrides(project: Project) -> list[tuple[object, ...]]:
    return project.query(
        "SELECT details->>'reason', details->>'by' LIKE '%@%', details->'problems'->>0, actor IS NOT NULL "
        "FROM schema_migrations_log WHERE event = 'override' ORDER BY id",
        "prod",
    )


def applied(project: Project) -> list[int]:
    return [row[0] for row in project.query("SELECT version FROM schema_migrations ORDER BY 1", "prod")]


@pytest.mark.slow
def test_what_the_deploy_proved_is_kept_and_lets_the_revert_go_on(shop: Project) -> None:
    assert (standing(shop, 1), standing(shop, 2)) == ("proven", "proven")
    row = shop.query("SELECT revert_proof->>'down_checksum' = down_checksum, revert_proof->>'backup' FROM schema_migrations WHERE version = 2", "prod")  # fmt: skip
    assert row[0][0] is True and row[0][1]
    done = shop.run("revert", "prod", "--steps", "1")
    assert done.code == 0, done.err
    assert "proven when it was rehearsed" in done.err and "loses nothing" in done.err
    assert "trial" not in done.err
    assert applied(shop) == [1]


def events(project: Project) -> list[object]:
    return [row[0] for row in project.query("SELECT event FROM schema_migrations_log ORDER BY id", "prod")]


def test_nothing_is_taken_back_that_nobody_approved(shop: Project) -> None:
    asked = []
    shop.prompt = lambda request: asked.append(request) or (False, "not at noon")  # type: ignore[func-returns-value]
    refused = shop.run("revert", "prod", "--steps", "1")
    assert refused.code == 7 and "not at noon" in refused.err and "lockstep revert prod" in refused.err
    assert applied(shop) == [1, 2]
    assert "loses nothing" in asked[0].request.headline and asked[0].request.what == ("002-m.sql",)
    shop.prompt = None
    done = shop.run_process("revert", "prod", "--steps", "1", "--approve", "OPS-7")
    assert done.code == 0, done.err
    assert "OPS-7" in done.err
    assert applied(shop) == [1]
    assert events(shop)[-6:] == ["reject", "refuse", "backup", "ask", "approve", "revert"]


def test_one_person_alone_takes_nothing_back_where_two_are_needed(shop: Project) -> None:
    shop.toml += "\n[approval]\ntwo_person = true\n"
    file = shop.folder / "lockstep.toml"
    file.write_text("[approval]\ntwo_person = true\n" + file.read_text())
    refused = shop.run("revert", "prod", "--steps", "1", "--approve", "I say so")
    assert refused.code == 2 and "two_person" in refused.err
    assert applied(shop) == [1, 2]


@pytest.mark.slow
def test_rows_written_while_it_waited_for_approval_are_counted(shop: Project) -> None:
    def late(_asked: object) -> tuple[bool, str]:
        shop.query("UPDATE orders SET note = 'x' WHERE id <= 3", "prod")
        return True, "fine"

    shop.prompt = late
    refused = shop.run("revert", "prod", "--steps", "1")
    assert refused.code == 7 and "it loses data: 3 rows of public.orders.note" in refused.err
    assert applied(shop) == [1, 2]


def test_an_override_does_not_cover_rows_that_were_written_after_somebody_approved_that_none_are_lost(
    shop: Project,
) -> None:
    def late(asked: Approval) -> tuple[bool, str]:
        assert "loses nothing" in asked.request.headline and asked.request.overridden is None
        shop.query("UPDATE orders SET note = 'x' WHERE id <= 3", "prod")
        return True, "fine"

    shop.prompt = late
    refused = shop.run("revert", "prod", "--steps", "1", "--override", "to be sure")
    assert refused.code == 7 and "it loses data: 3 rows of public.orders.note" in refused.err
    assert applied(shop) == [1, 2]


def test_whoever_approved_a_loss_approved_that_one_and_is_asked_again_when_it_grew(shop: Project) -> None:
    shop.query("UPDATE orders SET note = 'x' WHERE id = 1", "prod")
    seen: list[str] = []

    def late(asked: Approval) -> tuple[bool, str]:
        seen.append(str(asked.request.overridden))
        shop.query("UPDATE orders SET note = 'x' WHERE id <= 3", "prod")
        return len(seen) == 1, "three are too many"

    shop.prompt = late
    refused = shop.run("revert", "prod", "--steps", "1", "--override", "nobody reads it")
    assert refused.code == 7 and "three are too many" in refused.err
    assert ["1 row of public.orders.note" in seen[0], "3 rows of public.orders.note" in seen[1]] == [True, True]
    assert applied(shop) == [1, 2]


def test_rows_written_while_it_waited_are_counted_where_it_was_tried_on_the_backup(shop: Project) -> None:
    def late(asked: Approval) -> tuple[bool, str]:
        assert "tried on backup" in asked.request.headline and "loses nothing" in asked.request.headline
        shop.query("UPDATE orders SET note = 'x' WHERE id <= 3", "prod")
        return True, "fine"

    shop.write("002-m.down.sql", "DO $$ BEGIN ALTER TABLE orders DROP COLUMN note; END $$;")
    shop.prompt = late
    refused = shop.run("revert", "prod", "--steps", "1")
    assert refused.code == 7 and "written since the backup: 3 rows of public.orders.note" in refused.err
    assert applied(shop) == [1, 2]


def test_a_session_that_is_lost_while_it_waits_takes_the_lock_again_and_goes_on_with_the_same_ledger_alone(
    shop: Project,
) -> None:
    def lost(_asked: Approval) -> tuple[bool, str]:
        shop.query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'", "prod")
        if len(asked) == 1:
            shop.query("UPDATE schema_migrations SET checksum = 'other' WHERE version = 1", "prod")
        return True, "fine"

    asked: list[int] = [1]
    shop.prompt = lost
    refused = shop.run("revert", "prod", "--steps", "1")
    assert refused.code == 4 and "changed by somebody else" in refused.err and "Nothing was taken back" in refused.err
    assert applied(shop) == [1, 2]
    asked.clear()
    assert shop.run("revert", "prod", "--steps", "1").code == 0
    assert applied(shop) == [1]


def test_what_was_written_since_is_counted_and_wants_an_override(shop: Project) -> None:
    shop.query("UPDATE orders SET note = 'x' WHERE id <= 3", "prod")
    refused = shop.run("revert", "prod", "--steps", "1")
    assert refused.code == 7
    assert "it loses data: 3 rows of public.orders.note" in refused.err
    assert 'lockstep revert prod --steps 1 --override "reason"' in refused.err
    assert applied(shop) == [1, 2]
    done = shop.run("revert", "prod", "--steps", "1", "--override", "the notes are wrong anyway")
    assert done.code == 0, done.err
    assert "overridden by" in done.err
    assert applied(shop) == [1]
    assert overrides(shop) == [
        ("the notes are wrong anyway", True, "it loses data: 3 rows of public.orders.note", True),
    ]


@pytest.mark.slow
def test_what_to_run_again_is_what_was_run(shop: Project) -> None:
    refused = shop.run("revert", "prod", "--to", "none")
    assert refused.code == 7
    assert 'lockstep revert prod --to none --override "reason"' in refused.err


def test_another_down_than_the_proven_one_is_tried_on_the_backup(shop: Project) -> None:
    shop.write("002-m.down.sql", "ALTER TABLE orders DROP COLUMN IF EXISTS note;")
    done = shop.run("revert", "prod", "--steps", "1")
    assert done.code == 0, done.err
    assert "trial of the revert proven" in " ".join(done.err.split()) or "proven" in done.err
    assert "tried on backup" in done.err
    assert applied(shop) == [1]


@pytest.mark.slow
def test_a_down_that_leaves_something_is_refused_by_the_schema_that_was_recorded(shop: Project) -> None:
    """The up would not mind: it adds the column only where there is none."""
    shop.write("003-m.sql", "ALTER TABLE orders ADD COLUMN IF NOT EXISTS extra int; CREATE INDEX IF NOT EXISTS extras ON orders (extra);")  # fmt: skip
    shop.write("003-m.down.sql", "SELECT 1;")
    assert shop.run("sync", "prod").code == 0
    assert standing(shop, 3) == "not proven"
    refused = shop.run("revert", "prod", "--steps", "1")
    assert refused.code == 7
    assert "it leads elsewhere than where it came from: column public.orders.extra is left over" in refused.err
    assert "index public.extras is left over" in refused.err


@pytest.mark.slow
def test_a_down_that_fails_on_the_copy_never_reaches_production(shop: Project) -> None:
    shop.write("002-m.down.sql", "ALTER TABLE orders DROP COLUMN notes;")
    refused = shop.run("revert", "prod", "--steps", "1")
    assert refused.code == 7
    assert "it fails: 002-m.down.sql:1" in refused.err
    assert shop.query("SELECT count(*) FROM schema_migrations_log WHERE event = 'fail'", "prod") == [(0,)]


@pytest.mark.slow
def test_a_revert_of_all_counts_each_table_once_and_follows_a_renamed_one(shop: Project) -> None:
    pair(shop, 3, "ALTER TABLE orders RENAME TO sales;", "ALTER TABLE sales RENAME TO orders;")
    assert shop.run("sync", "prod").code == 0
    shop.write("002-m.down.sql", "ALTER TABLE orders DROP COLUMN note; -- again")
    done = shop.run("revert", "prod", "--to", "1")
    assert done.code == 0, done.err
    assert "loses nothing" in done.err
    assert shop.query("SELECT count(*) FROM orders", "prod") == [(10,)]


@pytest.mark.slow
def test_one_out_of_the_middle_goes_where_two_ways_come_to_the_same(shop: Project) -> None:
    pair(shop, 3, "CREATE TABLE other (id int);", "DROP TABLE other;")
    assert shop.run("sync", "prod").code == 0
    done = shop.run("revert", "prod", "--only", "2")
    assert done.code == 0, done.err
    assert "tried on backup" in done.err
    assert applied(shop) == [1, 3]
    status = shop.run("status", "prod")
    assert "held" in status.out and "out of order" not in status.out
    again = shop.run("sync", "prod", "--include", "2")
    assert again.code == 0, again.err
    assert applied(shop) == [1, 2, 3]


@pytest.mark.slow
def test_one_that_a_newer_one_needs_stays(shop: Project) -> None:
    pair(shop, 3, "CREATE INDEX notes ON orders (note);", "DROP INDEX notes;")
    assert shop.run("sync", "prod").code == 0
    refused = shop.run("revert", "prod", "--only", "2")
    assert refused.code == 7
    assert "the newer ones do not run without it: 003-m.sql:1" in refused.err
    assert applied(shop) == [1, 2, 3]


def test_what_cannot_be_tried_without_a_newer_ones_down_is_told_before_a_backup_is_taken(project: Project) -> None:
    project.toml = '[backup]\nbucket = "s3://nowhere/x"\nendpoint_url = "http://127.0.0.1:9"\n'
    project.configure()
    for version in (1, 2):
        pair(project, version, f"CREATE TABLE t{version} (id int);", f"DROP TABLE t{version};")
    project.write("003-m.sql", "CREATE TABLE other (id int);")
    assert project.run("init").code == 0
    assert project.run("sync", "dev").code == 0
    refused = project.run("revert", "dev", "--only", "2")
    assert refused.code == 7, refused.err
    assert "whether the newer ones can do without it cannot be tried: 003-m.sql has no down script" in refused.err
    assert "backup" not in refused.err.replace("restore a backup", "")
    project.write("003-m.down.sql", "DROP TABLE other;")
    project.write("003-m.sql", "CREATE TABLE another (id int);")
    refused = project.run("revert", "dev", "--only", "2")
    assert refused.code == 7 and "the files of 3 are not what was applied" in refused.err


@pytest.mark.slow
def test_out_of_the_middle_of_dev_needs_a_trial_as_well(project: Project) -> None:
    for version in (1, 2, 3):
        pair(project, version, f"CREATE TABLE t{version} (id int);", f"DROP TABLE t{version};")
    project.run("init")
    assert project.run("sync", "dev").code == 0
    refused = project.run("revert", "dev", "--only", "2")
    assert refused.code == 7
    assert "has to be tried on a copy, and without [backup] there is none" in refused.err
    done = project.run("revert", "dev", "--only", "2", "--override", "it is only dev")
    assert done.code == 0, done.err
    assert project.query("SELECT version FROM schema_migrations ORDER BY 1") == [(1,), (3,)]
    newest = project.run("revert", "dev", "--only", "3")
    assert newest.code == 0, newest.err


@pytest.mark.slow
def test_a_version_that_is_not_there_is_a_usage_error(shop: Project) -> None:
    assert shop.run("revert", "prod", "--only", "9").code == 2
