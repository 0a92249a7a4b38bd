"""Whether a backfill gets anywhere: one that touches the same rows again and again would go on for ever."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.core.counting import counted

#: Batches of the same size, smaller than the largest, that are taken for the same rows.
SAME = 20
#: Rows touched, as a multiple of the table's, from which on they must be the same ones. Estimates may be old.
TIMES = 2
FEWEST = 100_000  # rows; a small table's estimate may be far off


@dataclass(slots=True, kw_only=True)
class Pace:
    """What the batches of one run came to so far."""

    table_rows: int | None  # of the table, as the server estimates; None: unknown, or an INSERT
    rows: int = 0  # touched by this run
    _largest: int = 0
    _last: int = 0
    _same: int = 0

    def problem(self, rows: int) -> str | None:
        """Take in one batch; return why the backfill should be stopped, or None."""
        self.rows += rows
        self._same = self._same + 1 if rows == self._last else 1
        self._last = rows
        self._largest = max(self._largest, rows)
        if self._same >= SAME and rows < self._largest:
            return (
                f"the last {SAME} batches touched {counted(rows, 'row')} each, which must be the same "
                "ones: the statement does not change what it looks for (NULL stays NULL?)"
            )
        if self.table_rows is not None and self.rows > max(TIMES * self.table_rows, FEWEST):
            return (
                f"this run touched {self.rows:,} rows of a table of about {self.table_rows:,}: it touches the same ones "
                "again and again"
            )
        return None
