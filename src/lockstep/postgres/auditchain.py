"""The audit log's chain: verified on the server, and looked up where something outside of the database is compared with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from psycopg import sql

from lockstep.core.audit import Anchor, BrokenRow, Chain, Fault, Restore, anchor_details
from lockstep.postgres.audit import log_rows
from lockstep.postgres.connection import Session

# Not by the database's own function, which somebody may have replaced.
_CHECK = """
WITH anchor AS MATERIALIZED (
    SELECT p.id, p.at, p.details FROM {0}.schema_migrations_log p
     WHERE p.event = 'prune' AND p.details ? 'up_to' AND (SELECT min(l.id) FROM {0}.schema_migrations_log l) > 1
     ORDER BY p.id DESC LIMIT 1),
checked AS (
    SELECT l.id, l.at, l.event, l.hash, row_number() OVER (ORDER BY l.id) AS place,
           l.hash = encode(sha256(convert_to(jsonb_build_array(
               l.previous_hash, l.id, (extract(epoch FROM l.at) * 1000000)::bigint, l.event, l.actor,
               l.host, l.run_id, l.orchestrator_url, l.migration_name, l.version, l.duration_ms,
               l.details)::text, 'UTF8')), 'hex') AS own,
           l.id - lag(l.id) OVER (ORDER BY l.id) AS step,
           l.previous_hash = lag(l.hash) OVER (ORDER BY l.id) AS linked,
           CASE WHEN l.id = 1 THEN l.previous_hash = ''
                ELSE EXISTS (SELECT FROM anchor a WHERE a.details->>'up_to' = (l.id - 1)::text
                                AND a.details->>'hash' = l.previous_hash) END AS begins
      FROM {0}.schema_migrations_log l),
faults AS (
    SELECT id, at, event,
           CASE WHEN place = 1 AND NOT begins THEN 'BEGINNING'
                WHEN place > 1 AND step <> 1 THEN 'MISSING'
                WHEN NOT own THEN 'CHANGED'
                WHEN place > 1 AND NOT linked THEN 'UNLINKED' END AS fault
      FROM checked),
broken AS (SELECT * FROM faults WHERE fault IS NOT NULL ORDER BY id LIMIT 1)
SELECT (SELECT count(*) FROM checked), coalesce((SELECT min(id) FROM checked), 0),
       coalesce((SELECT max(id) FROM checked), 0),
       coalesce((SELECT hash FROM checked ORDER BY id DESC LIMIT 1), ''),
       b.id, b.at, b.event, b.fault, a.id, a.at, a.details
  FROM (SELECT) one LEFT JOIN broken b ON true LEFT JOIN anchor a ON true
"""


def verify_chain(session: Session) -> Chain:
    """Recompute every hash of the audit log on the server and compare. Read-only, one statement, so of one moment.

    Raises LedgerMissing, LedgerFiltered.
    """
    statement = sql.SQL(_CHECK).format(sql.Identifier(session.target.ledger_schema))
    length, first, newest, head, id_, at, event, fault, *anchor = log_rows(session, statement, ())[0]
    broken = None
    if not length:
        broken = BrokenRow(number=0, fault=Fault.EMPTY, at=None, event=None)
    elif fault is not None:
        broken = BrokenRow(number=id_, fault=Fault[fault], at=at, event=event)
    return Chain(
        length=length,
        first=first,
        newest=newest,
        head=head,
        broken=broken,
        anchor=anchor_details(anchor[2], anchor[0], anchor[1]) if anchor[2] else None,
    )


def read_hashes(session: Session, numbers: Iterable[int]) -> dict[int, str]:
    """Return the hashes of those rows that are there. Raises LedgerMissing, LedgerFiltered."""
    statement = sql.SQL("SELECT id, hash FROM {}.schema_migrations_log WHERE id = ANY (%s)").format(
        sql.Identifier(session.target.ledger_schema)
    )
    return dict(log_rows(session, statement, (sorted(set(numbers)),)))


def read_end(session: Session) -> tuple[int, str] | None:
    """Return number and hash of the newest row; None when there is none. Raises LedgerMissing, LedgerFiltered."""
    statement = sql.SQL("SELECT id, hash FROM {}.schema_migrations_log ORDER BY id DESC LIMIT 1").format(
        sql.Identifier(session.target.ledger_schema)
    )
    rows = log_rows(session, statement, ())
    return (rows[0][0], rows[0][1]) if rows else None


def read_restores(session: Session) -> tuple[Restore, ...]:
    """Return the restores that the log tells of, those whose rows were pruned included. Raises as the others do."""
    statement = sql.SQL(
        "SELECT event, id, at, previous_hash, details FROM {0}.schema_migrations_log "
        "WHERE event = 'restore' OR (event = 'prune' AND details ? 'restores') ORDER BY id"
    ).format(sql.Identifier(session.target.ledger_schema))
    found: dict[int, Restore] = {}
    for event, number, at, previous, details in log_rows(session, statement, ()):
        for one in (
            _listed(details["restores"])
            if event == "prune"
            else (
                {
                    **(details if isinstance(details, dict) else {}),
                    "number": number,
                    "at": at,
                    "previous_hash": previous,
                },
            )
        ):
            if (restore := _restore(one)) is not None:
                found[restore.number] = restore
    return tuple(found[number] for number in sorted(found))


def _listed(found: object) -> list[Any]:
    return found if isinstance(found, list) else []


def _restore(row: dict[str, Any]) -> Restore | None:
    try:
        at = row["at"]
        return Restore(
            number=int(row["number"]),
            at=at if isinstance(at, datetime) else datetime.fromisoformat(at),
            backup=str(row["backup"]),
            of=str(row["of"]),
            previous_hash=str(row["previous_hash"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None  # written by hand: it explains nothing


def restore_rows(restores: Sequence[Restore]) -> list[dict[str, object]]:
    """Return restores as a `prune` row keeps them."""
    return [
        {
            "number": one.number,
            "at": one.at.isoformat(),
            "backup": one.backup,
            "of": one.of,
            "previous_hash": one.previous_hash,
        }
        for one in restores
    ]


__all__ = ["Anchor", "Chain", "read_end", "read_hashes", "read_restores", "restore_rows", "verify_chain"]
