"""A migration that failed on a copy, in words: which rows are in the way, by their keys, and nothing else of them."""

from __future__ import annotations

from lockstep.core.rehearsal.verdict import Outcome, Problem
from lockstep.errors import MigrationFailed
from lockstep.service.rehearsal.stage import Clone


def failure_of(error: MigrationFailed, clone: Clone) -> Problem:
    """Return the failure as a problem. Reads the clone, which is as it was before the file."""
    return Problem(
        outcome=Outcome.FAILED,
        rule="fails-on-data" if error.sqlstate and error.sqlstate[:2] in ("22", "23") else "fails",
        message=f"it fails with SQLSTATE {error.sqlstate}",
        file=error.file,
        line=error.line,
    )
