"""When an object was last changed, told by the transaction that wrote its row in the catalog.

Every event of the audit log is written by a transaction of its own, and numbers of transactions rise. So an object lies
between two events, whatever the clocks said. After a restore all rows have new numbers: events that share one with
another run tell nothing, and are left out. What a file outside of a transaction made was written by transactions whose numbers
are kept with its progress, and then with its last event. Read-only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from lockstep.postgres.connection import Session, guard


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """One event of the audit log that lies next to a change."""

    id: int
    at: datetime
    event: str
    actor: str
    migration_name: str | None
    run_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dating:
    """Between which two events a change was made."""

    after: Around | None  # the last event before it; None: older than all that can tell
    before: Around | None  # the first event after it; None: since then nothing was logged
    by: Around | None  # the event of the very transaction that made it
    at: datetime | None  # to the second, where the server keeps track (track_commit_timestamp)


def date_changes(session: Session, xids: Iterable[int]) -> dict[int, Dating]:
    """Date the transactions with these numbers. One query. Raises Unreachable."""
    wanted = sorted(set(xids))
    if not wanted:
        return {}
    text = sql.SQL(_SQL).format(
        schema=sql.Identifier(session.target.ledger_schema), xids=sql.Literal([str(xid) for xid in wanted])
    )
    with guard(session.target):
        rows = session.connection.execute(text).fetchall()
    return {
        int(row[0]): Dating(after=_event(row[1:7]), before=_event(row[7:13]), by=_event(row[13:19]), at=row[19])
        for row in rows
    }


def read_touched(session: Session) -> frozenset[tuple[str, str, str]]:
    """Return what statements that cannot be in a transaction made or dropped since the newest recorded state.

    Each: made or gone, schema ("" where the file names none), name. Of indexes alone: nothing else is told by its name.
    Raises Unreachable.
    """
    text = sql.SQL(_TOUCHED).format(schema=sql.Identifier(session.target.ledger_schema))
    with guard(session.target):
        rows = session.connection.execute(text).fetchall()
    return frozenset((str(row[0]), str(row[1]), str(row[2])) for row in rows)


def _event(row: tuple[object, ...]) -> Around | None:
    if row[0] is None:
        return None
    number, at, event, actor, name, run_id = row
    assert isinstance(number, int) and isinstance(at, datetime)
    return Around(
        id=number, at=at, event=str(event), actor=str(actor),
        migration_name=None if name is None else str(name), run_id=None if run_id is None else str(run_id),
    )  # fmt: skip


#: age() counts transactions back from now, so the greater one is the older one.
_SQL = """
WITH log AS MATERIALIZED (
    SELECT l.id, l.at, l.event, l.actor, l.migration_name, l.run_id, age(l.xmin) AS age,
           min(coalesce(l.run_id, '')) OVER same = max(coalesce(l.run_id, '')) OVER same AS tells
      FROM {schema}.schema_migrations_log l WINDOW same AS (PARTITION BY l.xmin::text)),
-- A number that a restored ledger brought along lies outside of what its rows were written by.
kept AS MATERIALIZED (
    SELECT begun.id, begun.at, begun.event, begun.actor, begun.migration_name, begun.run_id, x.xid, age(x.xid::xid) AS age
      FROM (SELECT m.migration_name, age(m.xmin) AS age, m.progress->'xids' AS xids
              FROM {schema}.schema_migrations m WHERE m.progress->'xids' IS NOT NULL
            UNION ALL
            SELECT l.migration_name, age(l.xmin), l.details->'xids'
              FROM {schema}.schema_migrations_log l WHERE l.details->'xids' IS NOT NULL) AS one
     CROSS JOIN LATERAL jsonb_array_elements_text(one.xids) AS x (xid)
     CROSS JOIN LATERAL (SELECT * FROM log WHERE log.tells AND log.event = 'start' AND log.age > age(x.xid::xid)
                            AND log.migration_name = one.migration_name ORDER BY log.age LIMIT 1) AS begun
     WHERE age(x.xid::xid) >= one.age),
wanted AS (SELECT x, age(x::xid) AS age FROM unnest({xids}::text[]) AS x)
SELECT w.x, o.id, o.at, o.event, o.actor, o.migration_name, o.run_id, n.id, n.at, n.event, n.actor, n.migration_name, n.run_id,
       s.id, s.at, s.event, s.actor, s.migration_name, s.run_id,
       CASE WHEN current_setting('track_commit_timestamp') = 'on' THEN pg_xact_commit_timestamp(w.x::xid) END
  FROM wanted w
  LEFT JOIN LATERAL (SELECT * FROM log WHERE tells AND log.age > w.age ORDER BY log.age, log.id DESC LIMIT 1) o ON true
  LEFT JOIN LATERAL (SELECT * FROM log WHERE tells AND log.age < w.age ORDER BY log.age DESC, log.id LIMIT 1) n ON true
  LEFT JOIN LATERAL (SELECT id, at, event, actor, migration_name, run_id FROM log WHERE tells AND log.age = w.age
                     UNION ALL
                     SELECT id, at, event, actor, migration_name, run_id FROM kept WHERE kept.age = w.age
                      ORDER BY id LIMIT 1) s ON true
"""

_TOUCHED = """
WITH since AS (SELECT coalesce((SELECT age(s.xmin) FROM {schema}.schema_migrations_states s ORDER BY s.id DESC LIMIT 1),
                               2147483647) AS age)
SELECT x.one->>0, x.one->>1, x.one->>2
  FROM (SELECT m.progress->'touches' AS touches FROM {schema}.schema_migrations m, since
         WHERE m.progress->'touches' IS NOT NULL AND age(m.xmin) < since.age
        UNION ALL
        SELECT l.details->'touches' FROM {schema}.schema_migrations_log l, since
         WHERE l.details->'touches' IS NOT NULL AND age(l.xmin) < since.age) AS kept
 CROSS JOIN LATERAL jsonb_array_elements(kept.touches) AS x (one)
"""
