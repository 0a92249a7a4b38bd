"""Settings of a throw-away server for trials: what changes WAL, plans and times is as at the source.

Some can only be given when the server starts, others are set and looked at one by one: one that this machine does not
know must not keep the server from starting.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from lockstep.postgres.throwaway import TRIAL

#: Taken over at the start of the server, as they are.
_AT_START = frozenset({"wal_level", "full_page_writes", "wal_log_hints", "wal_compression"})
_LOCKS = frozenset({"max_connections", "max_locks_per_transaction", "max_prepared_transactions"})
_LEAST_LOCKS = 10  # PostgreSQL's own least
_SHARE = 4  # maintenance_work_mem may take one part in so many of this machine's memory


def at_start(recorded: Sequence[str]) -> dict[str, str]:
    """Return the settings to start the server with, from `name=value`s of the source; those that have to be, at least.

    The table of locks has as many entries as at the source, however many sessions that is for: a plan that needs more
    fails here as it would there.
    """
    source = _split(recorded)
    chosen = dict(TRIAL)
    chosen |= {name: value for name, value in source.items() if name in _AT_START}
    if chosen["wal_level"] == "minimal":
        chosen["max_wal_senders"] = "0"
    if source.keys() >= _LOCKS:
        sessions = int(source["max_connections"]) + int(source["max_prepared_transactions"])
        entries = int(source["max_locks_per_transaction"]) * sessions
        chosen["max_locks_per_transaction"] = str(
            max(_LEAST_LOCKS, math.ceil(entries / int(chosen["max_connections"])))
        )
    return chosen


def set_others(connection: psycopg.Connection[Any], recorded: Sequence[str]) -> tuple[str, ...]:
    """Set all others for the whole server. Returns the names of those that it does not take, or not as they are."""
    left = []
    for name, value in _split(recorded).items():
        if name in _AT_START or name in _LOCKS:
            continue
        given = value
        if name == "maintenance_work_mem" and (limit := _memory_limit()) is not None:
            row = connection.execute("SELECT pg_catalog.pg_size_bytes(%s)", (value,)).fetchone()
            if row is not None and row[0] > limit:
                given = f"{limit // 1024}kB"
                left.append(name)
        try:
            connection.execute(sql.SQL("ALTER SYSTEM SET {} TO {}").format(sql.Identifier(name), sql.Literal(given)))
        except psycopg.Error:
            left.append(name)
    connection.execute("SELECT pg_catalog.pg_reload_conf()")
    return tuple(left)


def different(connection: psycopg.Connection[Any], recorded: Sequence[str]) -> tuple[str, ...]:
    """Return the recorded settings that are other ones here, as `name value` with the value here."""
    source = _split(recorded)
    rows = connection.execute(
        "SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings WHERE name = ANY (%s::text[])",
        (list(source),),
    ).fetchall()
    return tuple(f"{name} {value}" for name, value in rows if source[name] != value)


def _split(recorded: Sequence[str]) -> Mapping[str, str]:
    return {name: value for name, _, value in (one.partition("=") for one in recorded)}


def _memory_limit() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _SHARE
    except (ValueError, OSError):
        return None
