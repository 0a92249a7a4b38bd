"""Figures that tests measured, shown at the end of the run: kills and their seed, the longest stalls."""

from __future__ import annotations

LINES: list[str] = []
