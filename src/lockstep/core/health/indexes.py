"""Indexes and constraints: broken, twice there, missing, unused."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from lockstep.core.health.facts import Constraint, Index, Server, Trigger
from lockstep.core.health.findings import Finding, Measure, Severity
from lockstep.core.health.names import quoted
from lockstep.core.health.thresholds import DAY, Thresholds
from lockstep.core.size import format_bytes


def invalid_indexes(indexes: Sequence[Index]) -> Iterator[Finding]:
    """Find indexes that a failed build left behind. One under way is none."""
    for index in indexes:
        if index.valid or index.building:
            continue
        if index.kind == "I":
            text = f"invalid: not every partition of {quoted(index.schema, index.table)} has its index attached"
            fix = (
                "-- for each partition that lacks one: CREATE INDEX CONCURRENTLY …, then\n"
                f"ALTER INDEX {index.sql} ATTACH PARTITION …;"
            )
            severity = Severity.INFO
        else:
            what = "unique index" if index.unique else "index"
            text = f"invalid {what} of {format_bytes(index.size)} on {quoted(index.schema, index.table)}"
            severity = Severity.WARNING
            if re.search(r"_cc(new|old)\d*$", index.name):
                text += "; left by REINDEX CONCURRENTLY"
                fix = f"DROP INDEX CONCURRENTLY {index.sql};"
            else:
                fix = f"REINDEX INDEX CONCURRENTLY {index.sql};  -- or DROP INDEX CONCURRENTLY {index.sql};"
        yield Finding(
            check="invalid-index",
            severity=severity,
            object=index.sql,
            text=text,
            fix=fix,
            measures=(Measure(name="size", value=index.size, unit="bytes"),),
        )


def doubled_indexes(indexes: Sequence[Index]) -> Iterator[Finding]:
    """Find indexes of which one table has two, and those that are the beginning of another one."""
    tables: dict[int, list[Index]] = defaultdict(list)
    for index in indexes:
        if index.valid and not index.attached:
            tables[index.table_oid].append(index)
    for there in tables.values():
        if len(there) > 1:
            yield from _doubled(there)


def _doubled(indexes: list[Index]) -> Iterator[Finding]:
    same: dict[tuple[object, ...], list[Index]] = defaultdict(list)
    for index in indexes:
        same[_identity(index)].append(index)
    gone: set[str] = set()
    for group in same.values():
        # The one that most relies on stays: a constraint's, then the one that is used most.
        keep, *others = sorted(group, key=lambda i: (not _needed(i), not i.unique, -i.scans, i.name))
        for index in others:
            if _needed(index):
                continue
            gone.add(index.name)
            yield _removable(index, "duplicate-index", Severity.WARNING, f"the same as {keep.sql}")
    left = [index for index in indexes if index.name not in gone]
    for index in left:
        longer = next((other for other in left if _begins(index, other)), None)
        if longer is not None:
            yield _removable(index, "redundant-index", Severity.INFO, f"the beginning of {longer.sql}")


def _identity(index: Index) -> tuple[object, ...]:
    """Two indexes with the same one serve the same queries and ensure the same."""
    return (
        index.method, index.keys, tuple(index.columns), tuple(index.classes), tuple(index.collations),
        tuple(index.options), index.expressions, index.predicate,
        index.unique, index.immediate, index.nulls_not_distinct, index.exclusion,
    )  # fmt: skip


def _begins(short: Index, long: Index) -> bool:
    """Whether all that the shorter one serves, the longer one serves, too. One that ensures something is never it."""
    if short is long or short.unique or short.exclusion or _needed(short):
        return False
    if (short.method, short.predicate) != ("btree", long.predicate) or long.method != "btree":
        return False
    if short.expressions is not None:  # their texts do not tell which column of the longer one each is
        return False
    n = short.keys
    if n > long.keys or not set(short.columns[n:]) <= set(long.columns):
        return False
    equal = n == long.keys and set(short.columns) == set(long.columns)
    if equal and not long.unique:
        return False  # the same in all but the order of included columns
    return (
        short.columns[:n] == long.columns[:n]
        and short.classes[:n] == long.classes[:n]
        and short.collations[:n] == long.collations[:n]
        and short.options[:n] == long.options[:n]
    )


def _needed(index: Index) -> bool:
    """Whether something else than queries needs it."""
    return index.constraint or index.referenced or index.replica_identity


def _removable(index: Index, check: str, severity: Severity, text: str) -> Finding:
    how = "DROP INDEX" if index.kind == "I" else "DROP INDEX CONCURRENTLY"  # partitioned: not concurrently
    return Finding(
        check=check,
        severity=severity,
        object=index.sql,
        text=f"{text}; {format_bytes(index.size)}",
        fix=f"{how} {index.sql};",
        measures=(Measure(name="size", value=index.size, unit="bytes"),),
    )


def unused_indexes(indexes: Sequence[Index], server: Server, thresholds: Thresholds) -> Iterator[Finding]:
    """Find indexes that no query used, where the counters are old enough to tell. What ensures something stays."""
    since = server.statistics_since
    if since is None or _age(server.now, since) < thresholds.unused_index:
        return
    for index in indexes:
        if index.scans or not index.valid or index.kind == "I" or index.size < thresholds.small_table:
            continue
        if index.unique or index.exclusion or _needed(index):
            continue
        days = _age(server.now, since) / DAY
        drop = f"DROP INDEX CONCURRENTLY {index.sql};"
        yield Finding(
            check="unused-index",
            severity=Severity.INFO,
            object=index.sql,
            text=f"{format_bytes(index.size)}, no scan here since {since:%Y-%m-%d} ({days:.0f} days)",
            fix=f"-- after a look at standbys: {drop}" if not index.attached else None,
            measures=(
                Measure(name="size", value=index.size, unit="bytes"),
                Measure(name="unused_for", value=round(days, 1), unit="days"),
            ),
        )


def _age(now: datetime, since: datetime) -> float:
    return (now - since).total_seconds() * 1_000


def unvalidated_constraints(constraints: Sequence[Constraint]) -> Iterator[Finding]:
    """Find what was added NOT VALID and left so."""
    for one in constraints:
        if one.valid:
            continue
        table = quoted(one.schema, one.table)
        what = "foreign key" if one.foreign else "constraint"
        yield Finding(
            check="unvalidated-constraint",
            severity=Severity.WARNING,
            object=f"{table}.{quoted(one.name)}",
            text=f"{what} NOT VALID on a table of {format_bytes(one.table_size)}",
            fix=f"ALTER TABLE {table} VALIDATE CONSTRAINT {quoted(one.name)};",
            measures=(Measure(name="table_size", value=one.table_size, unit="bytes"),),
        )


def unindexed_foreign_keys(
    constraints: Sequence[Constraint], indexes: Sequence[Index], thresholds: Thresholds
) -> Iterator[Finding]:
    """Find foreign keys whose columns, in any order, begin no whole and valid index of their table."""
    tables: dict[int, list[Index]] = defaultdict(list)
    for index in indexes:
        tables[index.table_oid].append(index)
    for key in constraints:
        if not key.foreign or not key.columns or _serves(tables[key.table_oid], key):
            continue
        table = quoted(key.schema, key.table)
        columns = ", ".join(quoted(name) for name in key.column_names)
        large = key.table_size >= thresholds.small_table or key.partitioned
        if key.partitioned:
            fix = f"CREATE INDEX ON ONLY {table} ({columns});  -- then CONCURRENTLY on each partition, and ATTACH"
        else:
            fix = f"CREATE INDEX CONCURRENTLY ON {table} ({columns});"
        yield Finding(
            check="unindexed-foreign-key",
            severity=Severity.WARNING if large else Severity.INFO,
            object=f"{table}.{quoted(key.name)}",
            text=f"({columns}) refers to {key.references}; the table has {format_bytes(key.table_size)}",
            fix=fix,
            measures=(Measure(name="table_size", value=key.table_size, unit="bytes"),),
        )


def _serves(indexes: Iterable[Index], key: Constraint) -> bool:
    wanted = set(key.columns or ())
    # The search for referring rows never looks for NULL, so an index without them serves it as well.
    whole = {None, *(f"({quoted(name)} IS NOT NULL)" for name in key.column_names)}
    return any(
        index.valid and index.predicate in whole and _leading(index, len(wanted)) == wanted
        for index in indexes
        if index.method == "btree" or (index.method == "hash" and len(wanted) == 1)
    )


def _leading(index: Index, count: int) -> set[int]:
    return set(index.columns[: min(count, index.keys)])


def disabled_triggers(triggers: Sequence[Trigger]) -> Iterator[Finding]:
    """Find triggers that never fire, and foreign keys that are not kept for want of theirs."""
    for one in triggers:
        table = quoted(one.schema, one.table)
        yield Finding(
            check="disabled-trigger",
            severity=Severity.WARNING,
            object=f"{table}.{quoted(one.name)}",
            text="the foreign key's triggers are off: it is not kept" if one.foreign_key else "the trigger is off",
            fix=f"ALTER TABLE {table} ENABLE TRIGGER {'ALL' if one.foreign_key else quoted(one.name)};",
        )
