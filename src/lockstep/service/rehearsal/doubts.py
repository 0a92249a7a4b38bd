"""What a rehearsal cannot try: statements that leave their database, by their text and by the copy's catalog."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from lockstep.core.locking.nodes import every, nodes, strings
from lockstep.core.migration import SqlFile
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
    routine_of,
    runs_later,
    shown_name,
)
from lockstep.core.rehearsal.trace import FileTrace, StatementTrace
from lockstep.core.rehearsal.verdict import Outcome, Problem
from lockstep.errors import MigrationFileError
from lockstep.postgres.reaching import Exits, Name, read_exits
from lockstep.service.rehearsal.stage import Clone

_DATA = frozenset({"insert_stmt", "update_stmt", "delete_stmt", "merge_stmt", "copy_stmt"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubts:
    """What of a plan leaves its database."""

    ups: tuple[Problem, ...]  # one per statement and way out
    downs: Mapping[str, str]  # migrations whose down does, and how

    def held(self, plan: Plan, *, isolated: bool = True) -> str | None:
        """The first step that is not to be run on a copy: one with a doubt that its file does not accept.

        On a server that is not isolated what is accepted would reach what it says: there none is run.
        """
        doubted = {(one.file, one.rule) for one in self.ups}
        for step in plan.steps:
            accepted = {one.rule for one in step.migration.up.directives.allow}
            if any(file == step.name and (rule not in accepted or not isolated) for file, rule in doubted):
                return step.name
        return None


def doubts_of(clone: Clone, plan: Plan, traces: Iterable[FileTrace] = ()) -> Doubts:
    """Return the doubts about a plan's statements. Read-only.

    Before a trial, the text and the catalog tell what is certain to be there; what the plan itself makes is taken from
    its text. After trial A its `traces` know besides what views and triggers reached.
    """
    with psycopg.connect(clone.admin, autocommit=True) as connection:
        exits = read_exits(connection)
    ups = [step.migration.up for step in plan.steps]
    exits = with_made(exits, ups)
    routines = reaching_routines(exits.routines)
    traced = {trace.name: {one.index: one for one in trace.statements} for trace in traces}
    downs = {}
    for step in plan.steps:
        down = step.migration.down
        if down is not None and (ways := list(_of_file(down, {}, exits, routines))):
            downs[step.name] = f"{ways[0].file}:{ways[0].line}: {ways[0].message}"
    return Doubts(
        ups=tuple(one for file in ups for one in _of_file(file, traced.get(file.name, {}), exits, routines)),
        downs=downs,
    )


def doubts_of_files(clone: Clone, files: Iterable[SqlFile]) -> tuple[Problem, ...]:
    """Return what of some files leaves their database, without what they say is accepted. Read-only."""
    with psycopg.connect(clone.admin, autocommit=True) as connection:
        exits = read_exits(connection)
    routines = reaching_routines(exits.routines)
    return tuple(
        one
        for file in files
        for one in _of_file(file, {}, exits, routines)
        if one.rule not in {allowed.rule for allowed in file.directives.allow}
    )


def _of_file(
    file: SqlFile, traced: Mapping[int, StatementTrace], exits: Exits, routines: dict[str, str]
) -> Iterator[Problem]:
    try:
        script = file.script()
    except MigrationFileError:
        return  # a down that does not parse; its trial says so
    for index, (statement, node) in enumerate(zip(script.statements, nodes(script), strict=True)):
        ways = [*reaches(statement.kind, node), *_by_catalog(statement.kind, node, traced.get(index), exits, routines)]
        told: set[str] = set()
        for way in ways:
            if way.rule not in told:
                told.add(way.rule)
                yield _problem(way, file.name, statement.line)


def with_made(exits: Exits, files: Iterable[SqlFile]) -> Exits:
    """The catalog's exits with the routines and triggers that files make."""
    routines, triggers = list(exits.routines), dict(exits.triggers)
    for file in files:
        script = file.script()
        for statement, node in zip(script.statements, nodes(script), strict=True):
            if statement.kind == "create_function_stmt":
                routines.append(routine_of(node, script.text[statement.start : statement.end]))
            elif statement.kind == "create_trig_stmt":
                key = (node.relation.schemaname, node.relation.relname)
                triggers[key] = (*triggers.get(key, ()), shown_name(strings(node.funcname)))
    return replace(exits, routines=tuple(routines), triggers=triggers)


def _problem(way: Reach, file: str, line: int) -> Problem:
    return Problem(
        outcome=Outcome.UNVERIFIED,
        rule=way.rule,
        message=way.message,
        file=file,
        line=line,
        advice="give it a file of its own; accepted there, it runs on the copy like any other, and must bear that:\n"
        f'-- lockstep: allow={way.rule} reason="…"',
    )


def _by_catalog(
    kind: str, node: Any, seen: StatementTrace | None, exits: Exits, routines: dict[str, str]
) -> Iterator[Reach]:
    if runs_later(kind):
        return
    leads = exits.refreshed if kind == "refresh_mat_view_stmt" else exits.foreign
    for one in every(node, "RangeVar"):
        for (schema, name), foreign in leads.items():
            if name == one.relname and one.schemaname in ("", schema):
                through = "" if foreign == f"{schema}.{name}" else f" through {schema}.{name}"
                yield _foreign(foreign, through)
    if seen is not None:
        for lock in seen.locks:
            if lock.kind == "foreign table":
                yield _foreign(lock.relation, "")
    yield from _routines(kind, node, routines)
    for written in _written(kind, node, seen):
        for function in _triggers(exits, written):
            if function in routines:
                table = ".".join(filter(None, written))
                yield Reach(rule=OUTSIDE, message=f"a trigger of {table} runs {function}, which {routines[function]}")


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
