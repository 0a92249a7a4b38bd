"""`new` and `new-project`: files are made, and never overwritten."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from lockstep import __version__
from lockstep.config import Settings
from lockstep.core.filename import parse_file_name
from lockstep.core.text import printable
from lockstep.errors import UsageError

if TYPE_CHECKING:
    from lockstep.core.remedy import Remedy

_UP = """\
-- {title}
-- What changes and why, for the person who reads this in a year.

"""
_DOWN = """\
-- Takes {up} back. Leave the schema exactly as it was before.

"""


def new_migration(settings: Settings, name: str) -> tuple[Path, Path]:
    """Make up and down skeletons with the next number, in the folder's own padding. Returns both paths.

    Raises UsageError for a name of which nothing usable is left.
    """
    return _write(settings, name, lambda up: _UP.format(title=name), lambda up: _DOWN.format(up=up))


def _write(
    settings: Settings, name: str, up_text: Callable[[str], str], down_text: Callable[[str], str]
) -> tuple[Path, Path]:
    title = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not title:
        raise UsageError(
            f"'{name}' holds no letter or digit to name a file by", hint='lockstep new "add invoices table"'
        )
    folder = settings.migrations_folder
    folder.mkdir(parents=True, exist_ok=True)
    known = [parsed for f in folder.glob("*.sql") if (parsed := parse_file_name(f.name))]
    newest = max(known, key=lambda p: p.version, default=None)
    number = str((newest.version if newest else 0) + 1).zfill(len(newest.digits) if newest else 3)
    up = folder / f"{number}-{title}.sql"
    down = folder / f"{number}-{title}.down.sql"
    for path, text in ((up, up_text(up.name)), (down, down_text(up.name))):
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    return up, down


def draft_migrations(settings: Settings, environment: str, remedies: Sequence[tuple[str, Remedy]]) -> tuple[Path, ...]:
    """Write proposals that make differences found on `environment` part of the migrations: (label, remedy) each.

    What cannot run in a transaction gets a file of its own. Returns the paths, up and down of each; nothing is applied.
    """
    made: list[Path] = []
    for alone, title in ((False, f"keep drift of {environment}"), (True, f"keep indexes of {environment}")):
        # A name may hold a line end: behind it the rest of a comment would be SQL.
        chosen = [(printable(label), one) for label, one in remedies if one.alone is alone and one.keep is not None]
        if not chosen:
            continue
        head = "-- lockstep: transaction=none\n" if alone else ""
        up = (
            f"{head}-- Found on {environment}, where it was made by hand. A proposal: read it before you keep it.\n\n"
            + "\n".join(f"-- {label}\n{one.keep}\n" for label, one in chosen)
        )
        down = (
            head + "-- Takes {up} back.\n\n" + "\n".join(f"-- {label}\n{one.undo}\n" for label, one in reversed(chosen))
        )
        made += _write(settings, title, lambda _, text=up: text, lambda name, text=down: text.replace("{up}", name, 1))  # type: ignore[misc]  # bound at once
    return tuple(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProject:
    """What `new-project` made."""

    folder: Path
    made: tuple[str, ...]  # relative names, sorted


def new_project(folder: Path, *, with_example_schema: bool) -> NewProject:
    """Lay out a project folder of one's own. Raises UsageError when the folder is not empty; nothing is overwritten."""
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; nothing was written", hint="name a new folder")
    template = files("lockstep").joinpath("project")
    with as_file(template) as source:
        if not source.is_dir():
            source = _checkout()
        made = _copy(source, folder, with_example_schema)
    return NewProject(folder=folder, made=tuple(sorted(made)))


def _checkout() -> Path:
    """The source tree, where the template's parts stand in their own places (an editable install)."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "prefect.yaml").is_file():
        raise UsageError("the project template is missing from this installation", hint="install pg-lockstep again")
    return root


#: Which version laid a project's flows and tasks out: a project's own file, so that it goes with them.
FLOWS_VERSION = "flows/.lockstep-version"

#: What a project gets: in the wheel they lie under lockstep/project, in a checkout at its root.
_PARTS = ("flows", "tasks", "prefect.yaml", "docs", "deploy")
_STARTERS = {"lockstep.toml": "lockstep.toml", ".env.example": "env.example", ".gitignore": "gitignore"}

#: What the example schema's repeatable migration needs, put into both environments and into .env.example.
_EXAMPLE_SETTING = ('_URL}"\n', '_URL}"\nsettings = { admin_emails = "${ADMIN_EMAILS}" }\n')
_EXAMPLE_VARIABLE = (
    "\n# Where backups go",
    "\n# Who may use the example schema's admin functions, comma separated.\nADMIN_EMAILS=\n\n# Where backups go",
)


def _copy(source: Path, folder: Path, with_example_schema: bool) -> list[str]:
    made: list[str] = []

    def write(name: str, content: bytes) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        made.append(name)

    (folder / "migrations").mkdir(parents=True)
    for part in (*_PARTS, *(("migrations",) if with_example_schema else ())):
        path = source / part
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                write(str(file.relative_to(source)), file.read_bytes())
    starters = files("lockstep.service").joinpath("starters")
    for name, resource in _STARTERS.items():
        text = starters.joinpath(resource).read_text(encoding="utf-8")
        if with_example_schema:
            text = text.replace(*_EXAMPLE_SETTING).replace(*_EXAMPLE_VARIABLE)
        write(name, text.encode())
    if not with_example_schema:
        write("migrations/.gitkeep", b"")
    write(FLOWS_VERSION, f"{__version__}\n".encode())
    return made


def shipped_flows() -> dict[str, bytes]:
    """Return the flows and tasks of this version as `new-project` lays them out: relative name -> content."""
    with as_file(files("lockstep").joinpath("project")) as source:
        root = source if source.is_dir() else _checkout()
        found = (file for part in ("flows", "tasks") for file in (root / part).glob("*.py"))
        return {str(file.relative_to(root)): file.read_bytes() for file in found}
