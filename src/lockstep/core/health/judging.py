"""All checks over all that was read: findings, and what could not be judged. The one place that knows every check."""

from __future__ import annotations

from collections.abc import Iterator

from lockstep.core.counting import counted
from lockstep.core.health import activity, indexes, keys, server, tables
from lockstep.core.health.facts import Facts
from lockstep.core.health.findings import Finding, Hidden
from lockstep.core.health.names import listed, number, quoted
from lockstep.core.health.thresholds import DAY, Thresholds

#: A part of the facts -> the checks that cannot be made without it.
NEEDS = {
    "server": ("unsafe-settings", "autovacuum-off", "archiver-failing", "connections", "checksums-off"),
    "databases": ("xid-age", "multixact-age", "checksum-failures"),
    "indexes": ("invalid-index", "duplicate-index", "redundant-index", "unused-index", "unindexed-foreign-key"),
    "constraints": ("unvalidated-constraint", "unindexed-foreign-key"),
    "sequences": ("key-exhaustion",),
    "sequence_values": ("key-exhaustion",),
    "sequence_feeds": ("key-exhaustion",),
    "narrow_columns": ("key-exhaustion",),
    "tables": ("no-primary-key", "dead-rows", "stale-statistics", "autovacuum-off", "table-growth"),
    "sizes": ("table-growth",),
    "triggers": ("disabled-trigger",),
    "sessions": ("idle-in-transaction", "long-transaction"),
    "blocked": ("blocked-session",),
    "prepared": ("prepared-transaction",),
    "replicas": ("replication-lag",),
    "slots": ("replication-slot",),
    "backups": ("backup-age",),
}


def judge(facts: Facts, thresholds: Thresholds, environment: str) -> Iterator[Finding]:
    """Yield every finding, in no order. A part that was not read is passed over."""
    if facts.indexes is not None:
        yield from indexes.invalid_indexes(facts.indexes)
        yield from indexes.doubled_indexes(facts.indexes)
        if facts.server is not None:
            yield from indexes.unused_indexes(facts.indexes, facts.server, thresholds)
        if facts.constraints is not None:
            yield from indexes.unindexed_foreign_keys(facts.constraints, facts.indexes, thresholds)
    if facts.constraints is not None:
        yield from indexes.unvalidated_constraints(facts.constraints)
    if facts.triggers is not None:
        yield from indexes.disabled_triggers(facts.triggers)
    yield from keys.exhausted_keys(facts, thresholds)
    if facts.tables is not None:
        yield from tables.without_key(facts.tables)
        yield from tables.full_of_dead_rows(facts.tables, thresholds)
        yield from tables.stale_statistics(facts.tables, thresholds)
        yield from tables.unvacuumed(facts.tables, thresholds)
        if facts.sizes is not None and facts.earlier is not None and facts.server is not None:
            yield from tables.growing(facts.tables, facts.sizes, facts.earlier, facts.server, thresholds)
    if facts.sessions is not None:
        yield from activity.open_transactions(facts.sessions, thresholds)
    if facts.blocked is not None:
        yield from activity.waiting(facts.blocked, facts.sessions or (), thresholds)
    if facts.prepared is not None:
        yield from activity.prepared_transactions(facts.prepared, thresholds)
    if facts.replicas is not None:
        yield from server.lagging(facts.replicas, thresholds)
    if facts.slots is not None:
        yield from server.troubled_slots(facts.slots, thresholds)
    if facts.databases is not None:
        yield from server.checksum_failures(facts.databases)
    if facts.server is not None:
        yield from server.server_wide(facts.server, thresholds)
        if facts.databases is not None:
            yield from server.old_ids(facts.databases, facts.oldest_tables or (), facts.server, thresholds)
        if facts.backups is not None:
            yield from server.old_backups(facts.backups, environment, facts.server, thresholds)


def unseen(facts: Facts, thresholds: Thresholds) -> Iterator[Hidden]:
    """Yield what the role was not shown, and what the server's counters are too young for."""
    if facts.server is None:
        return
    role = quoted(facts.server.role)
    grant = f"GRANT pg_monitor TO {role};"
    hidden = sum(one.hidden for one in facts.sessions or ())
    if hidden:
        why = f"the state of {counted(hidden, 'session')} of other roles is hidden from {role}"
        yield Hidden(check="idle-in-transaction", why=why, fix=grant)
        yield Hidden(check="long-transaction", why=why, fix=grant)
    if any(one.hidden for one in facts.replicas or ()):
        yield Hidden(check="replication-lag", why=f"where replicas stand is hidden from {role}", fix=grant)
    closed = keys.unreadable_sequences(facts.sequences or ())
    if closed:
        yield Hidden(
            check="key-exhaustion",
            why=f"{role} may not read {number(len(closed))} of {number(len(facts.sequences or ()))} sequences: "
            f"{listed([quoted(one.schema, one.name) for one in closed])}",
            fix=f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {', '.join(sorted({quoted(one.schema) for one in closed}))} "
            f"TO {role};",
        )
    since = facts.server.statistics_since
    if since is None:
        yield Hidden(check="unused-index", why="when the server's counters began is not known", fix=None)
    elif (days := (facts.server.now - since).total_seconds() * 1_000 / DAY) < thresholds.unused_index / DAY:
        yield Hidden(
            check="unused-index",
            why=f"the server's counters began {since:%Y-%m-%d}, {number(days)} days ago: too young to tell "
            f"({number(thresholds.unused_index / DAY)} days)",
            fix=None,
        )
