"""The references are true: they name every command, option, key, code, document and column that there is, and no other."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from lockstep import config, errors
from lockstep.cli import alerts, backups
from lockstep.cli.main import COMMANDS, main
from lockstep.core import directives, planner
from lockstep.errors import ExitCode, LockstepError
from tests.documents import DOCS, ROOT, anchors, rows, section

REFERENCE = DOCS / "reference"


def test_the_guide_links_to_itself_alone() -> None:
    """`lockstep new-project` puts it into a team's folder, where the other pages are not."""
    links = re.findall(r"\]\(([^)\s]+)\)", (DOCS / "guide.md").read_text())
    assert [link for link in links if not link.startswith("#")] == []


def test_the_guide_begins_with_the_passwords() -> None:
    assert "otate any password" in (DOCS / "guide.md").read_text().splitlines()[0]


# -- errors -------------------------------------------------------------------------------------------------------


def error_classes() -> dict[str, type[LockstepError]]:
    found = inspect.getmembers(errors, inspect.isclass)
    return {name: kind for name, kind in found if issubclass(kind, LockstepError)}


def test_every_error_leads_to_a_section_of_the_guide() -> None:
    there = anchors((DOCS / "guide.md").read_text())
    assert {kind.more for kind in error_classes().values() if kind.more} <= there
    named = {anchor for file in source_files() for anchor in re.findall(r"docs/guide\.md#([\w-]+)", file.read_text())}
    assert named <= there


def source_files() -> list[Path]:
    kept = (p for folder in ("src", "flows", "tasks", "demo", "migrations") for p in (ROOT / folder).rglob("*"))
    return [p for p in kept if p.is_file() and "__pycache__" not in p.parts] + [ROOT / "pyproject.toml"]


def test_every_page_that_the_code_names_exists() -> None:
    named = {name for file in source_files() for name in re.findall(r"docs/[\w./-]+\.md", file.read_text())}
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []


def test_the_tree_in_errors_py_is_the_tree_of_classes() -> None:
    drawn: dict[str, tuple[str | None, set[int]]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ([│├└─ ]*)(\w+) +(\d(?:\|\d)*)\b", line):
            depth = len(match[1]) // 4
            above = [*above[:depth], match[2]]
            drawn[match[2]] = (above[-2] if depth else None, {int(code) for code in match[3].split("|")})
    real = {}
    for name, kind in error_classes().items():
        parent = kind.__bases__[0].__name__ if kind is not LockstepError else None
        real[name] = (parent, {int(kind.exit_code)})
    real["PlanRefused"] = ("LockstepError", {int(code) for code in planner._EXIT.values()})
    assert drawn == real


# -- references ---------------------------------------------------------------------------------------------------

OPTION = re.compile(r"(?<![\w-])(--?[a-z][a-z-]*)")
WORDY: dict[str, ModuleType] = {"backups": backups, "alerts": alerts}  # commands of several words
SHARED = {"--help", "-h", "--project", "--json", "--quiet", "-q", "--verbose", "-v", "--timezone"}


def options(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The options that a command's own help lists; of one with words, those of its words."""
    if command in WORDY:
        words = WORDY[command].WORDS
        return {option for word in words for option in options(f"{command} {word}", capsys)}
    main([*command.split(), "--help"])
    listed = capsys.readouterr().out.split("options:\n")[1].split("\nexamples:")[0]
    lines = [line for line in listed.splitlines() if re.match(r"  -", line)]
    return {option for line in lines for option in OPTION.findall(re.split(r"\s{2,}", line.strip())[0])}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_reference_has_every_option_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = section(REFERENCE / "cli.md", f"lockstep {command}")
    listed = {option for row in rows(text) for option in OPTION.findall(row[0])}
    assert listed == options(command, capsys) - SHARED
    assert "Exit codes:" in text


def test_the_reference_has_the_options_of_all_commands_and_no_other_command() -> None:
    page = REFERENCE / "cli.md"
    shared = {option for row in rows(section(page, "All commands")) for option in OPTION.findall(row[0])}
    assert shared == SHARED | {"--version"}
    assert re.findall(r"^## lockstep (\S+)$", page.read_text(), re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("[project]", config.ProjectTable),
        ("[environments.NAME]", config.EnvironmentTable),
        ("[backup]", config.BackupTable),
        ("[rehearsal]", config.RehearsalTable),
        ("[drift]", config.DriftTable),
        ("[[drift.ignore]]", config.IgnoreTable),
        ("[health]", config.HealthTable),
        ("[alerts]", config.AlertsTable),
        ("[display]", config.DisplayTable),
        ("[report]", config.ReportTable),
        ("[privacy]", config.PrivacyTable),
    ],
)
def test_the_reference_has_every_config_key_with_its_default(heading: str, table: type[msgspec.Struct]) -> None:
    listed = {row[0].strip("`"): row[1].strip("`") for row in rows(section(REFERENCE / "config.md", heading))}
    assert listed == {field.name: default_of(field) for field in msgspec.structs.fields(table)}


def test_the_reference_has_every_config_table() -> None:
    headings = re.findall(r"^## \[(\w+)", (REFERENCE / "config.md").read_text(), re.MULTILINE)
    assert set(headings) == set(config.FileShape.__struct_fields__)


def default_of(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default
    if value is msgspec.NODEFAULT:
        value = field.default_factory() if callable(field.default_factory) else None
    if value is None:
        return "none"
    return msgspec.json.encode(value).decode()


def test_the_reference_has_every_exit_code() -> None:
    listed = {row[0].strip("`"): row[1].strip("`") for row in rows((REFERENCE / "exit-codes.md").read_text())}
    assert {code: name for code, name in listed.items() if name != "–"} == {str(int(c)): c.name for c in ExitCode}


def test_the_reference_has_every_json_document() -> None:
    modules = [importlib.import_module(f"lockstep.cli.{module}") for module, _ in COMMANDS.values()]
    modules += [wordy.word_module(word) for wordy in WORDY.values() for word in wordy.WORDS]
    modules += [importlib.import_module(f"lockstep.cli.history_{word}") for word in ("prune", "stats", "verify")]
    modules.append(importlib.import_module("lockstep.cli.terminal"))
    made = {kind for m in modules for kind in re.findall(r"show_json\(\s*\"([\w-]+)\"", inspect.getsource(m))}
    assert set(re.findall(r"^## lockstep\.([\w-]+)/1$", (REFERENCE / "json.md").read_text(), re.MULTILINE)) == made


def test_the_reference_has_every_directive() -> None:
    listed = rows(section(REFERENCE / "file-format.md", "Directives"))
    words = {word for row in listed for word in re.findall(r"([a-z_-]+)(?==|`| )", row[0])}
    assert set(directives._NAMES) <= words


def test_the_reference_has_every_column_of_the_ledger() -> None:
    text = (ROOT / "src/lockstep/postgres/sql/create_ledger.sql").read_text()
    ledger, log = text.split("CREATE TABLE IF NOT EXISTS {schema}.schema_migrations_log")
    log, states = (
        part.split("CONSTRAINT")[0]
        for part in log.split("CREATE TABLE IF NOT EXISTS {schema}.schema_migrations_states")
    )
    form = re.compile(
        r"^    (?:ADD COLUMN IF NOT EXISTS )?([a-z_]+) +(?:text|bigint|integer|boolean|timestamptz|jsonb|bytea)", re.M
    )
    tables = {"schema_migrations": ledger, "schema_migrations_log": log, "schema_migrations_states": states}
    for heading, made in tables.items():
        listed = [row[0].strip("`") for row in rows(section(REFERENCE / "ledger.md", heading))]
        assert sorted(listed) == sorted(form.findall(made))


@pytest.mark.parametrize("name", ["guarantees.md", "bad-input.md"])
def test_every_proof_that_a_page_names_exists(name: str) -> None:
    page = (DOCS / "explanation" / name).read_text()
    proofs = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert proofs
    assert [f"{file}::{name}" for file, name in proofs if f"def {name}(" not in _text(ROOT / file)] == []


def test_every_guarantee_has_a_test_that_runs_each_time() -> None:
    """What nothing but a slow test proves is proven when somebody thinks of it."""
    page = (DOCS / "explanation" / "guarantees.md").read_text()
    late = []
    for line in page.splitlines():
        proofs = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line)
        if proofs and all(_is_slow(_text(ROOT / file), name) for file, name in proofs):
            late.append(line)
    assert late == []


def test_every_bad_input_has_an_exit_code_and_a_test() -> None:
    page = DOCS / "explanation" / "bad-input.md"
    headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
    listed = [row for heading in headings for row in rows(section(page, heading))]
    codes = {str(int(code)) for code in ExitCode}
    wrong = [row for row in listed if len(row) != 4 or set(row[2].split(" or ")) - codes or "::" not in row[3]]
    assert len(listed) > 50 and wrong == []


def _text(file: Path) -> str:
    return file.read_text() if file.is_file() else ""


def _is_slow(text: str, name: str) -> bool:
    decorated = re.search(rf"((?:^@.+\n)*)^def {name}\(", text, re.MULTILINE)
    return "pytestmark = pytest.mark.slow" in text or bool(decorated and "@pytest.mark.slow" in decorated[1])
