"""Where `make bench` keeps what is not the project's: peers, results. Nothing of it is under version control."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".bench"
VENV = KEPT / "venv"  # peers written in Python, and compiled ones that come as wheels: apart from the project's own
PROGRAMS = VENV / "bin"
NODE = KEPT / "node"
MODULES = NODE / "node_modules"
RESULTS = KEPT / "results.json"
PAGE = ROOT / "docs/explanation/performance.md"
CHART = ROOT / "docs/images/bench.png"
