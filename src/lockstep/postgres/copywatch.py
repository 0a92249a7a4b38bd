"""How far pg_dump is, seen from the server: which table it copies, and how much of it. An estimate, never a promise.

Looks through the snapshot's own session and never fails a backup: what it cannot see it does not know.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from lockstep.core.shards import SizedTable
from lockstep.postgres.snapshot import Snapshot


class CopyWatch:
    """The share of the tables' bytes that the dumps of one snapshot have copied.

    `archives` are the tables of each archive. pg_dump goes through a whole database by schema and name
    (pg_dump_sort.c), so what comes before the table under way is done. An archive of some tables may have another
    order, by foreign keys: there it is only about.
    """

    def __init__(self, snapshot: Snapshot, archives: Sequence[Sequence[SizedTable]]) -> None:
        self._snapshot = snapshot
        self._pid = snapshot.connection.info.backend_pid
        self._total = sum(table.size for archive in archives for table in archive)
        self._before: dict[int, tuple[int, int, int]] = {}  # oid -> archive, bytes before it, its own
        self._done = [0] * len(archives)
        for number, archive in enumerate(archives):
            before = 0
            for table in sorted(archive, key=lambda t: (t.schema, t.name)):
                self._before[table.oid] = number, before, table.size
                before += table.size

    def share(self) -> float | None:
        """Return what is done, from 0 to below 1; None where nothing can be said. One short query."""
        if not self._total:
            return None
        try:
            with self._snapshot.looking() as connection:
                connection.execute("SELECT pg_catalog.pg_stat_clear_snapshot()")
                rows = connection.execute(_UNDER_WAY, [self._pid, self._pid]).fetchall()
        except Exception as error:
            if isinstance(error.__cause__, psycopg.Error):
                return None
            raise
        for oid, copied in rows:
            if oid in self._before:
                archive, before, own = self._before[oid]
                self._done[archive] = max(self._done[archive], before + min(copied, own))
        done = sum(self._done)
        return min(done / self._total, 0.99) if done else None


# Of another role's session the server shows neither table nor name: then there is no row.
_UNDER_WAY = """
SELECT p.relid, p.bytes_processed
FROM pg_catalog.pg_stat_progress_copy p
JOIN pg_catalog.pg_stat_activity a ON a.pid = p.pid
WHERE p.relid IS NOT NULL AND p.pid <> %s AND p.datname = pg_catalog.current_database()
  AND a.application_name = (SELECT application_name FROM pg_catalog.pg_stat_activity WHERE pid = %s)
"""
