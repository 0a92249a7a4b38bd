"""The project's Markdown as the tests read it: pages, headings, links, fenced blocks and the marks above them.

Marks are HTML comments of their own line: `<!-- not run: reason -->` above a block says why no test runs or reads it;
`<!-- setup … -->` holds commands that the reader need not see; `<!-- run as … -->` above a console block of one command
holds what is run in its place, where that needs a second terminal.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def pages() -> list[Path]:
    """Every Markdown file that version control keeps, or is about to; not what tests compare with."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "*.md"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return sorted(
        ROOT / name
        for name in set(listed.split("\0"))
        if name and not name.startswith("tests/") and (ROOT / name).is_file()
    )


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


def links(text: str) -> list[str]:
    """Where the page's links and pictures point to; those in code are text."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(text)))


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


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int  # of its fence
    kind: str  # its language; empty where it names none
    text: str
    exempt: str = ""  # why it is not run
    run_as: str = ""  # what is run in its place

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order; a stage direction is one of the kind `setup`."""
    inside: Block | None = None
    closes = exempt = run_as = ""
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if inside is not None and line.strip() == closes:
            if inside.kind == "run as":
                run_as = inside.text
            else:
                yield inside
            inside = None
        elif inside is not None:
            inside = replace(inside, text=f"{inside.text}{line}\n")
        elif line in ("<!-- setup", "<!-- run as"):
            inside, closes = Block(page, number, line.removeprefix("<!-- "), ""), "-->"
        elif match := re.match(r" *```(\w*)$", line):
            inside, closes = Block(page, number, match[1], "", exempt, run_as), "```"
            exempt = run_as = ""
        elif line.strip():
            mark = re.fullmatch(r"<!-- not run: (.+) -->", line.strip())
            exempt = mark[1] if mark else ""
            run_as = ""
    assert inside is None, f"{inside.where if inside else ''}: a block is not closed"
