"""Pages whose console blocks are run, in order, in one shell, with the wheel alone installed, as a reader would have it.

What a command prints is compared with what the page says; times, run ids and digests may differ. tests/documents.py
says which marks a page may carry.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lockstep.core.address import parse_address
from tests.documents import ROOT, Block, blocks

if TYPE_CHECKING:
    from demo.s3server import S3Server

#: Run by tests/cli/test_pages.py.
PAGES = (
    "README.md",
    "docs/guide.md",
    "docs/how-to/adopt-a-database.md",
    "docs/how-to/large-tables.md",
    "docs/how-to/drift.md",
    "docs/how-to/encrypt-backups.md",
    "docs/how-to/restore-production.md",
    "docs/how-to/shell.md",
)
#: Run by tests/flows, which have a Prefect server.
WITH_PREFECT = ("docs/tutorial.md",)
PLAYED = (*PAGES, *WITH_PREFECT)


@dataclass(frozen=True)
class Command:
    """One command of a page, and what the page says it prints."""

    line: int
    text: str
    printed: tuple[str, ...]  # empty: only its exit code is looked at


def read_commands(page: Path) -> list[Command]:
    """The commands of a page in order: its console blocks, and its stage directions."""
    found: list[Command] = []
    for block in blocks(page):
        if block.kind == "setup":
            found.append(Command(block.line, block.text.rstrip("\n"), ()))
        elif block.kind == "console" and not block.exempt:
            found += _commands(block)
    return found


def _commands(block: Block) -> list[Command]:
    found: list[Command] = []
    for number, line in enumerate(block.text.splitlines(), start=block.line + 1):
        if line.startswith("$ "):
            found.append(Command(number, line[2:], ()))
            continue
        last = found[-1]
        if re.match(r"> |>$", line) and not last.printed:
            found[-1] = Command(last.line, f"{last.text}\n{line[2:]}", ())
        else:
            found[-1] = Command(last.line, last.text, (*last.printed, line))
    if block.run_as:
        assert len(found) == 1, f"{block.where}: one command stands for `run as`"
        return [Command(found[0].line, block.run_as.rstrip("\n"), found[0].printed)]
    return found


MARK = "\x1e"

#: What differs from run to run, by what stands for it.
VARYING = (
    (r"\d{8}-\d{6}-[0-9a-f]{4}", "RUN"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d| UTC)|\d{8}T\d{6}Z|\d{4}-\d\d-\d\dT[\d:.]+Z", "MOMENT"),
    (r"today \d\d:\d\d|\d{1,2} [A-Z][a-z]{2} (?:\d\d:\d\d|\d{4})", "WHEN"),
    (r"\b\d+ min \d\d s\b|\b\d+(?:\.\d+)? (?:ms|s)\b", "TIME"),
    (r"\b(plan|head|changes) +[0-9a-f]{12}\b", r"\1 DIGEST"),
    (r"\b\d+(?:\.\d+)? (?:bytes|[kKMG]i?B)", "SIZE"),
    (r"\b[0-9a-f]{64}\b", "SHA256"),
    (r"\bage1[a-z0-9]{58}\b", "AGE-KEY"),
    (r"\bby \S+@[\w.-]+", "by WHO"),
    (r"http://(?:localhost|127\.0\.0\.1):\d+", "SERVER"),
    (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"[ \t]+", " "),
)


def settled(text: str) -> str:
    text = re.sub(r"^\w+:   \w+ … .*\n?", "", text, flags=re.MULTILINE)  # how far it is: only where it takes long
    for form, word in VARYING:
        text = re.sub(form, word, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())


def fits(printed: tuple[str, ...], actual: str) -> bool:
    """Whether the output is what the page says; a line `…` stands for any lines."""
    form = "".join(
        r"(?:.*\n)*?" if line.strip() == "…" else re.escape(line) + r"\n"
        for line in settled("\n".join(printed)).splitlines()
    )
    return re.fullmatch(form, settled(actual) + "\n") is not None


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


def differences(
    page: str,
    folder: Path,
    programs: list[Path],
    urls: list[str],
    store: S3Server,
    more: Mapping[str, str] | None = None,
) -> list[str]:
    """Play a page in a folder; return what came out otherwise than it says, a text per command.

    `urls` are three empty databases: dev, production, and one for a copy. `more` joins the shell's environment.
    """
    bucket = f"docs-{Path(page).stem.lower()}"
    store.make_bucket(bucket)
    named = dict(zip(("DATABASE_URL", "PRODUCTION_DATABASE_URL", "RESTORED_DATABASE_URL"), urls, strict=True))
    environment = {
        **named,
        "PATH": os.pathsep.join([*map(str, programs), os.environ["PATH"]]),
        "HOME": str(folder),
        "TMPDIR": tempfile.gettempdir(),
        "LANG": "C.UTF-8",
        "BACKUP_BUCKET": f"s3://{bucket}/lockstep",
        "S3_ENDPOINT_URL": store.endpoint_url,
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        **(more or {}),
    }
    commands = read_commands(ROOT / page)
    assert commands
    played = play(commands, folder, environment)
    assert len(played) == len(commands), f"the shell ended after {commands[len(played)].text}"
    # What a page calls the databases and the bucket.
    shown = dict(zip(urls, ("localhost/shop_dev", "db.example.com/shop", "db.example.com/shop_restored"), strict=True))
    wrong = []
    for index, (command, (actual, status)) in enumerate(zip(commands, played, strict=True)):
        for url, name in shown.items():
            actual = actual.replace(parse_address(url).shown, name)
        actual = actual.replace(bucket, "company-db-backups").replace(str(folder), "~")
        shows_status = index + 1 < len(commands) and commands[index + 1].text == "echo $?"
        if (status and not shows_status) or (command.printed and not fits(command.printed, actual)):
            wrong.append(f"{page}:{command.line}: $ {command.text}\n{actual.strip()}\n(exit {status})")
    return wrong


def install_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout and install it into an environment of its own: no source. Return its programs.

    The dependencies are those of the tests' own environment.
    """
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("pg_lockstep-*.whl")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    # A .pth inside of the other environment (our source) is not followed.
    base = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    site = Path(sysconfig.get_path("purelib", "venv", base))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent
