"""How long things took, out of the audit log: summed up on the server, where the rows are. Read-only."""

from __future__ import annotations

from datetime import datetime

from psycopg import sql

from lockstep.core.rehearsal.calibration import Pair
from lockstep.core.trend import InTheWay, RunTime, Timing, Waits
from lockstep.postgres.audit import log_rows
from lockstep.postgres.connection import Session

_TIMINGS = """
SELECT migration_name, (array_agg(version ORDER BY id DESC))[1], event, count(*),
       (array_agg(duration_ms ORDER BY id DESC))[1],
       percentile_disc(0.5) WITHIN GROUP (ORDER BY duration_ms), max(duration_ms), max(at),
       count(*) FILTER (WHERE details ? 'waited_for' OR details ? 'waited_ms')
  FROM {0}.schema_migrations_log
 WHERE event IN ('apply', 'revert') AND migration_name IS NOT NULL AND duration_ms IS NOT NULL
   AND at >= %s AND at < %s
 GROUP BY migration_name, event ORDER BY 1, 3
"""
_RUNS = """
SELECT run_id, min(at - make_interval(secs => coalesce(duration_ms, 0) / 1000.0)) AS began,
       (extract(epoch FROM max(at) - min(at - make_interval(secs => coalesce(duration_ms, 0) / 1000.0))) * 1000)::bigint,
       count(*) FILTER (WHERE event = 'apply'), count(*) FILTER (WHERE event = 'revert'),
       count(*) FILTER (WHERE event = 'fail')
  FROM {0}.schema_migrations_log
 WHERE run_id IS NOT NULL AND at >= %s AND at < %s
 GROUP BY run_id HAVING bool_or(event IN ('apply', 'revert', 'fail'))
 ORDER BY max(id) DESC LIMIT %s
"""
_WAITS = """
SELECT count(*), count(*) FILTER (WHERE event = 'fail'), coalesce(sum((details->>'waited_ms')::bigint), 0),
       coalesce(max((details->>'waited_ms')::bigint), 0)
  FROM {0}.schema_migrations_log
 WHERE event IN ('apply', 'revert', 'fail') AND (details ? 'waited_for' OR details ? 'waited_ms')
   AND at >= %s AND at < %s
"""
_BLOCKERS = """
SELECT who, count(DISTINCT id), max(at)
  FROM {0}.schema_migrations_log, jsonb_array_elements_text(details->'waited_on') AS who
 WHERE event IN ('apply', 'revert', 'fail') AND jsonb_typeof(details->'waited_on') = 'array' AND at >= %s AND at < %s
 GROUP BY who ORDER BY 2 DESC, 3 DESC, 1 LIMIT %s
"""
_REHEARSED = """
SELECT migration_name, run_id, (details->'rehearsed'->>'ms')::float8, duration_ms
  FROM {0}.schema_migrations_log
 WHERE event = 'apply' AND duration_ms IS NOT NULL AND run_id IS NOT NULL
   AND jsonb_typeof(details->'rehearsed'->'ms') = 'number'
 ORDER BY id DESC LIMIT %s
"""
#: Moments before and after every row.
_EVER = ("-infinity", "infinity")


def read_timings(session: Session, since: datetime | None, until: datetime | None) -> tuple[Timing, ...]:
    """Return the times of every migration. `until` is not part of it. Raises LedgerMissing, LedgerFiltered."""
    rows = log_rows(session, _of(session, _TIMINGS), _period(since, until))
    return tuple(
        Timing(
            migration_name=r[0], version=r[1], event=r[2], count=r[3], newest_ms=r[4], median_ms=r[5], worst_ms=r[6],
            newest_at=r[7], waited=r[8],
        )
        for r in rows
    )  # fmt: skip


def read_runs(session: Session, since: datetime | None, until: datetime | None, *, limit: int) -> tuple[RunTime, ...]:
    """Return the newest runs that applied, took back or failed something. Raises as read_timings does."""
    rows = log_rows(session, _of(session, _RUNS), (*_period(since, until), limit))
    return tuple(
        RunTime(run_id=r[0], began=r[1], duration_ms=r[2], applied=r[3], reverted=r[4], failed=r[5]) for r in rows
    )


def read_waits(session: Session, since: datetime | None, until: datetime | None, *, limit: int) -> Waits:
    """Return what waiting came to, and who was in the way most often. Raises as read_timings does."""
    period = _period(since, until)
    count, gave_up, total, worst = log_rows(session, _of(session, _WAITS), period)[0]
    blockers = log_rows(session, _of(session, _BLOCKERS), (*period, limit))
    return Waits(
        migrations=count,
        gave_up=gave_up,
        total_ms=int(total),
        worst_ms=worst,
        blockers=tuple(InTheWay(who=r[0], count=r[1], newest_at=r[2]) for r in blockers),
    )


def read_rehearsed(session: Session, *, limit: int = 50) -> tuple[Pair, ...]:
    """Return the newest migrations that were rehearsed before they ran. Raises as read_timings does."""
    rows = log_rows(session, _of(session, _REHEARSED), (limit,))
    return tuple(Pair(name=r[0], run_id=r[1], rehearsed_ms=r[2], actual_ms=float(r[3])) for r in rows)


def _of(session: Session, text: str) -> sql.Composed:
    return sql.SQL(text).format(sql.Identifier(session.target.ledger_schema))


def _period(since: datetime | None, until: datetime | None) -> tuple[datetime | str, datetime | str]:
    return since or _EVER[0], until or _EVER[1]
