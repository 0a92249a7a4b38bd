"""The planner, by examples: what is shown for every state that files and ledger can be in."""

from __future__ import annotations

import pytest

from lockstep.core.comparison import State, compare
from lockstep.core.ledger import EntryState, Ledger
from lockstep.core.migration import Folder, Kind
from lockstep.core.planner import Plan, PlanOptions, Reason, Refusal, Warn, plan
from lockstep.errors import ExitCode, PlanRefused
from tests.unit.folders import entry, folder, hold, ledger, migration, repeatable

ONE, TWO, THREE = migration(1, down="DROP TABLE t1;"), migration(2), migration(3)


def planned(files: Folder, book: Ledger, options: PlanOptions | None = None) -> Plan:
    result = plan(files, book, options or PlanOptions())
    assert isinstance(result, Plan), result
    return result


def refused(files: Folder, book: Ledger, options: PlanOptions | None = None) -> tuple[Refusal, ...]:
    result = plan(files, book, options or PlanOptions())
    assert not isinstance(result, Plan)
    return result


def test_an_empty_ledger_gets_everything_in_order_of_numbers_not_of_names() -> None:
    files = folder(migration(12), migration(2), migration(20260101120000), repeatable("views", "SELECT 1"))
    assert [s.migration.version for s in planned(files, ledger()).steps] == [2, 12, 20260101120000, None]


def test_nothing_is_planned_when_all_is_applied() -> None:
    result = planned(folder(ONE, TWO), ledger(entry(ONE), entry(TWO)))
    assert result.steps == ()


@pytest.mark.parametrize(
    ("files", "book", "reason", "code"),
    [
        (folder(ONE, TWO), ledger(entry(ONE, text="CREATE TABLE other ();")), Reason.CHANGED, ExitCode.DISAGREES),
        (folder(TWO), ledger(entry(ONE)), Reason.MISSING, ExitCode.DISAGREES),
        (folder(ONE, TWO, THREE), ledger(entry(ONE), entry(THREE)), Reason.OUT_OF_ORDER, ExitCode.DISAGREES),
        (folder(ONE), ledger(entry(ONE, state=EntryState.FAILED)), Reason.FAILED, ExitCode.DISAGREES),
        (folder(ONE), ledger(entry(ONE, state=EntryState.STARTED)), Reason.FAILED, ExitCode.DISAGREES),
        (folder(ONE), ledger(occupied=3), Reason.OCCUPIED, ExitCode.DISAGREES),
        (folder(ONE, duplicates=(("001-a.sql", "001-b.sql"),)), ledger(), Reason.DUPLICATE, ExitCode.REFUSED),
        (folder(repeatable("r", "-- lockstep: uses=admins\nSELECT 1")), ledger(), Reason.UNSET, ExitCode.USAGE),
    ],
    ids=lambda value: value.value if isinstance(value, Reason) else None,
)
def test_what_does_not_fit_together_is_refused(files: Folder, book: Ledger, reason: Reason, code: ExitCode) -> None:
    refusals = refused(files, book)
    assert [r.reason for r in refusals] == [reason]
    assert refusals[0].hint
    assert PlanRefused(target="prod", reasons=refusals).exit_code == code


def test_an_occupied_database_is_no_obstacle_when_only_repeatables_would_run() -> None:
    assert planned(folder(repeatable("v", "SELECT 1")), ledger(occupied=3)).steps


def test_an_unknown_version_in_an_option_is_refused() -> None:
    assert [r.reason for r in refused(folder(ONE), ledger(), PlanOptions(to_version=9))] == [Reason.UNKNOWN_VERSION]
    assert [r.reason for r in refused(folder(ONE), ledger(), PlanOptions(include=frozenset({9})))] == [
        Reason.UNKNOWN_VERSION
    ]


def test_all_reasons_are_given_at_once() -> None:
    files = folder(ONE, THREE, duplicates=(("003-a.sql", "003-step.sql"),))
    book = ledger(entry(ONE, text="SELECT 2"), entry(TWO))
    assert {r.reason for r in refused(files, book)} == {Reason.DUPLICATE, Reason.CHANGED, Reason.MISSING}


def test_a_comment_or_white_space_changed_later_is_reported_and_not_fatal() -> None:
    reformatted = migration(1, "-- why\nCREATE TABLE  t1\n  (id bigint);")
    result = planned(folder(reformatted), ledger(entry(reformatted, text="CREATE TABLE t1 (id bigint);")))
    assert [n.kind for n in result.notices] == [Warn.REFORMATTED]


def test_white_space_inside_a_literal_is_a_change() -> None:
    other = migration(1, "INSERT INTO t VALUES ('a  b');")
    assert (
        refused(folder(other), ledger(entry(other, text="INSERT INTO t VALUES ('a b');")))[0].reason is Reason.CHANGED
    )


def test_an_entry_of_an_older_tool_is_reported_as_unverified() -> None:
    result = planned(folder(ONE), ledger(entry(ONE, text="???", verified=False)))
    assert [n.kind for n in result.notices] == [Warn.UNVERIFIED]


def test_a_gap_is_a_warning_and_dates_have_no_gaps() -> None:
    assert [n.message for n in planned(folder(ONE, THREE), ledger()).notices if n.kind is Warn.GAP] == [
        "there is no migration 2 (between 1 and 3)"
    ]
    dates = folder(migration(20260101000000), migration(20260301000000))
    assert not [n for n in planned(dates, ledger()).notices if n.kind is Warn.GAP]


def test_to_stops_behind_a_version_and_leaves_repeatables() -> None:
    files = folder(ONE, TWO, THREE, repeatable("v", "SELECT 1"))
    assert [s.migration.version for s in planned(files, ledger(), PlanOptions(to_version=2)).steps] == [1, 2]


def test_a_held_version_stops_the_plan_before_it() -> None:
    result = planned(folder(ONE, TWO, THREE), ledger(entry(ONE), holds=(hold(TWO),)))
    assert result.steps == ()
    assert result.stopped_by == hold(TWO)


def test_include_brings_a_held_version_back() -> None:
    result = planned(folder(ONE, TWO), ledger(entry(ONE), holds=(hold(TWO),)), PlanOptions(include=frozenset({2})))
    assert [s.migration.version for s in result.steps] == [2]
    assert result.stopped_by is None


def test_a_changed_file_lifts_its_hold() -> None:
    changed = migration(2, "CREATE TABLE better (id bigint);")
    result = planned(folder(ONE, changed), ledger(entry(ONE), holds=(hold(TWO),)))
    assert [s.migration.version for s in result.steps] == [2]


def test_include_lets_a_late_file_run_out_of_order() -> None:
    files = folder(ONE, TWO, THREE)
    result = planned(files, ledger(entry(ONE), entry(THREE)), PlanOptions(include=frozenset({2})))
    assert [s.migration.version for s in result.steps] == [2]


def test_a_file_below_the_baseline_that_was_removed_is_not_missing() -> None:
    rows = compare(folder(TWO), ledger(entry(ONE, kind=Kind.BASELINE)))
    assert [(r.name, r.state) for r in rows] == [("001-step.sql", State.BASELINE), ("002-step.sql", State.PENDING)]


def test_a_changed_repeatable_runs_again() -> None:
    view = repeatable("v", "CREATE OR REPLACE VIEW v AS SELECT 2")
    result = planned(folder(view), ledger(entry(view, text="CREATE OR REPLACE VIEW v AS SELECT 1")))
    assert [(s.label, s.again) for s in result.steps] == [("v", True)]


def test_a_changed_setting_makes_its_repeatable_run_again() -> None:
    admins = repeatable("admins", "-- lockstep: uses=admins\nSELECT 1")
    before = planned(folder(admins), ledger(), PlanOptions(settings={"admins": "a@x"})).steps[0]
    applied = entry(admins)
    book = ledger(type(applied)(**{**{f: getattr(applied, f) for f in applied.__slots__}, "checksum": before.checksum}))
    assert planned(folder(admins), book, PlanOptions(settings={"admins": "a@x"})).steps == ()
    assert planned(folder(admins), book, PlanOptions(settings={"admins": "b@x"})).steps[0].again


def test_the_digest_changes_with_files_ledger_options_and_settings_and_with_nothing_else() -> None:
    base = planned(folder(ONE, TWO), ledger(entry(ONE)))
    assert planned(folder(ONE, TWO), ledger(entry(ONE))).digest == base.digest
    others = [
        planned(folder(ONE, migration(2, "SELECT 2;")), ledger(entry(ONE))),
        planned(folder(ONE, migration(2, down="DROP TABLE t2;")), ledger(entry(ONE))),
        planned(folder(ONE, TWO), ledger(entry(ONE, kind=Kind.BASELINE))),
        planned(folder(ONE, TWO), ledger(entry(ONE)), PlanOptions(to_version=2)),
        planned(folder(ONE, TWO), ledger(entry(ONE)), PlanOptions(settings={"a": "1"})),
        planned(folder(ONE, TWO), ledger(entry(ONE)), PlanOptions(settings={"a": "2"})),
    ]
    assert len({p.digest for p in [base, *others]}) == len(others) + 1
