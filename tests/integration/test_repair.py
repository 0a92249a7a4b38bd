"""`repair` and `baseline` in every state a migration can be in: what fits is done and logged, what does not is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.project import Project

NONE = "-- lockstep: transaction=none\n"


def ledger(project: Project) -> list[Any]:
    """The whole ledger, every column."""
    return [row[0] for row in project.query("SELECT to_jsonb(m) FROM schema_migrations m ORDER BY migration_name")]


def state(project: Project, name: str = "002-b.sql") -> str:
    rows = project.run("status", "--json").document["environments"][0]["migrations"]
    return next((row["state"] for row in rows if row["migration_name"] == name), "gone")


# Each brings 002-b.sql into its state.


def _applied(project: Project) -> None:
    project.write("002-b.sql", "SELECT 2;")
    assert project.run("sync").code == 0


def _changed(project: Project) -> None:
    _applied(project)
    project.write("002-b.sql", "SELECT 22;")


def _reformatted(project: Project) -> None:
    _applied(project)
    project.write("002-b.sql", "-- why\nSELECT 2;")


def _unverified(project: Project) -> None:
    _applied(project)
    project.query("UPDATE schema_migrations SET verified = false, checksum = 'old' WHERE version = 2")


def _missing(project: Project) -> None:
    _applied(project)
    project.remove("002-b.sql")


def _pending(project: Project) -> None:
    project.write("002-b.sql", "SELECT 2;")


def _out_of_order(project: Project) -> None:
    project.write("003-c.sql", "SELECT 3;")
    assert project.run("sync").code == 0
    project.write("002-b.sql", "SELECT 2;")


def _held(project: Project) -> None:
    project.write("002-b.down.sql", "SELECT 0;")
    _applied(project)
    assert project.run("revert", "dev", "--steps", "1", "--reason", "wrong totals").code == 0


def _failed(project: Project) -> None:
    project.write("002-b.sql", NONE + "SELECT 1;\nSELECT 1/0;")
    assert project.run("sync").code == 6


def _started(project: Project) -> None:
    _failed(project)
    project.query("UPDATE schema_migrations SET state = 'started' WHERE version = 2")


def _in_doubt(project: Project) -> None:
    project.write("002-b.sql", NONE + "SELECT 1;\nDO $$ BEGIN COMMIT; RAISE EXCEPTION 'x'; END $$;")
    assert project.run("sync").code == 6


def _reverting(project: Project) -> None:
    project.write("002-b.down.sql", NONE + "SELECT 1;\nDO $$ BEGIN COMMIT; RAISE EXCEPTION 'x'; END $$;")
    _applied(project)
    assert project.run("revert", "dev", "--steps", "1").code == 6


def _baseline(project: Project) -> None:
    project.write("002-b.sql", "SELECT 2;")
    assert project.run("repair", "dev", "--forget", "1").code == 0
    assert project.run("baseline", "dev", "--version", "2").code == 0


STATES: dict[str, Callable[[Project], None]] = {
    "applied": _applied, "changed": _changed, "reformatted": _reformatted, "unverified": _unverified,
    "missing": _missing, "pending": _pending, "out of order": _out_of_order, "held": _held, "failed": _failed,
    "started": _started, "in doubt": _in_doubt, "reverting": _reverting, "baseline": _baseline,
}  # fmt: skip

#: (state, verb) -> state afterwards. What is not here is refused.
FITS = {
    ("applied", "forget"): "pending",
    ("changed", "accept"): "applied",
    ("changed", "forget"): "pending",
    ("reformatted", "accept"): "applied",
    ("reformatted", "forget"): "pending",
    ("unverified", "accept"): "applied",
    ("unverified", "forget"): "pending",
    ("missing", "forget"): "gone",
    ("pending", "record"): "applied",
    ("out of order", "record"): "applied",
    ("held", "record"): "applied",
    ("failed", "record"): "applied",
    ("failed", "forget"): "pending",
    ("started", "record"): "applied",
    ("started", "forget"): "pending",
    ("in doubt", "record"): "applied",
    ("in doubt", "forget"): "pending",
    ("in doubt", "statement-done"): "failed",
    ("in doubt", "statement-undone"): "failed",
    ("reverting", "record"): "applied",
    ("reverting", "forget"): "pending",
    ("reverting", "statement-done"): "failed",
    ("reverting", "statement-undone"): "failed",
    ("baseline", "forget"): "pending",
}
VERBS = ("accept", "forget", "record", "statement-done", "statement-undone")


@pytest.fixture
def begun(project: Project) -> Project:
    project.run("init")
    project.write("001-a.sql", "SELECT 1;")
    assert project.run("sync").code == 0
    return project


@pytest.mark.parametrize("case", STATES)
def test_every_correction_fits_or_is_refused_and_can_be_taken_back(case: str, begun: Project) -> None:
    STATES[case](begun)
    before, shown = ledger(begun), state(begun)
    for verb in VERBS:
        done = begun.run("repair", "dev", f"--{verb}", "2", "--reason", "because")
        after = FITS.get((case, verb))
        if after is None:
            assert done.code == 2, (verb, done)
            assert "next: " in done.err
            assert ledger(begun) == before
            continue
        assert done.code == 0, (verb, done)
        assert done.out.startswith("002-b.sql: ")
        assert state(begun) == after, verb
        number, reason = begun.query(
            "SELECT id, details->>'reason' FROM schema_migrations_log WHERE event = 'repair' ORDER BY id DESC LIMIT 1"
        )[0]
        assert reason == "because"
        changed = ledger(begun)
        taken_back = begun.run("repair", "dev", "--undo", str(number))
        assert taken_back.code == 0, (verb, taken_back)
        assert ledger(begun) == before, verb
        assert state(begun) == shown, verb
        again = begun.run("repair", "dev", "--undo", str(number + 1))
        assert again.code == 0, "taking back can be taken back"
        assert ledger(begun) == changed
        assert begun.run("repair", "dev", "--undo", str(number + 2)).code == 0
        assert (ledger(begun), state(begun)) == (before, shown)
    assert "audit log whole" in begun.run("history", "--verify").out


@pytest.mark.parametrize("case", ["reformatted", "unverified"])
def test_what_is_safe_needs_no_name(case: str, begun: Project) -> None:
    STATES[case](begun)
    assert begun.run("repair", "dev").out == f"002-b.sql: {case}: the file on disk is recorded now\n"
    assert state(begun) == "applied"
    assert begun.run("repair", "dev").out == "nothing to repair\n"


def test_a_correction_whose_rows_changed_since_is_not_taken_back(begun: Project) -> None:
    STATES["pending"](begun)
    assert begun.run("repair", "dev", "--record", "2").code == 0
    number = begun.query("SELECT max(id) FROM schema_migrations_log")[0][0]
    assert begun.run("repair", "dev", "--forget", "2").code == 0
    done = begun.run("repair", "dev", "--undo", str(number))
    assert done.code == 4 and "002-b.sql was changed since; nothing was corrected" in done.err
    assert state(begun) == "pending"


def test_only_a_correction_can_be_taken_back(begun: Project) -> None:
    for number in ("1", "2", "99"):
        done = begun.run("repair", "dev", "--undo", number)
        assert done.code == 2 and "is no correction that could be taken back" in done.err


def test_a_baseline_may_be_moved_and_taken_back_while_nothing_ran(project: Project) -> None:
    for number in (1, 2, 3):
        project.write(f"00{number}-x.sql", f"SELECT {number};")
    project.run("init")
    assert project.run("baseline", "dev", "--version", "3").code == 0
    first = ledger(project)
    assert project.run("baseline", "dev", "--version", "1").code == 0
    assert [row["migration_name"] for row in ledger(project)] == ["001-x.sql"]
    number = project.query("SELECT max(id) FROM schema_migrations_log")[0][0]
    assert project.run("repair", "dev", "--undo", str(number)).code == 0
    assert ledger(project) == first
    assert project.run("baseline", "dev", "--version", "none").code == 0
    assert project.run("sync").code == 0
    done = project.run("baseline", "dev", "--version", "3")
    assert done.code == 4 and "001-x.sql ran here already" in done.err


def test_a_repeatable_is_recorded_and_accepted_by_name(begun: Project) -> None:
    begun.write("repeatable/view.sql", "SELECT 1;")
    assert begun.run("repair", "dev", "--record", "view").code == 0
    assert state(begun, "repeatable/view.sql") == "applied"
    begun.write("repeatable/view.sql", "SELECT 2;")
    assert state(begun, "repeatable/view.sql") == "to re-apply"
    assert begun.run("repair", "dev", "--accept", "repeatable/view.sql").code == 0
    assert begun.run("status", "--check").code == 0


def test_after_every_statement_of_a_file_is_settled_it_is_finished(begun: Project) -> None:
    STATES["in doubt"](begun)
    assert begun.run("repair", "dev", "--statement-done", "2").code == 0
    assert begun.run("sync").code == 0
    assert state(begun) == "applied"
    begun.write("002-b.down.sql", NONE + "SELECT 1;\nDO $$ BEGIN COMMIT; RAISE EXCEPTION 'x'; END $$;")
    assert begun.run("revert", "dev", "--steps", "1").code == 6
    stopped = begun.run("revert", "dev", "--steps", "1")
    assert stopped.code == 4 and "nobody can tell" in stopped.err
    assert begun.run("repair", "dev", "--statement-done", "2").code == 0
    assert begun.run("revert", "dev", "--steps", "1").code == 0
    assert state(begun) == "held"
