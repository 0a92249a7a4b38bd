"""Which tables' rows go into archives of their own, where several dumps share one snapshot.

Sizes alone decide. It must not know databases or programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MIB = 1024 * 1024
LARGE = 64 * MIB  # a smaller table is dumped sooner than a further pg_dump has read the catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedTable:
    """A table with rows of its own."""

    oid: int
    schema: str
    name: str
    size: int  # bytes of its rows with TOAST
    apart: bool  # whether an archive of its own may hold its rows: not so for an extension's configuration


def choose_shards(tables: Sequence[SizedTable], *, jobs: int, large: int = LARGE) -> tuple[tuple[SizedTable, ...], ...]:
    """Return the tables of each further archive, at most `jobs - 1` of them, none empty; all others stay in the main one.

    The largest table first, each to whoever has least to do; the main archive begins with all that is small. So the
    longest archive is at most a third longer than the best division's (Graham 1969, for jobs alike).
    """
    eligible = sorted((t for t in tables if t.apart and t.size >= large), key=lambda t: (-t.size, t.schema, t.name))
    chosen: list[list[SizedTable]] = [[] for _ in range(jobs)]
    load = [0] * jobs
    load[0] = sum(t.size for t in tables) - sum(t.size for t in eligible)
    for table in eligible:
        lightest = load.index(min(load))
        chosen[lightest].append(table)
        load[lightest] += table.size
    return tuple(tuple(shard) for shard in chosen[1:] if shard)
