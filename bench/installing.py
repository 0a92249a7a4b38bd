"""`python -m bench.installing`: the peers into .bench/, apart from the project's own environment. What cannot be had is
left out and named; `make bench` goes on without it.

Versions are pinned: in pyproject.toml (group `bench`) and in package-lock.json beside this file. Debian's packages are
nobody's to install but the user's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

from bench.peers import TOOLS
from bench.places import NODE, PROGRAMS, ROOT, VENV

_HERE = Path(__file__).parent
_LIMIT = 600.0  # seconds for one installation


def main() -> int:
    _python()
    _node()
    for tool in TOOLS:
        if why := tool.missing():
            _say(f"{tool.name} is left out: {why}")
    return 0


def _python() -> None:
    """What pyproject.toml names, together; if that does not go, whatever goes."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted: list[str] = tomllib.load(file)["dependency-groups"]["bench"]
    stamp, now = VENV / "installed", "\n".join(wanted)
    if stamp.exists() and stamp.read_text() == now:
        return
    _say("Python's peers and compiled ones, into .bench/venv")
    venv.create(VENV, with_pip=True, clear=True)
    pip = (str(PROGRAMS / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    if not _ran((*pip, *wanted), ROOT):
        for one in wanted:
            _ran((*pip, one), ROOT)
    stamp.write_text(now)


def _node() -> None:
    """What package-lock.json names. No package's own scripts run: none of these needs one."""
    if shutil.which("npm") is None:
        _say("npm not found: peers that come from its registry are left out; apt-get install npm")
        return
    lock = (_HERE / "package-lock.json").read_text()
    stamp = NODE / "installed"
    if stamp.exists() and stamp.read_text() == lock:
        return
    _say("Node's peers and Liquibase, into .bench/node")
    NODE.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_HERE / name, NODE / name)
    if _ran(("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"), NODE):
        stamp.write_text(lock)


def _ran(words: Sequence[str], folder: Path) -> bool:
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        _say(f"not done after {_LIMIT:g} s: {' '.join(words[-3:])}")
        return False
    if done.returncode != 0:
        _say(f"{' '.join(words[-3:])} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.returncode == 0


def _say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
