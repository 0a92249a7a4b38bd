"""A branch against its base: each way in which merging it would break a deploy is found, and nothing else is."""

from __future__ import annotations

import pytest

from lockstep.core.branching import Branches, Snapshot, against_base, moved_with, numbered_file
from lockstep.core.findings import Finding, Severity


def files(**texts: str | bytes) -> Snapshot:
    """A snapshot; `n001_a` is 001-a.sql, `n001_a__down` is 001-a.down.sql."""
    made = []
    for key, text in texts.items():
        number, title = key.removeprefix("n").split("_", 1)
        name = f"{number}-{title.replace('__', '.')}.sql"
        file = numbered_file(name, text.encode() if isinstance(text, str) else text)
        assert file is not None
        made.append(file)
    return Snapshot(files=tuple(made))


def merging(ancestor: Snapshot, base: Snapshot, here: Snapshot) -> Branches:
    return Branches(ancestor=ancestor, base=base, here=here, revision="origin/main", folder="migrations")


def found(
    ancestor: Snapshot, base: Snapshot, here: Snapshot, unapplied: frozenset[int] = frozenset()
) -> list[tuple[str, str, int | None]]:
    return [(f.rule, f.file, f.line) for f in against_base(merging(ancestor, base, here), unapplied)]


def only(branches: Branches) -> Finding:
    (finding,) = against_base(branches)
    return finding


ONE = files(n001_a="SELECT 1;", n002_b="SELECT 2;")


def test_a_branch_that_adds_at_the_end_is_fine() -> None:
    here = files(n001_a="SELECT 1;", n002_b="SELECT 2;", n003_c="SELECT 3;", n003_c__down="")
    assert found(ONE, ONE, here) == []


def test_a_new_file_older_than_the_bases_newest_gets_the_next_free_number_with_all_its_parts() -> None:
    base = files(n001_a="SELECT 1;", n004_d="SELECT 4;")
    here = files(
        n001_a="SELECT 1;", n003_late="SELECT 3;", n003_late__down="", n003_late__verify="", n004_d="SELECT 4;"
    )
    finding = only(merging(base, base, here))
    assert (finding.severity, finding.rule, finding.file) == (Severity.ERROR, "older-than-base", "003-late.sql")
    assert "older than 004-d.sql, the newest on origin/main" in finding.message
    assert finding.hint == (
        "005 is the next free number: git mv migrations/003-late.sql migrations/005-late.sql"
        " && git mv migrations/003-late.down.sql migrations/005-late.down.sql"
        " && git mv migrations/003-late.verify.sql migrations/005-late.verify.sql"
    )


def test_a_number_that_the_base_took_meanwhile_is_found_before_it_is_merged() -> None:
    base = files(n001_a="SELECT 1;", n002_b="SELECT 2;", n003_theirs="SELECT 3;")
    here = files(n001_a="SELECT 1;", n002_b="SELECT 2;", n003_ours="SELECT 3;")
    finding = only(merging(ONE, base, here))
    assert (finding.rule, finding.file) == ("duplicate-on-base", "003-ours.sql")
    assert finding.hint and "git mv migrations/003-ours.sql migrations/004-ours.sql" in finding.hint


def test_a_number_used_twice_after_the_merge_moves_the_branchs_file_and_its_own_down_alone() -> None:
    base = files(n001_a="SELECT 1;", n001_a__down="DROP")
    here = files(n001_a="SELECT 1;", n001_a__down="DROP", n001_b="SELECT 2;", n001_b__down="DROP b")
    branches = merging(base, base, here)
    finding = only(branches)
    assert (finding.rule, finding.file) == ("duplicate-on-base", "001-b.sql")
    assert moved_with(branches, "001-b.sql") == {"001-b.sql", "001-b.down.sql"}
    assert finding.hint and "001-a.down.sql" not in finding.hint


def test_several_late_files_keep_their_order_and_avoid_numbers_in_use() -> None:
    base = files(n001_a="SELECT 1;", n010_j="SELECT 10;")
    here = files(n001_a="SELECT 1;", n010_j="SELECT 10;", n003_x="SELECT 3;", n002_w="SELECT 2;", n011_y="SELECT 11;")
    hints = [f.hint or "" for f in against_base(merging(base, base, here))]
    assert ["012-w.sql" in hints[0], "013-x.sql" in hints[1]] == [True, True]
    assert "runs after 011-y.sql" in hints[0]


def test_a_changed_file_of_the_base_is_an_error_at_the_line_of_the_sql_that_changed() -> None:
    before = files(n001_a="SELECT 1;\nSELECT 'x';\nSELECT 3;\n")
    after = files(n001_a="-- a comment\nSELECT 1;\nSELECT 'y';\nSELECT 3;\n")
    finding = only(merging(before, before, after))
    assert (finding.severity, finding.rule, finding.line) == (Severity.ERROR, "changed-since-base", 3)
    assert finding.excerpt == "  3 | SELECT 'y';"
    assert finding.hint and "git restore --source=origin/main -- migrations/001-a.sql" in finding.hint


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("SELECT 1;\nSELECT 2;\n", "SELECT 1;\n", 1),
        ("SELECT 1;\n", "SELECT 1;\nSELECT 2;\n", 2),
        ("SELECT 1;\nSELECT 2;\n", "", 1),
        ("SELECT 1;\nSELECT 'never ends\n", "SELECT 1;\nSELECT 2;\n", 2),
        ("SELECT 'é';\nSELECT 'ö';\n", "SELECT 'é';\nSELECT 'o';\n", 2),
    ],
)
def test_the_first_changed_line_is_named_also_at_an_end_and_without_tokens(before: str, after: str, line: int) -> None:
    base = files(n001_a=before)
    assert found(base, base, files(n001_a=after)) == [("changed-since-base", "001-a.sql", line)]


def test_a_reformatted_file_of_the_base_is_a_warning() -> None:
    base = files(n001_a="SELECT 1,2;")
    finding = only(merging(base, base, files(n001_a="-- why\nSELECT 1,\n  2;")))
    assert (finding.severity, finding.rule, finding.line) == (Severity.WARNING, "reformatted-since-base", 1)


def test_bom_and_line_ends_are_no_change() -> None:
    assert found(ONE, ONE, files(n001_a=b"\xef\xbb\xbfSELECT 1;", n002_b="SELECT 2;")) == []
    lines = files(n001_a="SELECT 1;\nSELECT 2;\n")
    assert found(lines, lines, files(n001_a="SELECT 1;\r\nSELECT 2;\r\n")) == []


def test_what_the_base_changed_added_or_removed_meanwhile_is_not_this_branchs_doing() -> None:
    base = files(n001_a="SELECT 'changed there';", n003_new="SELECT 3;")
    assert found(ONE, base, ONE) == []


def test_a_file_changed_on_both_sides_is_a_change_unless_both_are_equal() -> None:
    base = files(n001_a="SELECT 'there';", n002_b="SELECT 2;")
    assert found(ONE, base, base) == []
    here = files(n001_a="SELECT 'here';", n002_b="SELECT 2;")
    assert found(ONE, base, here) == [("changed-since-base", "001-a.sql", 1)]


def test_a_file_that_both_sides_added_counts_as_the_bases() -> None:
    nothing = Snapshot()
    assert found(nothing, ONE, ONE) == []
    here = files(n001_a="SELECT 'other';", n002_b="SELECT 2;")
    assert found(nothing, ONE, here) == [("changed-since-base", "001-a.sql", 1)]


def test_a_removed_file_of_the_base_is_an_error() -> None:
    finding = only(merging(ONE, ONE, files(n001_a="SELECT 1;")))
    assert (finding.rule, finding.file, finding.line) == ("removed-since-base", "002-b.sql", None)
    assert finding.hint and "git restore --source=origin/main -- migrations/002-b.sql" in finding.hint


def test_a_renamed_or_renumbered_file_of_the_base_is_one_error_with_the_way_back() -> None:
    for here, name in (
        (files(n001_a="SELECT 1;", n002_better="SELECT 2; SELECT 3;"), "002-better.sql"),
        (files(n001_a="SELECT 1;", n000_b="-- moved\nSELECT 2;"), "000-b.sql"),
    ):
        finding = only(merging(ONE, ONE, here))
        assert (finding.rule, finding.file) == ("renamed-since-base", name)
        assert finding.hint and f"git mv migrations/{name} migrations/002-b.sql" in finding.hint


def test_downs_and_verify_scripts_may_change_come_and_go() -> None:
    base = files(n001_a="SELECT 1;", n001_a__down="DROP TABLE a;", n001_a__verify="SELECT true;")
    here = files(n001_a="SELECT 1;", n001_a__down="DROP TABLE b;", n001_other__verify="SELECT 1 = 1;")
    assert found(base, base, here) == []


def test_a_version_that_is_applied_nowhere_may_be_changed_removed_and_replaced() -> None:
    nowhere = frozenset({1})
    assert found(ONE, ONE, files(n001_a="SELECT 'mended';", n002_b="SELECT 2;"), nowhere) == []
    assert found(ONE, ONE, files(n002_b="SELECT 2;"), nowhere) == []
    assert found(ONE, ONE, files(n001_other="SELECT 'mended';", n002_b="SELECT 2;"), nowhere) == []
    others = found(ONE, ONE, files(n001_a="SELECT 'mended';"), nowhere)
    assert others == [("removed-since-base", "002-b.sql", None)]


def test_a_file_of_the_base_that_is_no_text_cannot_have_been_applied_and_may_be_mended() -> None:
    base = files(n001_a=b"-- caf\xe9")
    assert found(base, base, files(n001_a="-- café")) == []


def test_an_empty_base_makes_every_file_new() -> None:
    assert found(Snapshot(), Snapshot(), ONE) == []


def test_names_in_commands_are_quoted() -> None:
    base = numbered_file("002-b.sql", b"SELECT 2;")
    late = numbered_file("001-it's $HOME.sql", b"SELECT 1;")
    assert base and late
    finding = only(merging(Snapshot(files=(base,)), Snapshot(files=(base,)), Snapshot(files=(base, late))))
    assert finding.hint and "git mv 'migrations/001-it'\"'\"'s $HOME.sql' " in finding.hint
