"""Keys and sequences that run out of numbers, and when they will."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lockstep.core.health.facts import Earlier, Facts, NarrowColumn, Server
from lockstep.core.health.facts import Sequence as SequenceFacts
from lockstep.core.health.findings import Finding, Measure
from lockstep.core.health.names import number, percent, quoted
from lockstep.core.health.thresholds import DAY, HOUR, Thresholds, worst

_LARGEST = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}
_SHORTEST_FOR_RATE = HOUR  # less tells nothing about a day
_SHORTEST_FOR_DAYS = DAY  # the days left weigh only when the rate was seen for as long


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How fast numbers are used."""

    per_day: float
    seen_ms: float  # for how long
    source: str  # in words


def exhausted_keys(facts: Facts, thresholds: Thresholds) -> Iterator[Finding]:
    """Find sequences near the smallest end there is: their own, their column's type, or a referring column's."""
    if facts.sequences is None or facts.sequence_values is None or facts.server is None:
        return
    values = {one.oid: one.value for one in facts.sequence_values}
    earlier = _earlier_values(facts.earlier)
    # The narrowest comes first and is the one that counts.
    narrow = {(one.table_oid, one.attnum): one for one in reversed(facts.narrow_columns or ())}
    for sequence in facts.sequences:
        value = values.get(sequence.oid)
        if value is None or sequence.cycles:
            continue
        referring = narrow.get((sequence.table_oid or 0, sequence.attnum or 0))
        name, limit, ended_by = _end(sequence, referring)
        first = sequence.minimum if sequence.increment > 0 else sequence.maximum
        used = percent(abs(value - first), abs(limit - first))
        rate = _rate(sequence, value, facts.server, facts.earlier, earlier)
        days = _days(abs(limit - value), rate)
        seen = rate is not None and rate.seen_ms >= _SHORTEST_FOR_DAYS
        severity = worst(thresholds.key_used.judge(used), thresholds.key_days_left.judge(days if seen else None))
        if severity is None:
            continue
        text = f"{used:.1f} % of {number(abs(limit))} used ({ended_by})"
        if rate is not None and days is not None:
            text += f"; {number(days)} days left at {number(rate.per_day)} a day, {rate.source}"
        else:
            text += "; how fast is not known"
        yield Finding(
            check="key-exhaustion",
            severity=severity,
            object=name,
            text=text,
            fix=_fix(sequence, referring, ended_by),
            measures=(
                Measure(name="used", value=used, unit="percent"),
                Measure(name="last_value", value=value, unit="number"),
                Measure(name="limit", value=limit, unit="number"),
                Measure(name="days_left", value=None if days is None else round(days, 1), unit="days"),
                Measure(name="rate", value=None if rate is None else round(rate.per_day, 1), unit="per day"),
            ),
        )


def _end(sequence: SequenceFacts, referring: NarrowColumn | None) -> tuple[str, int, str]:
    """What the finding is about, its last number, and what ends there in words."""
    own = quoted(sequence.schema, sequence.name)
    up = sequence.increment > 0
    ends = []
    name = own
    if sequence.table_schema and sequence.table and sequence.column:
        name = quoted(sequence.table_schema, sequence.table, sequence.column)
        types = [(sequence.type, f"column of type {sequence.type}")]
        if referring is not None:
            types.append((referring.type, f"{referring.name}, which refers to it, is {referring.type}"))
        for type_, what in types:
            if type_ in _LARGEST:
                ends.append((_LARGEST[type_] if up else -_LARGEST[type_] - 1, what))
    ends.append((sequence.maximum if up else sequence.minimum, f"sequence {own}"))
    # Of equal ends the column's comes first: to alter the sequence alone would not help.
    limit, ended_by = min(ends, key=lambda end: abs(end[0]))
    return name, limit, ended_by


def _earlier_values(earlier: Earlier | None) -> dict[tuple[str, str], int | None]:
    if earlier is None:
        return {}
    return {(one.schema, one.name): one.last_value for one in earlier.contents.sequences}


def _rate(
    sequence: SequenceFacts,
    value: int,
    server: Server,
    earlier: Earlier | None,
    values: dict[tuple[str, str], int | None],
) -> Rate | None:
    """By an earlier backup; else by the rows inserted since the counters began, one number each."""
    before = values.get((sequence.schema, sequence.name))
    if earlier is not None and before is not None:
        seen = (server.now - earlier.taken_at).total_seconds() * 1_000
        used = (value - before) * (1 if sequence.increment > 0 else -1)
        if seen >= _SHORTEST_FOR_RATE and used >= 0:
            source = f"as since the backup of {earlier.taken_at:%Y-%m-%d %H:%M} UTC"
            return Rate(per_day=used * DAY / seen, seen_ms=seen, source=source)
    since = server.statistics_since
    if since is not None and sequence.inserted:
        seen = (server.now - since).total_seconds() * 1_000
        if seen >= _SHORTEST_FOR_RATE:
            used = sequence.inserted * abs(sequence.increment)
            source = f"as rows came since {since:%Y-%m-%d}"
            return Rate(per_day=used * DAY / seen, seen_ms=seen, source=source)
    return None


def _days(left: int, rate: Rate | None) -> float | None:
    return left / rate.per_day if rate is not None and rate.per_day > 0 else None


def _fix(sequence: SequenceFacts, referring: NarrowColumn | None, ended_by: str) -> str:
    own = quoted(sequence.schema, sequence.name)
    by_column = ended_by.startswith("column ")
    if by_column and sequence.type != "bigint" and sequence.table_schema and sequence.table and sequence.column:
        table = quoted(sequence.table_schema, sequence.table)
        return (
            f"-- ALTER TABLE {table} ALTER COLUMN {quoted(sequence.column)} TYPE bigint; rewrites the table while all wait.\n"
            "-- On a large one: a new bigint column, filled in batches, then swapped (docs/how-to/large-tables.md)."
        )
    if referring is not None and ended_by.startswith(referring.name):
        return f"-- make {referring.name} bigint, as the column is that it refers to"
    return (
        f"ALTER SEQUENCE {own} AS bigint NO MAXVALUE;"
        if sequence.increment > 0
        else f"ALTER SEQUENCE {own} NO MINVALUE;"
    )


def unreadable_sequences(sequences: Sequence[SequenceFacts]) -> list[SequenceFacts]:
    """Return the sequences whose value the role may not ask for; those that cycle never end."""
    return [one for one in sequences if not one.readable and not one.cycles]
