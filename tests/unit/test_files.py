"""What a file says: its name, its bytes, its directives, its statements, its digests."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.core import privacy
from lockstep.core.checksum import checksum, content_digest, decode, foreign_checksums, settings_digest
from lockstep.core.directives import NONE, misplaced, parse_directives
from lockstep.core.filename import Part, parse_file_name, why_not
from lockstep.core.migration import SqlFile
from lockstep.core.statements import parse_script
from lockstep.errors import MigrationFileError


@pytest.mark.parametrize(
    ("name", "version", "part"),
    [
        ("001-initial-setup.sql", 1, Part.UP),
        ("12_add.sql", 12, Part.UP),
        ("20260101120000-x.down.sql", 20260101120000, Part.DOWN),
        ("001-a.verify.sql", 1, Part.VERIFY),
        ("00010-a.b.c.sql", 10, Part.UP),
        ("3-ÄÖ.SQL", 3, Part.UP),
    ],
)
def test_a_file_name_says_version_and_part(name: str, version: int, part: Part) -> None:
    parsed = parse_file_name(name)
    assert parsed is not None
    assert (parsed.version, parsed.part) == (version, part)


@pytest.mark.parametrize("name", ["initial.sql", "001.sql", "001initial.sql", "001-.sql", f"{2**63}-x.sql", "-1-x.sql"])
def test_a_malformed_name_is_none_of_ours_and_the_reason_is_said(name: str) -> None:
    assert parse_file_name(name) is None
    assert why_not(name)


def test_bom_and_crlf_do_not_count() -> None:
    assert decode(b"\xef\xbb\xbfSELECT 1;\r\nSELECT 2;\r\n", "f") == "SELECT 1;\nSELECT 2;\n"


def test_bytes_that_are_not_utf8_are_named_with_their_line() -> None:
    with pytest.raises(MigrationFileError, match=r"001-a\.sql:2: byte 0xe9 is not UTF-8") as caught:
        decode("-- ok\n-- caf\xe9".encode("latin-1"), "001-a.sql")
    assert caught.value.hint and "iconv" in caught.value.hint


def test_behind_a_bom_the_byte_that_is_not_utf8_is_still_the_right_one() -> None:
    with pytest.raises(MigrationFileError, match=r"a\.sql:1: byte 0xe9 is not UTF-8"):
        decode(b"\xef\xbb\xbf-- caf\xe9", "a.sql")


def test_a_nul_is_named_with_its_line() -> None:
    with pytest.raises(MigrationFileError, match=r"a\.sql:2: holds a NUL"):
        decode(b"--\nSELECT '\0'", "a.sql")


def test_the_content_digest_ignores_comments_and_white_space_alone() -> None:
    base = content_digest("CREATE TABLE t (a int, b text DEFAULT 'x  y');")
    assert content_digest("-- c\nCREATE  TABLE t\n(a int, /* c */ b text DEFAULT 'x  y');\n") == base
    assert content_digest("CREATE TABLE t (a int, b text DEFAULT 'x y');") != base
    assert content_digest("CREATE TABLE T (a int, b text DEFAULT 'x  y');") != base
    assert content_digest("SELECT 'unterminated") is None


def test_the_restrict_lines_of_a_dump_do_not_count() -> None:
    assert content_digest("\\restrict abc\nSELECT 1;\n\\unrestrict abc\n") == content_digest("SELECT 1;")
    for key in ("abc", "2CVLl2Vuf1VKK", "0x", "1e"):  # random: pg_dump's own begin with a digit now and then
        assert len(parse_script(f"\\restrict {key}\nSELECT 1;\n\\unrestrict {key}\n", "d.sql").statements) == 1


def test_older_tools_checksums_are_recomputed_for_both_line_endings() -> None:
    raw = b"SELECT 1;\r\n"
    known = foreign_checksums(raw)
    assert hashlib.md5(raw, usedforsecurity=False).hexdigest() in known
    assert hashlib.sha256(b"SELECT 1;\n").hexdigest() in known


@given(
    st.dictionaries(st.text(max_size=4), st.text(max_size=4)), st.dictionaries(st.text(max_size=4), st.text(max_size=4))
)
def test_settings_digests_differ_when_settings_differ(one: dict[str, str], other: dict[str, str]) -> None:
    assert (settings_digest(one, "s") == settings_digest(other, "s")) == (one == other)


def test_directives_are_read_from_the_head() -> None:
    text = (
        "\n-- A title\n-- lockstep: lock_timeout=2s statement_timeout=10min\n/* more\n words */\n"
        '-- lockstep: irreversible="the data is gone" manual="switch the DNS"\n'
        '-- lockstep: allow=prefer-bigint reason="small table"\nSELECT 1;'
    )
    found = parse_directives(text, "f.sql")
    assert (found.lock_timeout_ms, found.statement_timeout_ms) == (2_000, 600_000)
    assert found.irreversible == "the data is gone"
    assert found.manual == ("switch the DNS",)
    assert [(a.rule, a.reason, a.line) for a in found.allow] == [("prefer-bigint", "small table", 7)]


@pytest.mark.parametrize(
    "line",
    [
        "(s3cret)",
        "s3cret",
        "lock_timeout=s3cret",
        "uses=S3cret,s3cret-x",
        "manual=a s3cret",
        "transaction=none, s3cret",
    ],
)
def test_a_bad_directive_quotes_nothing_where_nothing_may_be_quoted(line: str) -> None:
    """`[privacy] excerpts = false`: what stands in a directive may be a value of somebody's."""
    privacy.quote(False)
    try:
        with pytest.raises(MigrationFileError) as caught:
            parse_directives(f"-- lockstep: {line}\nSELECT 1;", "f.sql")
    finally:
        privacy.quote(True)
    assert "s3cret" not in f"{caught.value} {caught.value.hint}".lower()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("lock_timout=2s", "unknown directive 'lock_timout'; did you mean 'lock_timeout'?"),
        ("lock_timeout=2 seconds", "cannot read|unknown directive"),
        ("lock_timeout=fast", "is no duration"),
        ("transaction=off", "can only be 'none'"),
        ("allow=x", "needs its rule and a reason"),
        ('irreversible=""', "needs a text"),
        ("irreversible", "needs a text"),
        ("batch_pause=1s", "belongs to repeat-until-empty"),
        ("lock_timeout=1s lock_timeout=2s", "given twice"),
        ("uses=A-B", "is no setting name"),
        ("", "empty directive"),
    ],
)
def test_a_bad_directive_is_an_error_with_its_line(line: str, problem: str) -> None:
    with pytest.raises(MigrationFileError, match=problem) as caught:
        parse_directives(f"-- lockstep: {line}\nSELECT 1;", "f.sql")
    assert caught.value.line == 1


@pytest.mark.parametrize(
    ("text", "line", "problem", "hint"),
    [
        ("repeat-until-empty\n-- lockstep: batch_pause=x", 2, "is no duration", None),
        ("manual=now\n-- lockstep: batch_pause=1s", 2, "belongs to repeat", "write repeat-until-empty batch_pause=…"),
        ("transaction=off", 1, "can only be 'none'", "write transaction=none, or remove it"),
        ("irreversible=because of it", 1, "unknown directive 'of'", 'irreversible="because of it"'),
        ("irreversible=because of lock_timeout=2s", 1, "unknown directive 'of'", 'irreversible="because of"'),
        ("allow=x reason=it is small", 1, "unknown directive 'is'", 'reason="it is small"'),
        ("transaction=none, lock_timeout=2s", 1, "a comma in the directive", "blanks stand between directives"),
        ("transaction=none,lock_timeout=2s", 1, "a comma in the directive", "blanks stand between directives"),
        ("repeat-until-empty, batch_pause=2s", 1, "a comma in the directive", "blanks stand between directives"),
        ('irreversible="x, y", lock_timeout=2s', 1, "a comma in the directive", "blanks stand between directives"),
        ("uses=one, two", 1, "a comma in the directive", "uses=one,two"),
    ],
)
def test_a_bad_directive_says_where_it_is_and_what_to_write(text: str, line: int, problem: str, hint: str) -> None:
    with pytest.raises(MigrationFileError, match=problem) as caught:
        parse_directives(f"-- lockstep: {text}\nSELECT 1;", "f.sql")
    assert caught.value.line == line
    assert hint is None or hint in (caught.value.hint or "")


def test_values_may_hold_commas_where_they_mean_something() -> None:
    found = parse_directives('-- lockstep: uses=one,two manual="first, then" lock_timeout=1s\n', "f.sql")
    assert (found.uses, found.manual, found.lock_timeout_ms) == (("one", "two"), ("first, then",), 1_000)


@pytest.mark.parametrize("word", ["lockstep", "Lockstep", "LOCKSTEP"])
def test_a_directive_counts_in_any_case(word: str) -> None:
    found = parse_directives(f"-- {word}: repeat-until-empty batch_pause=1s\nSELECT 1;", "f.sql")
    assert (found.repeat_until_empty, found.batch_pause_ms) == (True, 1_000)
    assert misplaced(f"SELECT 1;\n-- {word}: lock_timeout=2s\n") == [2]


@pytest.mark.parametrize(
    ("head", "line", "directive"),
    [
        ("--lockstep transaction=none", 1, "transaction=none"),
        ("-- lockstep transaction=none", 1, "transaction=none"),
        ("-- Lockstep transaction = none", 1, "transaction=none"),
        ("-- lockstep : transaction=none", 1, "transaction=none"),
        ("-- lockstep - transaction=none", 1, "transaction=none"),
        (
            "-- a title\n\n--  LOCKSTEP lock_timeout=2s statement_timeout=1min",
            3,
            "lock_timeout=2s statement_timeout=1min",
        ),
        ("-- lockstep repeat-until-empty batch_pause=1s", 1, "repeat-until-empty batch_pause=1s"),
        ("/* lockstep: transaction=none */", 1, "transaction=none"),
        ("/* lockstep: transaction=none */ SELECT 1;", 1, "transaction=none"),
        ("/** lockstep: transaction=none\n more */", 1, "transaction=none"),
        ("/*\n * Lockstep: transaction=none\n */", 2, "transaction=none"),
        ('-- lockstep: lock_timeout=1s\n-- lockstep irreversible="a = b"', 2, 'irreversible="a = b"'),
    ],
)
def test_a_comment_that_only_looks_like_a_directive_is_an_error(head: str, line: int, directive: str) -> None:
    with pytest.raises(MigrationFileError, match="looks like a directive and has no effect") as caught:
        parse_directives(f"{head}\nSELECT 1;", "f.sql")
    assert (caught.value.line, caught.value.hint) == (line, f"write: -- lockstep: {directive}")


@pytest.mark.parametrize(
    "head",
    [
        "-- lockstep is our tool",
        "-- Lockstep uses one transaction for each file",
        "-- lockstep allow us this",
        "-- lockstepped transaction=none",
        "-- lockstep transactional=none",
        "-- about lockstep: transaction=none",
        "-- -- lockstep: transaction=none",
        "/* run it with\n lockstep: transaction=none */",
        "SELECT 1;\n--lockstep transaction=none",
    ],
)
def test_prose_about_lockstep_is_a_comment(head: str) -> None:
    assert parse_directives(f"{head}\nSELECT 1;", "f.sql") == NONE


def test_a_directive_below_the_head_is_found() -> None:
    assert misplaced("-- lockstep: lock_timeout=1s\nSELECT 1;\n-- lockstep: lock_timeout=2s\n") == [3]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (" \n\t\n", 0),
        ("-- only a comment", 0),
        (";", 0),
        (";;\n;", 0),
        ("SELECT 1", 1),
        ("SELECT 1 -- no newline at the end", 1),
        ("SELECT ';'; SELECT $$;$$; SELECT $a$ $b$ ; $b$ $a$; /* ; */ SELECT 4;", 4),
        ("SELECT U&'\\0041;', E'\\';'; SELECT 2;", 2),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END; SELECT 3;", 2),
        ("BEGIN; SELECT 1; COMMIT;", 1),
        ("-- head\nSTART TRANSACTION;\nSELECT 1;\nEND;\n-- tail", 1),
        ("SAVEPOINT a; SELECT 1; ROLLBACK TO a; RELEASE a;", 4),
        ("SELECT 'é'; SELECT '日本'; INSERT INTO ü VALUES ('😀');", 3),
    ],
)
def test_statements_are_split_as_postgresql_would(text: str, count: int) -> None:
    assert len(parse_script(text, "f.sql").statements) == count


def test_places_count_characters_and_survive_the_absorbed_transaction() -> None:
    text = "BEGIN;\nSELECT '日本', 'é';\n  INSERT INTO ü VALUES (1);\nCOMMIT;\n"
    script = parse_script(text, "f.sql")
    assert len(script.text) == len(text)
    assert "BEGIN" not in script.text and "COMMIT" not in script.text
    second = script.statements[1]
    assert script.text[second.start : second.end] == "INSERT INTO ü VALUES (1)"
    assert second.line == 3


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("SELECT 1;\nSELECT 'é' frm a b;", 2, "syntax error"),
        ("SELECT 1;\nSELECT $x$ never ends", 2, "unterminated dollar-quoted string"),
        ("SELECT 1;\n\\connect other\n", 2, r"\\connect is a psql command"),
        ("SELECT 1;\nCOPY t FROM stdin;\n1\tx\n\\.\n", 2, "COPY from or to the client"),
        ("COPY t TO STDOUT;", 1, "COPY from or to the client"),
        ("BEGIN;\nSELECT 1;", 1, "BEGIN without COMMIT"),
        ("SELECT 1;\nCOMMIT;\nSELECT 2;", 2, "COMMIT in the middle"),
        ("BEGIN;\nSELECT 1;\nCOMMIT;\nBEGIN;\nSELECT 2;\nCOMMIT;", 3, "COMMIT in the middle"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE;\nSELECT 1;\nCOMMIT;", 1, "with options"),
        ("SELECT 1;\nCREATE INDEX CONCURRENTLY i ON t (a);", 2, "CREATE INDEX CONCURRENTLY cannot run inside"),
        ("DROP INDEX CONCURRENTLY i;", 1, "DROP INDEX CONCURRENTLY"),
        ("REINDEX INDEX CONCURRENTLY i;", 1, "REINDEX CONCURRENTLY"),
        ("VACUUM t;", 1, "VACUUM"),
        ("CREATE DATABASE d;", 1, "CREATE DATABASE"),
        ("ALTER TABLE p DETACH PARTITION c CONCURRENTLY;", 1, "DETACH PARTITION CONCURRENTLY"),
        ("ALTER SYSTEM SET work_mem = '1MB';", 1, "ALTER SYSTEM"),
        ("SELECT 1;\nCREATE TABLE {{ name }} (id int);", 2, "syntax error"),
    ],
)
def test_what_cannot_run_is_an_error_with_line_and_remedy(text: str, line: int, problem: str) -> None:
    with pytest.raises(MigrationFileError, match=problem) as caught:
        parse_script(text, "007-x.sql")
    assert caught.value.line == line
    assert str(caught.value).startswith(f"007-x.sql:{line}")


@pytest.mark.parametrize(
    ("text", "would_run"),
    [
        ("BEGIN;\nSELECT 1;\nCOMMIT;\nBEGIN;\nSELECT 2;\nCOMMIT;", True),
        ("SELECT 1;\nSTART TRANSACTION;\nSELECT 2;\nEND;\nSELECT 3;", True),
        ("SELECT 1;\nCOMMIT;\nSELECT 2;", False),
        ("BEGIN;\nSELECT 1;", False),
        ("BEGIN;\nSELECT 1;\nCOMMIT;\nSELECT 2;\nCOMMIT;", False),
        ("BEGIN;\nSELECT 1;\nROLLBACK;", False),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE;\nSELECT 1;\nCOMMIT;", False),
    ],
)
def test_transaction_none_is_offered_only_where_it_helps(text: str, would_run: bool) -> None:
    with pytest.raises(MigrationFileError) as caught:
        parse_script(text, "f.sql")
    hint = caught.value.hint or ""
    assert hint.startswith("remove the transaction statements")
    assert ("transaction=none" in hint) is would_run
    file = SqlFile(
        name="f.sql", text=text, checksum="", directives=parse_directives("-- lockstep: transaction=none", "f.sql")
    )
    if would_run:
        file.check()
    else:
        with pytest.raises(MigrationFileError):
            file.check()


def test_an_unfilled_placeholder_is_explained() -> None:
    with pytest.raises(MigrationFileError) as caught:
        parse_script("CREATE TABLE ${TABLE} (id int);", "f.sql")
    assert caught.value.hint and "${TABLE} looks like a placeholder" in caught.value.hint


def test_analyze_is_fine_inside_a_transaction() -> None:
    assert parse_script("ANALYZE t;", "f.sql").statements[0].alone is None


def test_the_caret_stands_under_the_character_also_after_wide_ones() -> None:
    with pytest.raises(MigrationFileError) as caught:
        parse_script("SELECT '日本' frm a b;", "f.sql")
    shown = (caught.value.excerpt or "").split("\n")
    # The caret belongs under "a" (frm is taken as an alias); the two wide characters before it take a cell more each than they are characters.
    assert shown[0][shown[1].index("^") - 2] == "a"


def test_checksums_are_sha256_of_the_text() -> None:
    assert checksum("é\n") == hashlib.sha256("é\n".encode()).hexdigest()


@pytest.mark.parametrize("text", ["SELECT " + " || ".join(["'é'"] * 3_000), f"SELECT {'(' * 800}1{')' * 800}"])
def test_a_long_chain_of_operators_is_no_obstacle(text: str) -> None:
    assert len(parse_script(text, "f.sql").statements) == 1
