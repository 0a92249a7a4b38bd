"""The documentation is true: links resolve, references name all there is, and the commands run as they are printed.

The console blocks of the pages in PAGES run on a real server and a real S3 store, in order, with the wheel alone
installed, as a reader would have it. What they print is compared with what the page says; times, run ids and digests
may differ.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from demo.s3server import S3Server
from lockstep import config, errors
from lockstep.cli import alerts, backups
from lockstep.cli.main import COMMANDS, main
from lockstep.core import directives, planner
from lockstep.core.address import parse_address
from lockstep.errors import ExitCode, LockstepError

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
#: Pages whose console blocks run. A block is exempt below an HTML comment `not run: reason`.
PAGES = (
    "README.md",
    "docs/tutorial.md",
    "docs/guide.md",
    "docs/how-to/large-tables.md",
    "docs/how-to/drift.md",
    "docs/how-to/encrypt-backups.md",
    "docs/how-to/restore-production.md",
)
#: Hosts that a page may point to; all others are somebody's, and could go or change.
HOSTS = re.compile(
    r"(?:[\w-]+\.)*example(?:\.com)?|localhost|127\.0\.0\.1|keepachangelog\.com|semver\.org|diataxis\.fr|age-encryption\.org"
)


# -- Markdown -----------------------------------------------------------------------------------------------------


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def prose(text: str) -> str:
    """The page without fenced blocks, so that a `#` of a shell is no heading."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        numbered = (f"{slug}-{n}" for n in range(1, 100))
        found.add(slug if slug not in found else next(s for s in numbered if s not in found))
    return found


def section(page: Path, heading: str) -> str:
    """The text below one second-level heading, without the heading."""
    match = re.search(rf"^## {re.escape(heading)}$\n(.*?)(?=^## |\Z)", page.read_text(), re.DOTALL | re.MULTILINE)
    assert match, f"{page.name} has no section '{heading}'"
    return match[1]


def rows(text: str) -> list[list[str]]:
    """The cells of a table's rows, header left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for index, row in enumerate(cells) if index > 1]


def test_every_relative_link_and_anchor_resolves() -> None:
    broken = []
    for page in pages():
        text = page.read_text()
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(text))):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken


def test_pages_point_to_no_foreign_host() -> None:
    found = [
        f"{page.relative_to(ROOT)}: {host}"
        for page in pages()
        for host in re.findall(r"https?://([^/\s:)\"'`>]+)", page.read_text())
        if not HOSTS.fullmatch(host)
    ]
    assert not found


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
SHARED = {"--help", "-h", "--project", "--json"}


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
        ("[report]", config.ReportTable),
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


def test_every_bad_input_has_an_exit_code_and_a_test() -> None:
    page = DOCS / "explanation" / "bad-input.md"
    headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
    listed = [row for heading in headings for row in rows(section(page, heading))]
    codes = {str(int(code)) for code in ExitCode}
    wrong = [row for row in listed if len(row) != 4 or set(row[2].split(" or ")) - codes or "::" not in row[3]]
    assert len(listed) > 50 and wrong == []


def _text(file: Path) -> str:
    return file.read_text() if file.is_file() else ""


# -- console blocks -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """One command of a page, and what the page says it prints."""

    line: int
    text: str
    printed: tuple[str, ...]  # empty: only its exit code is looked at


def read_commands(text: str) -> list[Command]:
    """The commands of a page in order: its console blocks, and the stage directions in `<!-- setup … -->`."""
    found: list[Command] = []
    state, exempt = "", False
    for number, line in enumerate(text.splitlines(), start=1):
        if state == "setup" and line == "-->":
            state = ""
        elif state == "setup":
            found[-1] = Command(found[-1].line, f"{found[-1].text}\n{line}".lstrip("\n"), ())
        elif state and line.startswith("```"):
            state, exempt = "", False
        elif state == "console" and not exempt:
            _read_line(found, line, number)
        elif not state and line == "<!-- setup":
            state = "setup"
            found.append(Command(number, "", ()))
        elif not state and line.startswith("```"):
            state = line[3:] or "text"
        elif not state and line.strip():
            exempt = bool(re.fullmatch(r"<!-- not run: .+ -->", line))
    assert not state, f"a block is not closed ({state})"
    return found


def _read_line(found: list[Command], line: str, number: int) -> None:
    if line.startswith("$ "):
        found.append(Command(number, line[2:], ()))
        return
    last = found[-1]
    if re.match(r"> |>$", line) and not last.printed:
        found[-1] = Command(last.line, f"{last.text}\n{line[2:]}", ())
    else:
        found[-1] = Command(last.line, last.text, (*last.printed, line))


MARK = "\x1e"

#: What differs from run to run, by what stands for it.
VARYING = (
    (r"\d{8}-\d{6}-[0-9a-f]{4}", "RUN"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d| UTC)|\d{8}T\d{6}Z|\d{4}-\d\d-\d\dT[\d:.]+Z", "MOMENT"),
    (r"today \d\d:\d\d|\d{1,2} [A-Z][a-z]{2} (?:\d\d:\d\d|\d{4})", "WHEN"),
    (r"\b\d+ min \d\d s\b|\b\d+(?:\.\d+)? (?:ms|s)\b", "TIME"),
    (r"\b(plan|head) [0-9a-f]{12}\b", r"\1 DIGEST"),
    (r"\b\d+(?:\.\d+)? (?:bytes|[kKMG]i?B)", "SIZE"),
    (r"\b[0-9a-f]{64}\b", "SHA256"),
    (r"\bage1[a-z0-9]{58}\b", "AGE-KEY"),
    (r"\bby \S+@[\w.-]+", "by WHO"),
    (r"[ \t]+", " "),
)


def settled(text: str) -> str:
    text = re.sub(r"^\w+:   \w+ … .*\n?", "", text, flags=re.MULTILINE)  # how far it is: only where it takes long
    for form, word in VARYING:
        text = re.sub(form, word, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())


def play(commands: list[Command], folder: Path, environment: Mapping[str, str]) -> list[tuple[str, int]]:
    """Run all commands in one shell; return what each printed, both streams in order, and its exit status."""
    script = "".join(
        f'{{ {command.text}\n}} </dev/null\n__status=$?; printf \'\\n{MARK}%s\\n\' "$__status"; (exit "$__status")\n'
        for command in commands
    )
    done = subprocess.run(
        ["bash", "--noprofile", "--norc"],
        input=script, text=True, cwd=folder, env=dict(environment), timeout=600, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    parts = re.split(rf"\n{MARK}(\d+)\n", done.stdout)
    return [(printed, int(status)) for printed, status in zip(parts[::2], parts[1::2], strict=False)]


def fits(printed: tuple[str, ...], actual: str) -> bool:
    """Whether the output is what the page says; a line `…` stands for any lines."""
    form = "".join(
        r"(?:.*\n)*?" if line.strip() == "…" else re.escape(line) + r"\n"
        for line in settled("\n".join(printed)).splitlines()
    )
    return re.fullmatch(form, settled(actual) + "\n") is not None


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, built from this checkout, and its dependencies: no source."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("pg_lockstep-*.whl")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    # The dependencies are those of the tests' own environment. A .pth inside of it (our source) is not followed.
    base = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    site = Path(sysconfig.get_path("purelib", "venv", base))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


@pytest.fixture(scope="session")
def store() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_print_what_it_says(
    page: str, tmp_path: Path, installed: Path, pg_bin: Path, store: S3Server, new_database: Callable[[], str]
) -> None:
    bucket = f"docs-{Path(page).stem.lower()}"
    store.make_bucket(bucket)
    # What a page calls the databases, by the variable that holds their address.
    urls = {name: new_database() for name in ("DATABASE_URL", "PRODUCTION_DATABASE_URL", "RESTORED_DATABASE_URL")}
    shown = dict(zip(urls, ("localhost/shop_dev", "db.example.com/shop", "db.example.com/shop_restored"), strict=True))
    environment = {
        **urls,
        "PATH": os.pathsep.join([str(installed), str(Path(sys.executable).parent), str(pg_bin), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "TMPDIR": tempfile.gettempdir(),
        "LANG": "C.UTF-8",
        "BACKUP_BUCKET": f"s3://{bucket}/lockstep",
        "S3_ENDPOINT_URL": store.endpoint_url,
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    commands = read_commands((ROOT / page).read_text())
    assert commands
    played = play(commands, tmp_path, environment)
    assert len(played) == len(commands), f"the shell ended after {commands[len(played)].text}"
    wrong = []
    for index, (command, (actual, status)) in enumerate(zip(commands, played, strict=True)):
        for name, url in urls.items():
            actual = actual.replace(parse_address(url).shown, shown[name])
        actual = actual.replace(bucket, "company-db-backups")
        shows_status = index + 1 < len(commands) and commands[index + 1].text == "echo $?"
        if (status and not shows_status) or (command.printed and not fits(command.printed, actual)):
            wrong.append(f"{page}:{command.line}: $ {command.text}\n{actual.strip()}\n(exit {status})")
    assert not wrong, "\n\n".join(wrong)
