"""What the terminal shows: widths, folded tables, estimates, colours, zones, counted nouns, what may have been meant."""

from __future__ import annotations

import io
import re
from datetime import UTC
from types import SimpleNamespace
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.cli import terminal
from lockstep.cli.zone import zone
from lockstep.core.counting import counted
from lockstep.core.nearest import meant
from lockstep.core.table import render_table
from lockstep.core.text import display_width
from lockstep.service.orchestrator import PROGRESS_LOGGER, Following
from lockstep.service.telling import ArchiveProgress, BackupProgress

WIDE = ["日本", "한글の名前", "é́x", "👩‍💻", "naïve", "ｆｕｌｌ"]
WORD = st.one_of(st.text("abcdefghij-_/.:0123456789", min_size=1, max_size=40), st.sampled_from(WIDE))
CELL = st.lists(WORD, min_size=1, max_size=6).map(" ".join)


@given(st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=5), st.integers(20, 120))
def test_a_table_folds_to_its_width_and_breaks_no_word(rows: list[list[str]], width: int) -> None:
    shown = render_table(["backup", "when", "what"], rows, width=width)
    words = {word for row in rows for cell in row for word in cell.split()}
    assert words <= set(shown.split())
    for line in shown.splitlines():
        if display_width(line) > width:  # only where a single word is wider than all there is
            assert len(line.split()) <= 2


def test_a_table_that_fits_is_not_stretched_and_one_that_does_not_becomes_blocks() -> None:
    headers, rows = (
        ["migration", "dev", "prod"],
        [["001-a", "applied  today 02:43", "pending"], ["002-b", "pending", "held"]],
    )
    assert render_table(headers, rows, width=200) == render_table(headers, rows)
    assert render_table(headers, rows, width=30).splitlines() == [
        "001-a", "  dev   applied  today 02:43", "  prod  pending", "002-b", "  dev   pending", "  prod  held",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "cells"),
    [("abc", 3), ("日本語", 6), ("é", 1), ("한글", 4), ("한", 2), ("👩‍💻", 2), ("❤️", 2), ("ｱ", 1), ("​x", 1), ("→…—", 3)],
)  # fmt: skip
def test_widths_are_those_of_a_terminal(text: str, cells: int) -> None:
    assert display_width(text) == cells


def test_what_is_left_is_said_only_where_something_was_measured() -> None:
    assert str(BackupProgress(size=5_000_000, elapsed_ms=1_000)) == "5.0 MB, 5.0 MB/s"
    assert "left" not in str(BackupProgress(size=5_000_000, elapsed_ms=1_000, share=0.01))
    told = str(BackupProgress(size=5_000_000, elapsed_ms=1_000, share=0.25))
    assert told == "5.0 MB, 5.0 MB/s, about 25% of the tables, about 3.0 s left"
    read = ArchiveProgress(done=25, size=100, elapsed_ms=2_000, how="read")
    assert str(read) == "25 B of 100 B, 12 B/s, read in about 6.0 s" and read.share == 0.25
    assert str(ArchiveProgress(done=100, size=100, elapsed_ms=2_000, how="read")) == "100 B of 100 B, 50 B/s, read"
    assert str(ArchiveProgress(done=0, size=100, elapsed_ms=0, how="read")) == "0 B of 100 B, read"


def test_a_bar_is_as_wide_as_there_is_room() -> None:
    assert terminal.with_bar(0.5, "5 MB", 80) == "[##########..........]  50% 5 MB"
    assert terminal.with_bar(0.5, "5 MB", 22) == "[#####.....]  50% 5 MB"
    assert terminal.with_bar(0.5, "5 MB", 15) == "50% 5 MB"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("given", "on_a_terminal", "in_a_pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"CLICOLOR_FORCE": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_colours_are_where_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], on_a_terminal: bool, in_a_pipe: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert (terminal.in_colour(Screen()), terminal.in_colour(io.StringIO())) == (on_a_terminal, in_a_pipe)


def test_times_that_say_utc_follow_the_zone_that_was_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        terminal.choose_zone(chosen=True, zone=ZoneInfo("Europe/Berlin"))
        terminal.show("since 2026-07-01 22:30 UTC, 2026-12-01 10:15:30 UTC; at 10:15 UTC; 2026-99-99 10:15 UTC")
        assert capsys.readouterr().out == (
            "since 2026-07-02 00:30 CEST, 2026-12-01 11:15:30 CET; at 10:15 UTC; 2026-99-99 10:15 UTC\n"
        )
    finally:
        terminal.speak()
    terminal.show("2026-07-01 22:30 UTC")
    assert capsys.readouterr().out == "2026-07-01 22:30 UTC\n"


def test_a_zone_is_a_name_that_there_is() -> None:
    assert zone("UTC") is UTC and zone("local") is None and str(zone("Asia/Tokyo")) == "Asia/Tokyo"
    for wrong, close in (
        ("Europe/Berlni", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("new york", "America/New_York"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"did you mean '{close}'?")):
            zone(wrong)
    with pytest.raises(ValueError, match=re.escape("there is no time zone '../../etc/passwd'")):
        zone("../../etc/passwd")


def test_a_deploy_that_goes_on_after_its_wait_tells_nothing_twice() -> None:
    run = Following(id=uuid4(), run_id="r", name="n", url=None)

    def told(*texts: str) -> list[str]:
        page = [SimpleNamespace(id=uuid4(), name=PROGRESS_LOGGER, message=text, timestamp=0) for text in texts]
        return list(run._unseen(page))  # type: ignore[arg-type]  # of a line no more is read

    before = ["dev: nothing to do", "prod:   backup  s3://b/x (1 kB)  1.6 s", "prod:   rehearsal  passed  12.5 s"]
    assert told(*before) == before
    assert told("prod:   backup  s3://b/x (1 kB)  1.6 s") != []  # before it waits, all is told
    run._waited = True
    again = ["dev: nothing to do", "prod:   backup  s3://b/x (1 kB)", "prod:   rehearsal  passed"]
    new = ["prod: approved by alice", "prod:   rehearsal  passed  13.1 s", "prod:   001-a  applied  4 ms"]
    assert told(*again, *new) == new


def test_nouns_are_counted_and_mistakes_are_understood() -> None:
    assert [counted(n, "migration") for n in (0, 1, 2, 1204)] == [
        "0 migrations",
        "1 migration",
        "2 migrations",
        "1,204 migrations",
    ]
    assert [counted(n, "entry is", "entries are") for n in (1, 2)] == ["1 entry is", "2 entries are"]
    assert meant("Stagign", ["dev", "staging"]) == "; did you mean 'staging'?" and meant("x", ["staging"]) == ""
