"""What every Markdown page of the project keeps to: links resolve, each block is run or read by a test or says why not,
and each `lockstep` command that a page names is one that the command line takes."""

from __future__ import annotations

import configparser
import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from lockstep.cli.main import command_of, parser_for
from lockstep.config import load_settings
from lockstep.core.statements import parse_script
from tests.documents import DOCS, ROOT, Block, anchors, blocks, links, pages, prose
from tests.played import PLAYED

#: Hosts that a page may point to; all others are somebody's, and could go or change.
HOSTS = re.compile(
    r"(?:[\w-]+\.)*example(?:\.com)?|localhost|127\.0\.0\.1|keepachangelog\.com|semver\.org|diataxis\.fr|age-encryption\.org"
)

# -- links ---------------------------------------------------------------------------------------------------------


def test_every_relative_link_picture_and_anchor_resolves() -> None:
    broken = []
    for page in pages():
        for link in links(page.read_text()):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


def test_pages_point_to_no_foreign_host() -> None:
    found = [
        f"{page.relative_to(ROOT)}: {host}"
        for page in pages()
        for host in re.findall(r"https?://([^/\s:)\"'`>]+)", page.read_text())
        if not HOSTS.fullmatch(host)
    ]
    assert found == []


def test_every_picture_says_what_is_on_it_and_every_picture_is_shown() -> None:
    shown = [
        (alt, (page.parent / name).resolve())
        for page in pages()
        for alt, name in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text())
    ]
    assert [file.name for alt, file in shown if len(alt) < 20] == []
    assert {file for _, file in shown} == set((DOCS / "images").glob("*"))


def test_the_map_names_every_page() -> None:
    listed = {(DOCS / link).resolve() for link in links((DOCS / "README.md").read_text())}
    assert [str(page.relative_to(ROOT)) for page in DOCS.rglob("*.md") if page not in listed] == ["docs/README.md"]


# -- blocks --------------------------------------------------------------------------------------------------------


def every_block() -> list[Block]:
    return [block for page in pages() for block in blocks(page)]


def test_every_block_is_run_or_read_or_says_why_not() -> None:
    wrong = []
    for block in every_block():
        if (
            block.kind == "setup"
            or block.exempt
            or (block.kind == "console" and str(block.page.relative_to(ROOT)) in PLAYED)
        ):
            continue
        if problem := problem_of(block):
            wrong.append(f"{block.where} ({block.kind or 'no language'}): {problem}")
    assert wrong == []


def problem_of(block: Block) -> str | None:
    """Why no test vouches for a block; None when this one does, by reading it."""
    try:
        match block.kind:
            case "toml":
                read_configuration(block.text)
            case "sql":
                parse_script(block.text, "001-block.sql", transactional="transaction=none" not in block.text)
            case "json":
                json.loads(block.text)
            case "yaml":
                yaml.safe_load(block.text)
            case "ini":
                configparser.ConfigParser(strict=False, interpolation=None).read_string(block.text)
            case "sh" | "console":
                return unknown_command(block)
            case "" | "text":
                if re.search(r"^(?:\$ |lockstep [a-z]|prefect [a-z]|psql )", block.text, re.MULTILINE):
                    return "holds a command: make it a sh or console block"
            case _:
                return "of a kind that no test reads"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def read_configuration(text: str) -> None:
    """Read a part of lockstep.toml as Lockstep does, with what else a project needs around it."""
    import tempfile
    import tomllib

    given = tomllib.loads(text)
    parts = [text]
    if "dev" not in given.get("environments", {}):
        parts.append('[environments.dev]\nurl = "${DATABASE_URL}"\n')
    if "prod" not in given.get("environments", {}):
        parts.append('[environments.prod]\nurl = "${PRODUCTION_DATABASE_URL}"\nafter = ["dev"]\n')
    if "backup" not in given:
        parts.append('[backup]\nbucket = "${BACKUP_BUCKET}"\n')
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "lockstep.toml").write_text("\n".join(parts))
        load_settings(Path(folder), {})


def unknown_command(block: Block) -> str | None:
    """A line of a shell block that calls neither our command line nor a target of the Makefile."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in commands_of(block):
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"] and words[1:2] and words[1] in targets:
            continue
        if words[:1] != ["lockstep"]:
            return f"no test runs or reads: {line}"
    return None


def commands_of(block: Block) -> list[str]:
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.kind == "console":
        return [line[2:] for line in lines if line.startswith("$ ")]
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


# -- commands ------------------------------------------------------------------------------------------------------


def named_commands(page: Path) -> list[tuple[str, bool]]:
    """Every `lockstep …` of a page, and whether it stands in a line: there a command may be named without its words."""
    text = prose(page.read_text())
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
    in_blocks = [line for block in blocks(page) if block.kind in ("sh", "console") for line in commands_of(block)]
    called = [
        re.split(r" (?:2?>|[|&;])", line[line.index("lockstep ") :])[0] for line in in_blocks if CALLED.match(line)
    ]
    return [(code, True) for code in inline if re.match(r"lockstep [a-z-]", code)] + [(line, False) for line in called]


CALLED = re.compile(r"(?:[A-Z_]+=\S+ )*lockstep ")
#: A form (`[ENV…]`, `a|b`, `alerts WORD`), and no command.
FORM = re.compile(r"[\[|…<]|\b(?:WORD|SHELL)\b")
#: What stands for a number.
NUMBER = re.compile(r"\b(?:VERSION|NUMBER|N)\b")
#: What the command line says where a word is missing.
INCOMPLETE = ("are required", "expected one argument")


def refusal(command: str) -> str | None:
    """What the command line says of a command that it does not take."""
    said = io.StringIO()
    words = shlex.split(NUMBER.sub("7", command), comments=True)[1:]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parser_for(command_of(words)).parse_args(words)
    except SystemExit as stop:
        return f"{command}: {said.getvalue().strip().splitlines()[-1]}" if stop.code else None
    return None


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_command_line_takes_every_command_that_a_page_names(page: Path) -> None:
    refused = [
        said
        for command, inline in named_commands(page)
        if not FORM.search(command) and (said := refusal(command))
        if not (inline and any(words in said for words in INCOMPLETE))
    ]
    assert refused == []
