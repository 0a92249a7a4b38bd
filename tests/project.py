"""A project folder in a temporary place, its command line, and looks at its databases: what integration tests work on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from lockstep.cli.main import main
from lockstep.config import Environment, Settings, load_settings
from lockstep.core.migration import Folder
from lockstep.service.approval.prompting import Prompt, asking
from lockstep.service.project import read_folder


@dataclass(frozen=True)
class Outcome:
    """One call of the command line."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass
class Project:
    """Made by the `project` fixture; `urls` maps environments to connection URLs."""

    folder: Path
    urls: dict[str, str]
    toml: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    prompt: Prompt | None = lambda _asked: (True, "tested")  # answers for approvals of calls in this process

    def configure(self, **environments: str) -> None:
        """Write lockstep.toml: a table body per environment (the URL is added)."""
        parts = [self.toml]
        for name in self.urls:
            parts.append(f'[environments.{name}]\nurl = "${{{name.upper()}_URL}}"\n{environments.get(name, "")}')
        (self.folder / "lockstep.toml").write_text("\n".join(parts))

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / "migrations" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def remove(self, name: str) -> None:
        (self.folder / "migrations" / name).unlink()

    @property
    def environ(self) -> dict[str, str]:
        urls = {f"{name.upper()}_URL": url for name, url in self.urls.items()}
        return {**os.environ, **urls, **self.variables, "NO_COLOR": "1"}

    def run(self, *words: str) -> Outcome:
        """Call the command line in this process: what most tests need, without half a second of imports each."""
        out, err = io.StringIO(), io.StringIO()
        before = dict(os.environ)
        os.environ.update(self.environ)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), asking(self.prompt):
                code = main([*words, "--project", str(self.folder)])
        finally:
            os.environ.clear()
            os.environ.update(before)
        return Outcome(code, out.getvalue(), err.getvalue())

    def run_process(self, *words: str) -> Outcome:
        """Call the command line as a process of its own: for several at once, signals, and what start-up imports."""
        if words[:1] in (("sync",), ("revert",)) and "--approve" not in words:
            words = (*words, "--approve", "tested")
        done = subprocess.run(
            [sys.executable, "-m", "lockstep", *words],
            cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    def settings(self) -> Settings:
        return load_settings(self.folder, self.environ)

    def environment(self, name: str = "dev") -> Environment:
        return self.settings().environment(name)

    def files(self) -> Folder:
        return read_folder(self.settings())

    def query(self, text: str, environment: str = "dev") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.urls[environment], autocommit=True) as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []
