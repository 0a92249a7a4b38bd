"""What a rehearsal cannot try: statements that leave their database, by their text and by the copy's catalog."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import psycopg

from lockstep.core.locking.nodes import every, nodes
from lockstep.core.planner import Plan
from lockstep.core.rehearsal.outside import (
    FOREIGN,
    OUTSIDE,
    Reach,
    called,
    calls_any,
    code_of,
    reaches,
    reaching_routines,
    runs_later,
)
from lockstep.core.rehearsal.trace import FileTrace, StatementTrace
from lockstep.core.rehearsal.verdict import Outcome, Problem
from lockstep.postgres.reaching import Exits, Name, read_exits
from lockstep.service.rehearsal.stage import Clone

_DATA = frozenset({"insert_stmt", "update_stmt", "delete_stmt", "merge_stmt", "copy_stmt"})


def doubts_of(clone: Clone, plan: Plan, traces: Iterable[FileTrace] = ()) -> tuple[Problem, ...]:
    """Return a problem per statement and way out. `traces` is what trial A saw: it knows what views and triggers reached.

    The clone is looked at as trial A left it, so that what the plan itself makes is known. Read-only.
    """
    with psycopg.connect(clone.admin, autocommit=True) as connection:
        exits = read_exits(connection)
    routines = reaching_routines(exits.routines)
    traced = {trace.name: {one.index: one for one in trace.statements} for trace in traces}
    found: list[Problem] = []
    for step in plan.steps:
        script = step.migration.up.script()
        for index, (statement, node) in enumerate(zip(script.statements, nodes(script), strict=True)):
            seen = traced.get(step.name, {}).get(index)
            ways = [*reaches(statement.kind, node), *_by_catalog(statement.kind, node, seen, exits, routines)]
            told: set[str] = set()
            for way in ways:
                if way.rule not in told:
                    told.add(way.rule)
                    found.append(_problem(way, step.name, statement.line))
    return tuple(found)


def _problem(way: Reach, file: str, line: int) -> Problem:
    return Problem(
        outcome=Outcome.UNVERIFIED,
        rule=way.rule,
        message=way.message,
        file=file,
        line=line,
        advice="give it a file of its own, and accept there that it is not tried:\n"
        f'-- lockstep: allow={way.rule} reason="…"',
    )


def _by_catalog(
    kind: str, node: Any, seen: StatementTrace | None, exits: Exits, routines: dict[str, str]
) -> Iterator[Reach]:
    if runs_later(kind):
        return
    for one in every(node, "RangeVar"):
        for (schema, name), table in exits.foreign.items():
            if name == one.relname and one.schemaname in ("", schema):
                through = "" if table == f"{schema}.{name}" else f" through {schema}.{name}"
                yield _foreign(table, through)
    if seen is not None:
        for lock in seen.locks:
            if lock.kind == "foreign table":
                yield _foreign(lock.relation, "")
    yield from _routines(kind, node, routines)
    for name in _written(kind, node, seen):
        for function in _triggers(exits, name):
            if function in routines:
                yield Reach(
                    rule=OUTSIDE, message=f"a trigger of {'.'.join(name)} runs {function}, which {routines[function]}"
                )


def _foreign(table: str, through: str) -> Reach:
    return Reach(
        rule=FOREIGN, message=f"it reaches the foreign table {table}{through}, whose server the copy cannot reach"
    )


def _routines(kind: str, node: Any, routines: dict[str, str]) -> Iterator[Reach]:
    for names in called(node):
        for shown, what in routines.items():
            schema, name = shown.rsplit(".", 1)
            if names[-1] == name and (len(names) == 1 or names[-2] == schema):
                yield Reach(rule=OUTSIDE, message=f"it calls {shown}, which {what}")
    if kind == "do_stmt" and (inside := calls_any(code_of(node), routines)):
        yield Reach(rule=OUTSIDE, message=f"its code calls {inside}, which {routines[inside]}")


def _written(kind: str, node: Any, seen: StatementTrace | None) -> list[Name]:
    """The tables whose triggers a statement fires."""
    names: list[Name] = []
    if kind in _DATA and node.HasField("relation"):
        names.append((node.relation.schemaname, node.relation.relname))
    if seen is not None:
        for one in seen.written:
            schema, _, name = one.relation.rpartition(".")
            if name not in {other for _, other in names}:
                names.append((schema, name))
    return names


def _triggers(exits: Exits, wanted: Name) -> Iterator[str]:
    for (schema, name), functions in exits.triggers.items():
        if name == wanted[1] and wanted[0] in ("", schema):
            yield from functions
