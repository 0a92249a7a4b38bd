"""Tables: keys, dead rows, statistics, autovacuum, growth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lockstep.core.health.facts import Earlier, Server, Table, TableSize
from lockstep.core.health.findings import Finding, Measure, Severity
from lockstep.core.health.names import number, percent
from lockstep.core.health.thresholds import DAY, HOUR, Thresholds
from lockstep.core.size import format_bytes

_FEW_ROWS = 1_000  # statistics of fewer change no plan


def without_key(tables: Sequence[Table]) -> Iterator[Finding]:
    """Find tables without a primary key. Partitions have their parent's; a published one cannot be changed any more."""
    for table in tables:
        if table.kind == "m" or table.partition or table.has_key:
            continue
        text = f"{format_bytes(table.size)}, about {number(max(table.live, table.rows))} rows"
        severity = Severity.INFO
        if table.published and not table.identified:
            severity = Severity.WARNING
            text += "; it is published and has no replica identity: UPDATE and DELETE fail"
        yield Finding(
            check="no-primary-key",
            severity=severity,
            object=table.sql,
            text=text,
            fix=f"CREATE UNIQUE INDEX CONCURRENTLY … ON {table.sql} (…); then ADD PRIMARY KEY USING INDEX …",
            measures=(Measure(name="size", value=table.size, unit="bytes"),),
        )


def full_of_dead_rows(tables: Sequence[Table], thresholds: Thresholds) -> Iterator[Finding]:
    """Find tables with many dead rows, by the server's own counters: rows are not looked at."""
    for table in tables:
        share = percent(table.dead, table.live + table.dead)
        if table.kind == "p" or table.size < thresholds.small_table or share < thresholds.dead_rows:
            continue
        last = f"last vacuumed {table.vacuumed_at:%Y-%m-%d %H:%M} UTC" if table.vacuumed_at else "never vacuumed"
        yield Finding(
            check="dead-rows",
            severity=Severity.WARNING,
            object=table.sql,
            text=f"{share:.1f} % dead: {number(table.dead)} of {number(table.live + table.dead)} rows in "
            f"{format_bytes(table.size)}; {last}",
            fix=f"VACUUM (ANALYZE, VERBOSE) {table.sql};",
            measures=(
                Measure(name="dead", value=share, unit="percent"),
                Measure(name="dead_rows", value=table.dead, unit="rows"),
                Measure(name="size", value=table.size, unit="bytes"),
            ),
        )


def stale_statistics(tables: Sequence[Table], thresholds: Thresholds) -> Iterator[Finding]:
    """Find tables whose statistics are missing, or older than much of their rows."""
    for table in tables:
        rows = max(table.live, table.rows)
        if table.kind == "p":
            continue  # autovacuum never analyses a partitioned table; its partitions are judged
        changed = percent(table.changed, rows)
        if rows >= _FEW_ROWS and table.analyzed_at is None and not table.ever_counted:
            text = f"never analysed; about {number(rows)} rows"
        elif (
            rows >= _FEW_ROWS
            and table.size >= thresholds.small_table
            and changed >= thresholds.changed_rows
        ):  # fmt: skip
            when = f"{table.analyzed_at:%Y-%m-%d %H:%M} UTC" if table.analyzed_at else "its last ANALYZE"
            text = f"{number(table.changed)} changes since {when}, {changed:.0f} % of its rows"
        else:
            continue
        yield Finding(
            check="stale-statistics",
            severity=Severity.WARNING,
            object=table.sql,
            text=text,
            fix=f"ANALYZE {table.sql};",
            measures=(
                Measure(name="rows", value=rows, unit="rows"),
                Measure(name="changed", value=changed, unit="percent"),
            ),
        )


def unvacuumed(tables: Sequence[Table], thresholds: Thresholds) -> Iterator[Finding]:
    """Find tables for which autovacuum is switched off."""
    for table in tables:
        if table.autovacuum_off:
            yield Finding(
                check="autovacuum-off",
                severity=Severity.WARNING if table.size >= thresholds.small_table else Severity.INFO,
                object=table.sql,
                text=f"autovacuum_enabled = off; {format_bytes(table.size)}",
                fix=f"ALTER TABLE {table.sql} RESET (autovacuum_enabled);",
                measures=(Measure(name="size", value=table.size, unit="bytes"),),
            )


def growing(
    tables: Sequence[Table], sizes: Sequence[TableSize], earlier: Earlier, server: Server, thresholds: Thresholds
) -> Iterator[Finding]:
    """Find tables that grew fast since an earlier backup."""
    seen = (server.now - earlier.taken_at).total_seconds() * 1_000
    if seen < HOUR:
        return
    now = {one.oid: one.size for one in sizes}
    before = {(one.schema, one.name): one for one in earlier.contents.tables}
    for table in tables:
        then = before.get((table.schema, table.name))
        size = now.get(table.oid)
        if then is None or size is None:
            continue
        a_day = (size - then.size) * DAY / seen
        # Of a table that was next to empty any growth is many times its size.
        share = percent(a_day, max(then.size, thresholds.small_table))
        severity = thresholds.growth.judge(share) if a_day >= thresholds.growth_size else None
        if severity is None:
            continue
        rows = max(table.live, table.rows) - then.rows
        yield Finding(
            check="table-growth",
            severity=severity,
            object=table.sql,
            text=f"{format_bytes(round(a_day))} a day: from {format_bytes(then.size)} to {format_bytes(size)}, "
            f"{number(max(rows, 0))} more rows, since the backup of {earlier.taken_at:%Y-%m-%d %H:%M} UTC",
            fix=None,
            measures=(
                Measure(name="growth", value=round(a_day), unit="bytes per day"),
                Measure(name="growth_share", value=share, unit="percent per day"),
                Measure(name="size", value=size, unit="bytes"),
            ),
        )
