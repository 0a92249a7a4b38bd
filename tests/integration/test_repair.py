"""`repair` and `baseline` in every state a migration can be in: what fits is done and logged, what does not is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.project import Project

NONE = "-- lockstep: transaction=none\n"


def ledger(project: Project) -> list[Any]:
    """The whole ledger, every column."""
    return [
        row[0]
        for row in project.query(
            "SELECT to_jsonb(m) - 'fingerprint_after' FROM schema_migrations m ORDER BY migration_name"
        )
    ]


def shown(project: Project) -> list[Any]:
    """What `status` says, but for the schema: a correction records it anew."""
    return [one | {"schema": None} for one in project.run("status", "--json").document["environments"]]


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
    said = begun.run("repair", "dev").out
    assert said.startswith(f"002-b.sql: {case}: the file on disk is recorded now (event ")
    assert state(begun) == "applied"
    assert begun.run("repair", "dev").out == "nothing to repair\n"


def newest(project: Project) -> int:
    """The number of the newest event in the audit log."""
    return int(project.query("SELECT max(id) FROM schema_migrations_log")[0][0])


def refused_undo(project: Project, number: int) -> str:
    """Ask for an undo that must be refused without a change; return what it said."""
    before = ledger(project)
    done = project.run("repair", "dev", "--undo", str(number))
    assert done.code == 4 and "nothing was corrected" in done.err, done
    assert ledger(project) == before
    return done.err


def test_what_a_later_correction_changed_is_taken_back_first(begun: Project) -> None:
    STATES["pending"](begun)
    assert begun.run("repair", "dev", "--record", "2").code == 0
    record = newest(begun)
    assert begun.run("repair", "dev", "--forget", "2").code == 0
    said = refused_undo(begun, record)
    assert f"event {record + 1} (repair) changed 002-b.sql after event {record}" in said
    assert f"next: take that back first: lockstep repair dev --undo {record + 1}" in said
    assert begun.run("repair", "dev", "--undo", str(record + 1)).code == 0
    assert begun.run("repair", "dev", "--undo", str(record)).code == 0
    assert state(begun) == "pending"
    assert f"event {record + 3} took event {record} back already" in refused_undo(begun, record)


def test_a_forgotten_entry_does_not_come_back_once_its_migration_ran_and_was_reverted(begun: Project) -> None:
    begun.write("002-b.sql", "CREATE TABLE IF NOT EXISTS x (id int);")
    begun.write("002-b.down.sql", "DROP TABLE x;")
    assert begun.run("sync").code == 0
    assert begun.run("repair", "dev", "--forget", "2").code == 0
    forget = newest(begun)
    assert begun.run("sync").code == 0
    assert begun.run("revert", "dev", "--steps", "1").code == 0
    said = refused_undo(begun, forget)
    assert f"event {newest(begun)} (revert) changed 002-b.sql after event {forget}" in said
    assert "next: lockstep status dev shows what is true now; --record, --forget or --accept corrects it" in said
    assert state(begun) == "held"


def test_an_old_failure_does_not_come_back_after_its_migration_was_applied(begun: Project) -> None:
    begun.query("CREATE TABLE n (d int); INSERT INTO n VALUES (0)")
    begun.write("002-b.sql", NONE + "SELECT 1;\nSELECT 1 / d FROM n;\nSELECT 3;")
    assert begun.run("sync").code == 6
    assert begun.run("repair", "dev", "--forget", "2").code == 0
    first = newest(begun)
    begun.query("UPDATE n SET d = 1")
    assert begun.run("sync").code == 0
    applied = newest(begun)
    assert begun.run("repair", "dev", "--forget", "2").code == 0
    said = refused_undo(begun, first)
    assert f"event {applied + 1} (repair) changed 002-b.sql" in said
    assert f"lockstep repair dev --undo {applied + 1}; event {first} stays, since event {applied} (apply) ran" in said
    assert begun.run("repair", "dev", "--undo", str(applied + 1)).code == 0
    assert f"event {applied} (apply)" in refused_undo(begun, first)
    assert state(begun) == "applied"


def test_a_failed_try_and_other_versions_do_not_stand_in_the_way(begun: Project) -> None:
    begun.write("002-b.sql", "CREATE TABLE x (id int);")
    assert begun.run("sync").code == 0
    before = ledger(begun)
    assert begun.run("repair", "dev", "--forget", "2").code == 0
    forget = newest(begun)
    assert begun.run("sync").code == 6, "x is there already"
    assert begun.run("repair", "dev", "--forget", "1").code == 0
    assert begun.run("repair", "dev", "--undo", str(forget)).code == 0
    assert [row["version"] for row in ledger(begun)] == [2]
    assert begun.run("repair", "dev", "--undo", str(newest(begun) - 1)).code == 0
    assert ledger(begun) == before


def test_a_baseline_in_between_is_taken_back_first(project: Project) -> None:
    for number in (1, 2, 3):
        project.write(f"00{number}-x.sql", f"SELECT {number};")
    project.run("init")
    assert project.run("baseline", "dev", "--version", "3").code == 0
    before = ledger(project)
    assert project.run("repair", "dev", "--forget", "2").code == 0
    forget = newest(project)
    assert project.run("baseline", "dev", "--version", "none").code == 0
    assert f"event {forget + 1} (baseline)" in refused_undo(project, forget)
    for number in (forget + 1, forget + 2, forget + 3):  # taken back, and that, and that
        assert project.run("repair", "dev", "--undo", str(number)).code == 0
    assert project.run("repair", "dev", "--undo", str(forget)).code == 0
    assert ledger(project) == before


def test_a_repeatable_that_a_revert_asks_to_run_again_is_not_put_back(begun: Project) -> None:
    begun.write("002-b.down.sql", "SELECT 0;")
    begun.write("repeatable/view.sql", "SELECT 1;")
    STATES["applied"](begun)
    assert begun.run("repair", "dev", "--forget", "view").code == 0
    forget = newest(begun)
    assert begun.run("revert", "dev", "--steps", "1").code == 0
    assert f"event {forget + 1} (revert) changed repeatable/view.sql" in refused_undo(begun, forget)


def test_an_entry_is_not_put_back_beside_another_of_its_version(begun: Project) -> None:
    STATES["applied"](begun)
    assert begun.run("repair", "dev", "--forget", "2").code == 0
    forget = newest(begun)
    begun.remove("002-b.sql")
    begun.write("002-new.sql", "SELECT 2;")
    assert begun.run("sync").code == 0
    assert f"event {forget + 1} (apply) changed 002-b.sql after event {forget}" in refused_undo(begun, forget)


def test_a_baseline_is_not_taken_back_over_what_ran_since(project: Project) -> None:
    for number in (1, 2, 3):
        project.write(f"00{number}-x.sql", f"SELECT {number};")
    project.run("init")
    assert project.run("baseline", "dev", "--version", "3").code == 0
    assert project.run("baseline", "dev", "--version", "2").code == 0
    moved = newest(project)
    assert project.run("sync").code == 0
    assert f"event {moved + 1} (apply) changed 003-x.sql after event {moved}" in refused_undo(project, moved)


@pytest.mark.parametrize("name", ["002-b.sql", "002-by-hand.sql"])
def test_an_entry_that_somebody_wrote_by_hand_is_not_overwritten(name: str, begun: Project) -> None:
    STATES["applied"](begun)
    assert begun.run("repair", "dev", "--forget", "2").code == 0
    begun.query(f"INSERT INTO schema_migrations (migration_name, version) VALUES ('{name}', 2)")
    said = refused_undo(begun, newest(begun))
    assert f"{name} is in the ledger in place of 002-b.sql" in said
    assert "next: lockstep repair dev --forget 2" in said


def test_an_entry_that_somebody_changed_by_hand_is_not_taken_back(begun: Project) -> None:
    STATES["pending"](begun)
    assert begun.run("repair", "dev", "--record", "2").code == 0
    begun.query("UPDATE schema_migrations SET applied_by = 'me' WHERE version = 2")
    number = newest(begun)
    assert f"002-b.sql is not as event {number} left it" in refused_undo(begun, number)


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


def test_a_name_of_two_migrations_is_refused_with_both(begun: Project) -> None:
    begun.write("002-t.sql", "SELECT 2;")
    begun.write("repeatable/002-t.sql", "SELECT 3;")
    assert begun.run("sync").code == 0
    before = ledger(begun)
    done = begun.run("repair", "dev", "--forget", "002-t")
    assert done.code == 2 and "002-t may be 002-t.sql or repeatable/002-t.sql" in done.err
    assert "next: give the whole name" in done.err
    assert ledger(begun) == before
    assert begun.run("repair", "dev", "--forget", "002-t.sql").code == 0
    assert begun.run("repair", "dev", "--forget", "repeatable/002-t.sql").code == 0
    assert [row["version"] for row in ledger(begun)] == [1]


def test_what_an_option_is_for_is_listed_in_the_order_of_the_reference(begun: Project) -> None:
    assert (
        "001-a.sql is applied: --record is for what is pending, held, out of order, started or failed\n"
        in begun.run("repair", "dev", "--record", "1").err
    )
    STATES["pending"](begun)
    assert (
        "--forget is for what is applied, baseline, reformatted, unverified, to re-apply, changed, missing, started or failed\n"
        in begun.run("repair", "dev", "--forget", "2").err
    )


def test_every_correction_names_its_event_and_how_to_take_it_back(begun: Project) -> None:
    STATES["applied"](begun)
    done = begun.run("repair", "dev", "--forget", "1", "--forget", "2")
    last = newest(begun)
    assert done.out == (
        f"001-a.sql: entry removed (event {last - 1}; take it back: lockstep repair dev --undo {last - 1})\n"
        f"002-b.sql: entry removed (event {last}; take it back: lockstep repair dev --undo {last})\n"
    )
    undone = begun.run("repair", "dev", "--undo", str(last), "--json").document
    assert undone["corrections"] == [{"name": "002-b.sql", "what": f"as before event {last}", "event": last + 1}]
    assert begun.run("repair", "dev", "--undo", str(last - 1)).code == 0
    assert [row["version"] for row in ledger(begun)] == [1, 2]


def _step(project: Project, random_: random.Random) -> None:
    """Something that runs migrations, or lets 002 run where it failed before, or the other way round."""
    word = random_.choice(["sync", "sync", "revert", "mend"])
    if word == "mend":
        project.query("UPDATE n SET d = 1 - d")
        return
    done = project.run(word, "dev", *(["--steps", "1"] if word == "revert" else []))
    assert done.code in {0, 2, 4, 6, 7}, done


def _correction(project: Project, random_: random.Random) -> bool:
    """Ask for any correction, or to take back any; True when it was done. Refused, it changes nothing."""
    before, last = ledger(project), newest(project)
    if random_.random() < 0.5:
        number = random_.randint(max(1, last - 4), last)
        ran = project.query(
            "SELECT FROM schema_migrations_log l JOIN schema_migrations_log r USING (version) "
            f"WHERE l.id = {number} AND r.id > l.id AND r.event IN ('start', 'resume', 'apply', 'revert')"
        )
        done = project.run("repair", "dev", "--undo", str(number))
        assert done.code in ({2, 4} if ran else {0, 2, 4}), (number, done)
    else:
        done = project.run(
            "repair", "dev", f"--{random_.choice((*VERBS, 'forget', 'record'))}", str(random_.randint(1, 3))
        )
        assert done.code in {0, 2}, done
    if done.code != 0:
        assert (ledger(project), newest(project)) == (before, last), done
    return done.code == 0


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_corrections_undone_in_reverse_order_leave_the_ledger_as_it_was(seed: int, begun: Project) -> None:
    random_, made = random.Random(seed), 0
    begun.query("CREATE TABLE n (d int); INSERT INTO n VALUES (0)")
    begun.write(
        "002-b.sql", NONE + "SELECT 1;\nSELECT 1 / d FROM n;\nDO $$ BEGIN COMMIT; PERFORM 1 / d FROM n; END $$;"
    )
    begun.write("003-c.sql", "CREATE TABLE IF NOT EXISTS x (id int);")
    for name in ("001-a", "002-b", "003-c"):
        begun.write(f"{name}.down.sql", "DROP TABLE IF EXISTS x;")
    for _ in range(5 if seed else 3):
        for _ in range(4):
            _step(begun, random_)
        mark, before = newest(begun), (ledger(begun), shown(begun))
        made += sum(_correction(begun, random_) for _ in range(10))
        for number in range(newest(begun), mark, -1):
            done = begun.run("repair", "dev", "--undo", str(number))
            assert done.code == 0, (number, done)
        assert (ledger(begun), shown(begun)) == before, mark
        _correction(begun, random_)
    assert made >= 6, "the walk is worth nothing when all is refused"
    assert "audit log whole" in begun.run("history", "--verify").out


def test_a_hold_is_there_again_when_baseline_and_forget_over_it_are_taken_back(project: Project) -> None:
    project.run("init")
    project.write("001-a.sql", "CREATE TABLE a ();")
    project.write("001-a.down.sql", "DROP TABLE a;")
    assert project.run("sync").code == 0
    assert project.run("revert", "dev", "--steps", "1", "--reason", "bad").code == 0
    assert "held" in project.run("status").out
    assert project.run("baseline", "dev", "--version", "1").code == 0
    baseline = newest(project)
    done = project.run("repair", "dev", "--forget", "1")
    assert done.code == 0, done.err
    assert project.run("repair", "dev", "--undo", str(baseline + 1)).code == 0
    done = project.run("repair", "dev", "--undo", str(baseline))
    assert done.code == 0, done.err
    assert "held" in project.run("status").out
    assert project.run("sync").code == 7
