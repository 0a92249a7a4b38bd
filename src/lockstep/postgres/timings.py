"""How long things took, out of the audit log: summed up on the server, where the rows are. Read-only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import sql

from lockstep.core.chronicle import Deploy, Ran, Window
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
SELECT run_id, min(at - make_interval(secs => least(greatest(duration_ms, 0), 1e11) / 1000.0)) AS began,
       (extract(epoch FROM max(at) - min(at - make_interval(secs => least(greatest(duration_ms, 0), 1e11) / 1000.0))) * 1000)::bigint,
       count(*) FILTER (WHERE event = 'apply'), count(*) FILTER (WHERE event = 'revert'),
       count(*) FILTER (WHERE event = 'fail')
  FROM {0}.schema_migrations_log
 WHERE run_id IS NOT NULL AND at >= %s AND at < %s
 GROUP BY run_id HAVING bool_or(event IN ('apply', 'revert', 'fail'))
 ORDER BY max(id) DESC LIMIT %s
"""
_WAITS = """
SELECT count(*), count(*) FILTER (WHERE event = 'fail'), coalesce(sum(waited)::bigint, 0), coalesce(max(waited), 0)
  FROM {0}.schema_migrations_log,
       LATERAL (SELECT CASE WHEN jsonb_typeof(details->'waited_ms') = 'number'
                            THEN least((details->>'waited_ms')::numeric, 1e11)::bigint END AS waited) w
 WHERE event IN ('apply', 'revert', 'fail') AND (details ? 'waited_for' OR details ? 'waited_ms')
   AND at >= %s AND at < %s
"""
_BLOCKERS = """
SELECT who, count(DISTINCT id), max(at)
  FROM {0}.schema_migrations_log, jsonb_array_elements_text(CASE jsonb_typeof(details->'waited_on') WHEN 'array' THEN details->'waited_on' END) AS who
 WHERE event IN ('apply', 'revert', 'fail') AND who IS NOT NULL AND at >= %s AND at < %s
 GROUP BY who ORDER BY 2 DESC, 3 DESC, 1 LIMIT %s
"""
_REHEARSED = """
SELECT migration_name, run_id, CASE jsonb_typeof(details->'rehearsed'->'ms') WHEN 'number' THEN least((details->'rehearsed'->>'ms')::numeric, 1e11)::float8 END, duration_ms
  FROM {0}.schema_migrations_log
 WHERE event = 'apply' AND duration_ms IS NOT NULL AND run_id IS NOT NULL
   AND jsonb_typeof(details->'rehearsed'->'ms') = 'number'
 ORDER BY id DESC LIMIT %s
"""
_DEPLOYS = """
SELECT run_id, min(at - make_interval(secs => least(greatest(duration_ms, 0), 1e11) / 1000.0)), max(at),
       (array_agg(actor ORDER BY id DESC) FILTER (WHERE event IN ('apply', 'revert', 'fail')))[1],
       count(*) FILTER (WHERE event = 'apply'), count(*) FILTER (WHERE event = 'revert'),
       count(*) FILTER (WHERE event = 'fail'),
       sum(duration_ms) FILTER (WHERE event = 'backup'), sum(duration_ms) FILTER (WHERE event = 'rehearse'),
       (extract(epoch FROM max(at) FILTER (WHERE event = 'approve') - max(at) FILTER (WHERE event = 'ask')) * 1000)::bigint,
       coalesce(sum(duration_ms) FILTER (WHERE event IN ('apply', 'revert', 'fail')), 0),
       (array_agg(details->'rehearsed' ORDER BY (details->'rehearsed'->>'blocking_ms')::float8 DESC)
          FILTER (WHERE jsonb_typeof(details->'rehearsed'->'blocking_ms') = 'number'))[1],
       (array_agg(details->>'reason' ORDER BY id DESC) FILTER (WHERE event = 'approve'))[1],
       (array_agg(orchestrator_url ORDER BY id DESC) FILTER (WHERE orchestrator_url IS NOT NULL))[1],
       count(*) OVER ()
  FROM {0}.schema_migrations_log
 WHERE run_id IS NOT NULL
 GROUP BY run_id HAVING bool_or(event IN ('apply', 'revert', 'fail'))
 ORDER BY max(id) DESC LIMIT %s
"""
_RAN = """
SELECT migration_name, run_id, at, event, duration_ms, details->'rehearsed', count(*) OVER ()
  FROM {0}.schema_migrations_log
 WHERE event IN ('apply', 'revert') AND migration_name IS NOT NULL AND duration_ms IS NOT NULL
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


def read_deploys(session: Session, environment: str, *, limit: int) -> tuple[tuple[Deploy, ...], int]:
    """Return the newest runs in their parts, and how many older ones there are. Raises as read_timings does."""
    rows = log_rows(session, _of(session, _DEPLOYS), (limit,))
    found = tuple(
        Deploy(
            environment=environment, run_id=r[0], began=r[1], ended=r[2], actor=r[3], applied=r[4], reverted=r[5],
            failed=r[6], backup_ms=_whole(r[7]), rehearsal_ms=_whole(r[8]),
            approval_ms=r[9] if r[9] is not None and r[9] >= 0 else None, working_ms=int(r[10]), window=_window(r[11]),
            reason=r[12], url=r[13],
        )
        for r in rows
    )  # fmt: skip
    return found, rows[0][14] - len(rows) if rows else 0


def read_ran(session: Session, *, limit: int) -> tuple[tuple[Ran, ...], int]:
    """Return the newest migrations that ran, and how many older ones there are. Raises as read_timings does."""
    rows = log_rows(session, _of(session, _RAN), (limit,))
    found = tuple(
        Ran(
            name=r[0], run_id=r[1], at=r[2], event=r[3], ms=r[4], rehearsed_ms=_number(r[5], "ms"), window=_window(r[5])
        )
        for r in rows
    )  # fmt: skip
    return found, rows[0][6] - len(rows) if rows else 0


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _number(document: Any, key: str) -> float | None:
    found = document.get(key) if isinstance(document, dict) else None
    return float(found) if isinstance(found, int | float) else None


def _window(document: Any) -> Window | None:
    """A rehearsal's worst window, as an `apply` keeps it; None where there is none, or it is not of our making."""
    ms = _number(document, "blocking_ms")
    if ms is None:
        return None
    return Window(ms=ms, relation=str(document.get("relation", "")), mode=str(document.get("mode", "")))


def _of(session: Session, text: str) -> sql.Composed:
    return sql.SQL(text).format(sql.Identifier(session.target.ledger_schema))


def _period(since: datetime | None, until: datetime | None) -> tuple[datetime | str, datetime | str]:
    return since or _EVER[0], until or _EVER[1]
