"""What is said at the end of a test run."""

from __future__ import annotations

#: Figures that tests measured: kills and their seed, the longest stalls.
LINES: list[str] = []

#: Tests that were left out, and why.
NOT_RUN: list[str] = []
