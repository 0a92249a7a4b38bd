"""Chooses how much of a backup a rehearsal restores, by its size and the time budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from lockstep.config import Settings
from lockstep.core.ledger import TABLES
from lockstep.core.migration import SqlFile
from lockstep.core.rehearsal.closure import touched_tables, words_of
from lockstep.core.rehearsal.tiers import RESTORED, Rows, Tier, fits, reduced
from lockstep.postgres.relations import read_graph
from lockstep.service.filling import StoredBackup
from lockstep.service.restored import Host, restore_shape
from lockstep.storage.backups import Backups
from lockstep.storage.manifest import Manifest
from lockstep.storage.verification import Level

SHAPE = "shape"  # a database without rows, for a look at its catalog
_LOOKED_AT = 5  # earlier backups that may say how fast a restore is here


def choose_rows(
    settings: Settings, backup: StoredBackup, server: Host, files: Sequence[SqlFile], programs: Path | None
) -> Rows:
    """Return whose rows are restored. `files`: all that may run. Raises what `restore_shape` raises."""
    budget = settings.rehearsal.time_budget_ms
    size, contents = database_size(backup.manifest), backup.contents
    if contents is None or fits(size, budget):
        return Rows(tier=Tier.FULL)
    rate = earlier_rate(backup) or RESTORED
    if fits(size, budget, rate):
        return Rows(tier=Tier.FULL)
    restore_shape(backup, server, SHAPE, programs=programs)
    try:
        with psycopg.connect(server.url(SHAPE), autocommit=True) as shape:
            graph = read_graph(shape)
    finally:
        with psycopg.connect(server.url(), autocommit=True) as home:
            home.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(server.name(SHAPE))))
    always = frozenset((settings.project.ledger_schema, name) for name in TABLES)
    touched = touched_tables(graph, words_of(file.text for file in files), always)
    return reduced(contents.tables, touched, always, size=size, budget_ms=budget, rate=rate)


def database_size(manifest: Manifest) -> int:
    """Return the bytes of a backed up database on its server; of an older backup those that are stored, times four."""
    return sum(schema.size for schema in manifest.schema_sizes) or manifest.size * 4


def earlier_rate(backup: StoredBackup) -> float | None:
    """Return the bytes of a database that were restored in a second, the last time that a backup was verified so."""
    backups = Backups(backup.bucket)
    listed = backups.listing(backup.manifest.environment).backups
    for manifest in reversed(listed[-_LOOKED_AT:]):
        for one in reversed(backups.verifications(manifest)):
            if one.level is Level.RESTORED and one.ok and one.duration_ms > 0:
                return database_size(manifest) / one.duration_ms * 1_000
    return None
