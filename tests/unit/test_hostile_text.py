"""Hostile SQL, directives and file names: each ends in a result or an error with its place, and none ends the process.

LOCKSTEP_FUZZ multiplies how much is tried (`make fuzz`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lockstep.config import load_settings
from lockstep.core import nesting, privacy
from lockstep.core.checksum import content_digest, decode
from lockstep.core.directives import misplaced, parse_directives
from lockstep.core.duration import parse_duration
from lockstep.core.filename import MAX_VERSION, parse_file_name, unprintable, why_not
from lockstep.core.grammar import deparse, parse
from lockstep.core.ledger import Ledger
from lockstep.core.locking.hazards import find_hazards
from lockstep.core.locking.known import Known
from lockstep.core.migration import SqlFile
from lockstep.core.planner import Plan, PlanOptions, plan
from lockstep.core.size import parse_bytes
from lockstep.core.statements import parse_script
from lockstep.core.text import excerpt, printable
from lockstep.errors import MigrationFileError
from lockstep.service.project import read_folder, snapshot

FUZZ = int(os.environ.get("LOCKSTEP_FUZZ", "1"))
many = settings(max_examples=50 * FUZZ)

#: Pieces that mean something to one of our readers.
PIECES = (
    "SELECT 1", ";", "\n", "--", "/*", "*/", "'", "$$", "$a$", '"', "\\", "{{", "}}", "${X}", ":x", "COPY t FROM stdin", "BEGIN",
    "COMMIT", "DO $$ BEGIN COMMIT; END $$", "-- lockstep: ", "-- lockstep transaction=none", "lock_timeout=1s", "manual=", "uses=a,b",
    "allow=x reason=", "repeat-until-empty", "\\restrict ab", "U&'\\+", "E'\\", "\u202e", "\x1b[2J", "\ufeff", "é", "👩\u200d💻", "(", ")",
    ",", " || ", "::text", "CREATE INDEX CONCURRENTLY i ON t (a)", "ALTER TABLE t ADD COLUMN c int DEFAULT ", "0x1", "1e9", "\r\n", "\t",
)  # fmt: skip
texts = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(PIECES), max_size=14).map("".join))


@many
@given(texts)
def test_any_text_is_a_script_or_an_error_with_its_place(text: str) -> None:
    try:
        text = decode(text.encode("utf-8", "surrogatepass"), "001-a.sql")
        directives = parse_directives(text, "001-a.sql")
        misplaced(text)
        file = SqlFile(name="001-a.sql", text=text, checksum="", directives=directives)
        file.check()
        find_hazards(file, Known())
    except MigrationFileError as error:
        assert error.message.startswith("001-a.sql:") and int(error.message.split(":")[1]) >= 1
    content_digest(text)


CHAIN: dict[str, Callable[[int], str]] = {
    "operators": lambda n: "SELECT " + " || ".join(["a"] * n),
    "casts": lambda n: "SELECT a" + "::text" * n,
    "joins": lambda n: "SELECT 1 FROM a" + " JOIN a ON b AND c" * n,
    "unions": lambda n: " UNION ".join(["SELECT 1, 2"] * n),
    "parentheses": lambda n: "SELECT " + "f(a || " * n + "1" + ")" * n,
    "queries": lambda n: "SELECT " + "(SELECT " * n + "1" + ")" * n,
    "IS NULL": lambda n: "SELECT a" + " IS NULL" * n,
    "an index": lambda n: "CREATE INDEX i ON t ((" + "+".join(["a"] * n) + "))",
    "a default": lambda n: "ALTER TABLE t ADD COLUMN c text DEFAULT " + "||".join(["'x'"] * n),
    "after a comma": lambda n: "SELECT a, " + " || ".join(["a, b"] * n) + ", " + " || ".join(["a"] * n),
}


@pytest.mark.parametrize("form", CHAIN)
def test_what_would_exhaust_the_stack_is_an_error_with_its_place_and_what_a_server_takes_is_not(form: str) -> None:
    with pytest.raises(MigrationFileError, match=r"001-a.sql:1:\d+: (more than 4,000 operators|memory exhausted)"):
        parse_script(CHAIN[form](50_000), "001-a.sql")
    file = SqlFile(name="001-a.sql", text=CHAIN[form](900), checksum="")
    file.check()
    find_hazards(file, Known())
    deparse(parse(file.text))


def test_what_stands_side_by_side_is_not_deep() -> None:
    rows = ", ".join(f"({n} - 1, '2026-01-01'::date, -{n} || 'x')" for n in range(6000))
    conditions = " OR ".join(["(a = 1 AND b <> 2)"] * 6000)
    whens = " ".join(["WHEN a = 1 THEN b + 1"] * 6000)
    for text in (
        f"INSERT INTO t VALUES {rows}",
        f"SELECT 1 WHERE {conditions}",
        f"SELECT CASE {whens} END",
        "SELECT 1 + 1;" * 6000,
    ):
        assert nesting.may_be_deep(text)
        parse_script(text, "001-a.sql")


def test_the_tokens_are_those_of_the_grammar() -> None:
    names = {number: name for name, number in import_module("postgast.pg_query_pb2").Token.items()}

    def called(tokens: frozenset[int]) -> set[str]:
        return {names[token].removesuffix("_P") for token in tokens}

    assert called(nesting._FLAT) == {"ASCII_44", "AND", "OR", "WHEN", "THEN", "ELSE"}
    assert called(nesting._CHAINS) == {"UNION", "INTERSECT", "EXCEPT", "JOIN"}
    assert called(nesting._QUERIES) == {"SELECT", "WITH"}
    words = {name for name in called(nesting._LEVELS) if not name.startswith("ASCII")}
    assert words == {
        "Op", "TYPECAST", "LESS_EQUALS", "GREATER_EQUALS", "NOT_EQUALS", "AT", "BETWEEN", "COLLATE", "ILIKE", "IN", "IS",
        "ISNULL", "LIKE", "NOTNULL", "OPERATOR", "OVERLAPS", "SIMILAR",
    }  # fmt: skip
    assert {chr(int(n[6:])) for n in called(nesting._LEVELS) if n.startswith("ASCII")} == set("%*+-/<=>?^")


#: name -> a text of about a megabyte that a reader could spend hours on.
LONG = {
    "nested comments": "/*" * 500_000,
    "nested comments that end": "/*" * 200_000 + "*/" * 200_000 + "SELECT 1",
    "open braces": "SELEC " + "{{" * 400_000,
    "COPY on every line": "SELEC ;" + "\ncopy x from " * 60_000,
    "a directive of blanks": "-- lockstep: allow=" + " " * 800_000 + "x",
    "a directive of commas": "-- lockstep: uses=" + "a," * 300_000,
    "what looks like one": "-- lockstep" + " " * 800_000 + "uses",
    "words without quotes": "-- lockstep: manual=a " + "b " * 200_000,
    "dollars": "$" * 800_000,
    "semicolons": ";" * 800_000,
    "restrict": "SELECT 1;\n" + "\\restrict a\n" * 60_000,
    "one line": "SELECT '" + "x" * 800_000,
}


@pytest.mark.parametrize("form", LONG)
def test_no_text_takes_the_square_of_its_length(form: str) -> None:
    began = time.process_time()
    try:
        parse_directives(LONG[form], "001-a.sql")
        misplaced(LONG[form])
        parse_script(LONG[form], "001-a.sql")
    except MigrationFileError as error:
        assert len(error.message) < 2_000 or "directive" in error.message
    content_digest(LONG[form])
    assert time.process_time() - began < 20  # processor seconds; hours without a bound


@many
@given(st.one_of(st.text(max_size=60), st.from_regex(r"[0-9]{1,25}[-_].{0,20}\.(down\.|verify\.)?sql", fullmatch=True)))
@example("٣-arabic.sql")
@example("²-superscript.sql")
@example("9" * 245 + "-a.sql")
@example("001-a\u202elqs.sql")
@example("001-a\x1b[2J.sql")
@example("001-caf\udce9.sql")
@example("001-a/../../x.sql")
@example("001-a\nb.sql")
@example("001-a\x00.sql")
def test_any_name_is_taken_or_refused_in_words_that_can_be_printed(name: str) -> None:
    parts = parse_file_name(name)
    if parts is None:
        if name.lower().endswith(".sql"):
            assert printable(why_not(name)) == why_not(name)
        return
    assert 0 <= parts.version <= MAX_VERSION and parts.digits.isascii()
    assert name.isprintable() and "/" not in name and unprintable(name) is None


@many
@given(st.text(max_size=200), st.integers(1, 20), st.one_of(st.none(), st.integers(1, 300)))
def test_an_excerpt_is_one_line_of_a_bounded_width(text: str, line: int, column: int | None) -> None:
    shown = excerpt(text, line, column)
    assert shown is not None and len(shown.split("\n")[0]) < 200


@many
@given(
    st.one_of(
        st.text(max_size=30), st.from_regex(r"[0-9]{1,400}(\.[0-9]{0,400})?(ms|s|min|h|d|B|kB|TB)", fullmatch=True)
    )
)
def test_a_duration_and_a_size_are_numbers_or_value_errors(text: str) -> None:
    for parse_one in (parse_duration, parse_bytes):
        try:
            assert 0 <= parse_one(text) < 10**25
        except ValueError:
            continue


def test_the_caret_stays_under_its_place_where_a_secret_before_it_is_hidden() -> None:
    privacy.hide(lambda: ("long-and-secret",))
    try:
        assert excerpt("SELECT 'long-and-secret' frm a", 1, 26) == "  1 | SELECT '***' frm a\n    |              ^"
        assert excerpt("SELECT long-and-secret", 1, 12) == "  1 | SELECT ***"
    finally:
        privacy.hide(tuple)


# -- the folder ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The migrations of a project; what lies beside the project is nobody's to read."""
    (tmp_path / "secret.txt").write_text("AKIA-CANARY-0000")
    migrations = tmp_path / "shop" / "migrations"
    (migrations / "repeatable").mkdir(parents=True)
    (migrations.parent / "lockstep.toml").write_text("")
    (migrations / "001-good.sql").write_text("SELECT 1;")
    return migrations


#: What is said of each: it differs, so that nobody looks for the wrong thing.
SAID = {
    "folder": "it is a folder, not a file", "pipe": "a named pipe", "link to a pipe": "a named pipe",
    "link to nowhere": "a link that leads nowhere", "link to itself": "a link that leads nowhere",
    "link out": "leads out of the project", "device": "leads out of the project",
}  # fmt: skip


@pytest.mark.parametrize(
    "place", ["002-bad.sql", "002-bad.down.sql", "repeatable/bad.sql", "repeatable/bad.verify.sql"]
)
@pytest.mark.parametrize(
    "kind", ["folder", "pipe", "link to nowhere", "link to itself", "link out", "device", "link to a pipe"]
)
def test_what_is_no_file_of_the_project_is_named_and_never_read(kind: str, place: str, folder: Path) -> None:
    path = folder / place
    if place.startswith("repeatable"):
        (folder / "repeatable" / "bad.sql").write_text("SELECT 1;")
        path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(folder.parent / "pipe")
        path.symlink_to(folder.parent / "pipe")
    else:
        path.symlink_to({"link to nowhere": "nowhere", "link to itself": path.name, "link out": "/etc/passwd", "device": "/dev/zero"}[kind])  # fmt: skip
    loaded = load_settings(folder.parent, {})
    read = read_folder(loaded)
    ((name, problem),) = read.stray
    assert name == place and SAID[kind] in problem
    assert [one.name for one in read.versioned] == ["001-good.sql"]
    assert all(file.text is None for file in snapshot(loaded).files if file.name == place)


def test_a_link_within_the_project_is_a_file(folder: Path) -> None:
    (folder.parent / "shared.sql").write_text("SELECT 2;")
    (folder / "002-shared.sql").symlink_to("../shared.sql")
    assert [one.name for one in read_folder(load_settings(folder.parent, {})).versioned] == [
        "001-good.sql",
        "002-shared.sql",
    ]


def test_names_that_look_alike_are_one_number_and_long_ones_are_taken(folder: Path) -> None:
    composed, decomposed = "002-caf\u00e9.sql", "002-cafe\u0301.sql"
    for name in (
        composed,
        decomposed,
        "003-" + "n" * 247 + ".sql",
        "004-שלום.sql",
        "005-🚀.sql",
        "006-" + "é" * 100 + ".sql",
    ):
        (folder / name).write_text("SELECT 1;")
    (folder / os.fsdecode(b"007-caf\xe9.sql")).write_text("SELECT 1;")
    (folder / "008-a\u202elqs.sql").write_text("SELECT 1;")
    read = read_folder(load_settings(folder.parent, {}))
    assert read.duplicates == ((decomposed, composed),)
    assert [one.version for one in read.versioned] == [1, 2, 3, 4, 5, 6]
    assert [problem for _, problem in read.stray] == [
        "byte 0xe9 of the name is not UTF-8", "the name holds a character that cannot be seen (U+202E)",
    ]  # fmt: skip


def test_a_file_that_never_ends_is_not_read_to_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockstep.service.project.LARGEST", 1024 * 1024)
    with (folder / "002-large.sql").open("wb") as sparse:
        sparse.truncate(10 * 1024**4)
    with pytest.raises(MigrationFileError, match=r"002-large.sql: is larger than 1 MiB"):
        read_folder(load_settings(folder.parent, {}))


def test_thousands_of_files_and_of_statements_in_one_make_a_plan(folder: Path) -> None:
    for number in range(2, 2_000):
        (folder / f"{number:05d}-step.sql").write_text(f"SELECT {number};")
    (folder / "02000-many.sql").write_text("INSERT INTO t VALUES (1);\n" * 20_000)
    read = read_folder(load_settings(folder.parent, {}))
    made = plan(read, Ledger(), PlanOptions())
    assert isinstance(made, Plan) and len(made.steps) == 2_000
    assert len(made.steps[-1].migration.up.script().statements) == 20_000
