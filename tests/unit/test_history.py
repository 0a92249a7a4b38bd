"""The audit log as a table: what each event was, in a width that one long row does not set."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from lockstep.cli.history import table
from lockstep.postgres.audit import LoggedEvent

NOW = datetime(2026, 3, 12, 12, tzinfo=UTC)


def event(name: str, details: Mapping[str, object], migration: str | None = "007-a.sql") -> LoggedEvent:
    return LoggedEvent(
        id=1, at=NOW, event=name, actor="app", host=None, run_id="RUN", migration_name=migration, version=7,
        duration_ms=None, details=details,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "details", "shown"),
    [
        ("repair", {"what": "entry removed", "reason": "made by hand"}, "entry removed (made by hand)"),
        ("repair", {"what": "entry removed", "reason": None}, "entry removed"),
        ("revert", {"reason": "totals wrong,\nINC-42"}, "totals wrong, INC-42"),
        ("heal", {"dropped": "public.orders_total"}, "dropped the invalid index public.orders_total"),
        ("fail", {"sqlstate": "22012", "file": "007-a.sql", "line": 3}, "007-a.sql:3, SQLSTATE 22012"),
        ("fail", {"sqlstate": None, "file": "007-a.sql", "line": None}, "007-a.sql"),
        ("start", {"checksum": "x"}, "in units"),
        ("start", {"revert": True}, "the down script, in units"),
        ("resume", {"checksum": "x"}, "behind what was done"),
        ("resume", {"revert": True}, "the down script, behind what was done"),
    ],
)
def test_an_event_says_what_was_done_and_why(name: str, details: Mapping[str, object], shown: str) -> None:
    head, row = table([event(name, details)], NOW).split("\n")
    assert "007-a" in row and row.endswith(f"RUN  {shown}")
    assert head.endswith("run  details")


def test_a_repair_of_several_entries_says_what_it_was() -> None:
    assert "event 5 taken back" in table([event("repair", {"what": "event 5 taken back"}, None)], NOW)


@pytest.mark.parametrize(
    ("why", "shown"), [("RehearsalRefused", "the rehearsal"), ("BackupDamaged", "backup damaged"), ("", "")]
)
def test_a_refusal_says_in_words_what_refused(why: str, shown: str) -> None:
    row = table([event("refuse", {"why": why, "message": "because"}, None)], NOW).split("\n")[1]
    assert f"  refuse  {shown}" in row and (not why or why not in row)


def test_without_details_there_is_no_column_for_them() -> None:
    assert table([event("apply", {"checksum": "x"})], NOW).split("\n")[0].endswith("  run")


def test_one_long_row_does_not_widen_all() -> None:
    long = event("refuse", {"lock": "somebody " * 40}, None)
    reason = event("repair", {"what": "entry removed", "reason": "because " * 100})
    lines = table([long, reason, event("apply", {}, f"001-{'x' * 300}.sql")], NOW).split("\n")
    assert max(len(line) for line in (lines[1], lines[3])) < 110
    assert len(lines[2]) < 320 and lines[2].endswith("…")
