"""What a way back loses, counted on clones: what the down drops, and what up and down together do not bring back.

One scan per table that up or down touched, at three moments: before the up, before the down (of what the up made), and
after the down. Positions of sequences are no loss, and neither is what a generated column would compute again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

import psycopg

from lockstep.core.changes import Action, Change, exact_changes
from lockstep.core.fingerprint import Fingerprint
from lockstep.core.ledger import TABLES
from lockstep.core.migration import Folder
from lockstep.core.rehearsal.holding import (
    DROPPED_COLUMN,
    DROPPED_TABLE,
    ROWS_GONE,
    VALUES_OTHER,
    Holding,
    lost,
    unquoted,
)
from lockstep.core.rehearsal.proof import Dropped, Loss
from lockstep.core.rehearsal.trace import FileTrace
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.holdings import SUMMED, Table, left_of, read_holdings, read_tables
from lockstep.service.applying import ApplyRun, open_apply
from lockstep.service.rehearsal.stage import TEMPLATE, Clone, Stage
from lockstep.service.rehearsal.trials import Tried

#: How many times larger a table may be afterwards and still be compared: rows that were updated leave old ones behind.
SWOLLEN = 4
#: Milliseconds that a plan may take to be run once more, for what its tables held in between.
WALK_MS = 300_000
#: Times that it may be run once more for tables of a single migration.
LOOKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What one way back loses."""

    losses: tuple[Loss, ...]
    drops: tuple[Dropped, ...]
    notes: tuple[str, ...]
    untold: tuple[str, ...]  # tables of which it is not known whether they lose values, and why, a line each
    exact: bool  # what was there before the up is there again, row by row


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What an up made, with what it holds right before its down."""

    tables: tuple[Table, ...]
    holdings: Mapping[str, Holding]  # by label
    whole: frozenset[str]  # relations that the up made
    columns: Mapping[str, frozenset[str]]  # columns that it added to other relations


@dataclass(slots=True, kw_only=True)
class Before:
    """What tables held before each migration of a plan, read when it is asked for."""

    stage: Stage
    tried: Tried
    folder: Folder
    run: RunInfo
    include: frozenset[int]
    to_version: int | None = None
    written: frozenset[str] = frozenset()  # tables that the plan wrote to, by the clone's own statistics
    _walked: dict[int, dict[str, Holding]] | None = None  # by number of the migration, of what was touched before it
    _looks: int = 0  # for what the walk did not read
    _touched: dict[int, frozenset[str]] = field(default_factory=dict)

    def touched(self, number: int) -> frozenset[str]:
        """Return the relations that an up wrote to, or of which it dropped something."""
        if number not in self._touched:
            trace = self.tried.files[number]
            found = gone_relations(self.changes(number)) | traced_relations(trace)
            # What commits by itself is seen now and then: any table of the plan may have been written to by it.
            self._touched[number] = found | (self.written if any(one.sampled for one in trace.statements) else found)
        return self._touched[number]

    def changes(self, number: int) -> tuple[Change, ...]:
        """Return the change set of one up."""
        return exact_changes(self.tried.states[number], self.tried.states[number + 1])

    def holdings(self, number: int, relations: frozenset[str]) -> tuple[dict[str, Holding], frozenset[str]]:
        """Return what relations held before an up, and the names of those of which it is not known."""
        earlier = frozenset().union(*(self.touched(one) for one in range(number)))
        found: dict[str, Holding] = {}
        if plain := relations - earlier:
            with looking(self.stage.server.url(TEMPLATE)) as connection:
                tables = read_tables(connection, plain, ledger_schema=self._ledger)
                found |= read_holdings(connection, tables, sums=True, limit=SUMMED)
        later = relations & earlier
        if later & self.touched(number) and (walked := self._walk().get(number)) is not None:
            found |= walked
            later -= self.touched(number)
        return (found | self._looked_at(number, later), frozenset()) if later and self._may_look() else (found, later)

    def _may_look(self) -> bool:
        self._looks += 1
        return self._looks <= LOOKS and sum(file.ms for file in self.tried.files) <= WALK_MS

    def _looked_at(self, number: int, relations: frozenset[str]) -> dict[str, Holding]:
        """Run the plan up to a migration once more, for tables that its down alone touches, or by another name."""
        clone = self.stage.clone()
        with self._applying(clone) as applying:
            for step in applying.plan.steps[:number]:
                applying.apply(step)
        with looking(clone.admin) as connection:
            tables = read_tables(connection, relations, ledger_schema=self._ledger)
            found = read_holdings(connection, tables, sums=True, limit=SUMMED)
        self.stage.drop(clone)
        return found

    def _walk(self) -> dict[int, dict[str, Holding]]:
        """Run the plan once more, and look in between at what several of its migrations touch."""
        if self._walked is not None:
            return self._walked
        self._walked = {}
        count = len(self.tried.files)
        needed: dict[int, frozenset[str]] = {}
        earlier: frozenset[str] = frozenset()
        for number in range(count):
            if both := self.touched(number) & earlier:
                needed[number] = both
            earlier |= self.touched(number)
        if sum(file.ms for file in self.tried.files) > WALK_MS:
            return self._walked
        clone = self.stage.clone()
        with self._applying(clone) as applying:
            for number, step in enumerate(applying.plan.steps[: max(needed, default=-1) + 1]):
                if number in needed:
                    with looking(clone.admin) as connection:
                        tables = read_tables(connection, needed[number], ledger_schema=self._ledger)
                        self._walked[number] = read_holdings(connection, tables, sums=True, limit=SUMMED)
                applying.apply(step)
        self.stage.drop(clone)
        return self._walked

    def _applying(self, clone: Clone) -> AbstractContextManager[ApplyRun]:
        return open_apply(
            clone.settings,
            clone.environment,
            self.folder,
            self.run,
            to_version=self.to_version,
            include=self.include,
        )

    @property
    def _ledger(self) -> str:
        return self.stage.settings.project.ledger_schema


def counted_before(clone: Clone, changes: Iterable[Change]) -> Counted:
    """Count what an up made on a clone, right before its down runs there."""
    made = [one for one in changes if one.action is Action.CREATED]
    whole = frozenset(f"{one.key[1]}.{one.key[3]}" for one in made if one.key[0] == "table")
    columns: dict[str, set[str]] = {}
    for one in made:
        kind, schema, parent, name = one.key
        if kind == "column" and f"{schema}.{parent}" not in whole:
            columns.setdefault(f"{schema}.{parent}", set()).add(name)
    names = whole | columns.keys()
    with looking(clone.admin) as connection:
        tables = tuple(
            table if table.root in names else replace(table, root=table.relation)
            for table in read_tables(connection, names, ledger_schema=clone.settings.project.ledger_schema)
        )
        holdings = read_holdings(connection, tables, sums=False)
    return Counted(
        tables=tables,
        holdings=holdings,
        whole=whole,
        columns={relation: frozenset(some) for relation, some in columns.items()},
    )


def losses_of(
    counted: Counted, clone: Clone, before: Before, number: int, down: FileTrace, after: Fingerprint
) -> Losses:
    """Return what the down of migration `number`, which just ran on a clone, lost together with its up."""
    start, end = before.tried.states[number], before.tried.states[number + 1]
    went = exact_changes(end, after)
    ups = before.touched(number)
    downs = traced_relations(down) | gone_relations(one for one in went if one.key in start.objects)
    # Lockstep writes its ledger in between, and is seen doing so.
    ours = frozenset(f"{clone.settings.project.ledger_schema}.{name}" for name in TABLES)
    ups, downs = ups - ours, downs - ours
    held, unknown = before.holdings(number, ups | downs)
    with looking(clone.admin) as connection:
        left = left_of(connection, counted.tables)
        tables = read_tables(connection, (ups | downs) - unknown, ledger_schema=clone.settings.project.ledger_schema)
        found = read_holdings(connection, tables, sums=True, limit=SWOLLEN * SUMMED)
    losses, drops = _dropped(counted, left)
    more, notes, untold = lost(held, found, _updated((before.tried.files[number], down)))
    losses += more
    exact = not more and all(one.rows == found[name].rows for name, one in held.items() if name in found)
    for name in sorted(unknown):
        untold.append(f"values of {name} were not compared: several migrations of the plan write to it")
        seen = tuple(_seen(name, down))
        losses, exact = [*losses, *seen], exact and not seen
    known = {(one.relation, one.column) for one in drops}
    drops += [
        Dropped(relation=one.relation, column=one.column)
        for one in _gone(went, counted)
        if (one.relation, one.column) not in known
    ]
    return Losses(losses=tuple(losses), drops=tuple(drops), notes=tuple(notes), untold=tuple(untold), exact=exact)


def written_relations(clone: Clone) -> frozenset[str]:
    """Return the tables that were written to since a clone was made, by its statistics. Nobody may be in it."""
    with looking(clone.admin) as connection:
        rows = connection.execute(
            "SELECT schemaname || '.' || relname FROM pg_catalog.pg_stat_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0"
        ).fetchall()
    return frozenset(name for (name,) in rows)


def gone_relations(changes: Iterable[Change]) -> frozenset[str]:
    """Return the tables that went in a change set, or that lost a column in it. Other changes of values are traced."""
    found = set()
    for change in changes:
        kind, schema, parent, name = change.key
        if kind in {"table", "column"} and change.action is Action.DROPPED:
            found.add(f"{schema}.{parent if kind == 'column' else name}")
    return frozenset(found)


def dropped_by(changes: Iterable[Change]) -> tuple[Dropped, ...]:
    """Return the tables and columns that went in a change set. Where others came, they may be the same ones, renamed."""
    gone: list[Dropped] = []
    made: set[str] = set()
    for change in changes:
        kind, schema, parent, name = change.key
        if kind in {"table", "column"} and change.action is not Action.ALTERED:
            relation = f"{schema}.{parent if kind == 'column' else name}"
            if change.action is Action.CREATED:
                made.add(relation if kind == "column" else schema)
            else:
                gone.append(Dropped(relation=relation, column=name if kind == "column" else None))
    whole = {one.relation for one in gone if one.column is None}
    return tuple(
        one
        for one in gone
        if one.relation.partition(".")[0] not in made
        and (one.column is None or (one.relation not in made and one.relation not in whole))
    )


def held_in(connection: psycopg.Connection, drops: Iterable[Dropped], ledger_schema: str) -> tuple[Loss, ...] | None:
    """Count what there is in tables and columns that are to be dropped. None: one is not there by that name, or no table."""
    columns: dict[str, set[str | None]] = {}
    for one in drops:
        columns.setdefault(one.relation, set()).add(one.column)
    losses: list[Loss] = []
    for relation, names in sorted(columns.items()):
        # All that goes with it, whatever table it is a part of.
        found = read_tables(connection, (relation,), ledger_schema=ledger_schema)
        tables = [replace(one, root=relation) for one in found]
        held = read_holdings(connection, tables, sums=False, caught=False).get(relation)
        if held is None:
            return None
        losses += _held(held, names)
    return tuple(losses)


def _held(held: Holding, columns: Collection[str | None]) -> list[Loss]:
    """What goes with a table that is dropped, or with columns of it."""
    found: list[tuple[str | None, int, str]] = [(None, held.rows, DROPPED_TABLE)]
    if None not in columns:
        found = [(name, one.own, DROPPED_COLUMN) for name, one in held.columns.items() if name in columns]
    return [Loss(relation=held.relation, column=name, rows=rows, what=what) for name, rows, what in found if rows]


def traced_relations(trace: FileTrace) -> frozenset[str]:
    """Return the tables that a file was seen to write to, to write anew, or to empty."""
    found: set[str] = set()
    for statement in trace.statements:
        found |= {one.relation for one in statement.written if one.rows}
        found |= {one.relation for one in statement.rewrites} | set(statement.emptied)
    return frozenset(unquoted(one) for one in found)


def losses_of_downs(
    stage: Stage, clone: Clone, downs: Iterable[FileTrace], start: Fingerprint, after: Fingerprint
) -> tuple[tuple[Loss, ...], tuple[str, ...], tuple[str, ...]]:
    """Return what downs that just ran on a clone lost of what there was, notes, and what could not be told.

    A table that was renamed is still the same table, and so are its columns.
    """
    traces = tuple(downs)
    went = gone_relations(exact_changes(start, after))
    relations = frozenset().union(went, *(traced_relations(trace) for trace in traces))
    if any(statement.sampled for trace in traces for statement in trace.statements):
        relations |= written_relations(clone)  # seen now and then
    ledger = clone.settings.project.ledger_schema
    with looking(stage.server.url(TEMPLATE)) as connection:
        before = read_tables(connection, relations, ledger_schema=ledger)
        held = read_holdings(connection, before, sums=True, limit=SUMMED)
    with looking(clone.admin) as connection:
        left = {one.oid: one for one in read_tables(connection, oids=[t.oid for t in before], ledger_schema=ledger)}
        same = [_followed(one, left[one.oid]) for one in before if one.oid in left]
        names = [one.relation for one in before if one.oid not in left]
        new = read_tables(connection, names, ledger_schema=ledger)
        found = read_holdings(connection, [*same, *new], sums=True, limit=SWOLLEN * SUMMED)
    losses, notes, untold = lost(held, found, _updated(traces))
    return tuple(losses), tuple(notes), tuple(untold)


def _followed(before: Table, now: Table) -> Table:
    """A table as it is now, told by the names that it had before."""
    names = {column.number: column.name for column in before.columns}
    columns = tuple(replace(column, label=names.get(column.number, column.name)) for column in now.columns)
    return replace(now, root=before.root, columns=columns)


@contextmanager
def looking(url: str) -> Iterator[psycopg.Connection]:
    """Open a session that reads as one and the same everywhere: texts of values depend on settings."""
    options = (
        "-c search_path=pg_catalog -c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex "
    )
    options += "-c extra_float_digits=1 -c statement_timeout=0 -c jit=off -c row_security=off"
    with psycopg.connect(url, autocommit=True, options=options, application_name="lockstep") as connection:
        yield connection


# -- inside -------------------------------------------------------------------------------------------------------


def _dropped(counted: Counted, left: Mapping[int, frozenset[int]]) -> tuple[list[Loss], list[Dropped]]:
    """What the up made and the down dropped, by identity: what it only renamed is still there."""
    losses: list[Loss] = []
    drops: dict[tuple[str, str | None], Dropped] = {}
    for table in counted.tables:
        holding = counted.holdings[table.root]
        if table.relation in counted.whole or table.root in counted.whole:
            if table.oid not in left and (table.root, None) not in drops:
                drops[table.root, None] = Dropped(relation=table.root)
                if holding.rows:
                    losses.append(Loss(relation=table.root, column=None, rows=holding.rows, what=DROPPED_TABLE))
            continue
        added = counted.columns.get(table.relation) or counted.columns.get(table.root) or frozenset()
        for column in table.columns:
            gone = column.number not in left.get(table.oid, frozenset())
            if column.name not in added or not gone or (table.root, column.name) in drops:
                continue
            drops[table.root, column.name] = Dropped(relation=table.root, column=column.name)
            if own := holding.columns[column.name].own:
                losses.append(Loss(relation=table.root, column=column.name, rows=own, what=DROPPED_COLUMN))
    return losses, list(drops.values())


def _gone(changes: Iterable[Change], counted: Counted) -> Iterator[Dropped]:
    """What the down dropped that the up did not make."""
    tables = {f"{one.key[1]}.{one.key[3]}" for one in changes if one.key[0] == "table" and one.action is Action.DROPPED}
    for relation in sorted(tables - counted.whole):
        yield Dropped(relation=relation)
    for one in changes:
        kind, schema, parent, name = one.key
        relation = f"{schema}.{parent}"
        if kind != "column" or one.action is not Action.DROPPED or relation in tables | counted.whole:
            continue
        if name not in counted.columns.get(relation, frozenset()):
            yield Dropped(relation=relation, column=name)


def _seen(relation: str, down: FileTrace) -> Iterator[Loss]:
    """What a down was seen to do to a table of which nothing else is known."""
    written = [one for statement in down.statements for one in statement.written]
    written = [one for one in written if unquoted(one.relation) == relation]
    if deleted := sum(one.deleted for one in written):
        yield Loss(relation=relation, column=None, rows=deleted, what=ROWS_GONE)
    if updated := sum(one.updated for one in written):
        yield Loss(relation=relation, column=None, rows=updated, what=VALUES_OTHER)


def _updated(traces: Iterable[FileTrace]) -> dict[str, int]:
    found: dict[str, int] = {}
    for trace in traces:
        for statement in trace.statements:
            for one in statement.written:
                name = unquoted(one.relation)
                found[name] = found.get(name, 0) + one.updated
    return found
