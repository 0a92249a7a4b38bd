"""The answer to a shell that asks what could come next. Reads lockstep.toml and names of files; connects to nothing.

It must be there before the next key is pressed, so nothing of the use cases is imported.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

Completer = Callable[..., Mapping[str, str]]  # word -> what it is, for shells that show that


def answer() -> None:
    """Answer, and end the process. Called where argcomplete's variables are set."""
    import argcomplete
    from argcomplete.completers import SuppressCompleter
    from argcomplete.lexers import split_line

    from lockstep.cli.main import COMMANDS, command_of, parser_for

    line = os.environ.get("COMP_LINE", "")
    point = int(os.environ.get("COMP_POINT") or len(line))
    _, _, _, before, _ = split_line(line, point)
    called = command_of(before[1:])
    parser = parser_for(called if called in COMMANDS else None)
    _teach(parser)
    argcomplete.autocomplete(
        parser, always_complete_options=False, default_completer=SuppressCompleter(), exit_method=sys.exit
    )


def _teach(parser: argparse.ArgumentParser) -> None:
    """Say for each argument where its words come from."""
    from argcomplete.completers import DirectoriesCompleter

    words: dict[str, Completer] = {
        "ENV": environments,
        "ENV|URL": environments,
        "VERSION": migrations,
        "VERSION|NAME": migrations,
        "NAME": migrations,
        "BACKUP": _fixed({"latest": "the newest one", "before:": "the one that a run took"}),
        "ZONE": zones,
    }
    for action in _actions(parser):
        metavar = action.metavar if isinstance(action.metavar, str) else ""
        if metavar == "DIR":
            action.completer = DirectoriesCompleter()  # type: ignore[attr-defined]  # argcomplete's way
        elif metavar == "NAME" and not action.option_strings:
            continue  # `new NAME`: a name that there is not yet
        elif found := words.get(metavar) or (migrations if action.dest == "version" else None):
            action.completer = found  # type: ignore[attr-defined]


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)


def _fixed(found: Mapping[str, str]) -> Completer:
    return lambda **_: found


def environments(parsed_args: argparse.Namespace, **_: object) -> Mapping[str, str]:
    """The environments of the nearest lockstep.toml."""
    data = _project(parsed_args)[1]
    tables = data.get("environments")
    return dict.fromkeys(tables, "environment") if isinstance(tables, dict) else {}


def migrations(prefix: str, parsed_args: argparse.Namespace, **_: object) -> Mapping[str, str]:
    """Numbers with names, as they can be given: `007-orders`; who types a bare number gets bare numbers."""
    import re

    folder, data = _project(parsed_args)
    if folder is None:
        return {}
    project = data.get("project")
    name = project.get("migrations", "migrations") if isinstance(project, dict) else "migrations"
    try:
        names = sorted(one.name for one in (folder / str(name)).iterdir())
    except OSError:
        return {}
    found = [re.match(r"(\d+)[-_](.+?)\.sql$", one) for one in names if not re.search(r"\.(down|verify)\.sql$", one)]
    matches = [one for one in found if one is not None]
    if prefix.isdigit() and not any(one[0].startswith(prefix) for one in matches):
        return {str(int(one[1])): one[2] for one in matches}
    return {one[0].removesuffix(".sql"): "migration" for one in matches}


def zones(**_: object) -> Mapping[str, str]:
    """Names of time zones."""
    import zoneinfo

    return {**dict.fromkeys(sorted(zoneinfo.available_timezones()), "time zone"), "local": "the machine's own"}


def _project(parsed: argparse.Namespace) -> tuple[Path | None, Mapping[str, object]]:
    """The folder of the nearest lockstep.toml, and what is in it; what cannot be read is not there."""
    import tomllib

    start = Path(getattr(parsed, "project", None) or ".").resolve()
    for folder in (start, *start.parents):
        file = folder / "lockstep.toml"
        if file.is_file():
            try:
                return folder, tomllib.loads(file.read_text(encoding="utf-8-sig"))
            except (OSError, ValueError):
                return folder, {}
    return None, {}
