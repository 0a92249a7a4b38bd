"""What of a plan a copy cannot tell, because extensions are missing on its server and objects with them. Pure.

A failure that may come of that is a doubt and no failure: in production the extension is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from lockstep.core.locking.known import dropped
from lockstep.core.locking.nodes import Relation, every, nodes, relation
from lockstep.core.migration import SqlFile
from lockstep.core.rehearsal.report import Copy
from lockstep.core.rehearsal.verdict import Outcome, Problem

RULE = "lacks-extension"

#: Not there: a table, a function, a type or another object, a schema, a feature (what CREATE EXTENSION says).
_NOT_THERE = frozenset({"42P01", "42883", "42704", "3F000", "0A000", "58P01"})


def lacking_problems(copy: Copy, files: Iterable[SqlFile]) -> Iterator[Problem]:
    """Return a problem for each statement that names an extension, or a relation, that the copy does not have."""
    if not copy.lacking and not copy.left_out:
        return
    gone = {tuple(name.rpartition(" ")[2].split(".", 1)): name for name in copy.left_out if " " in name}
    for file in files:
        script = file.script()
        for statement, node in zip(script.statements, nodes(script), strict=True):
            for what in _named(statement.kind, node, copy.lacking, gone):
                yield Problem(
                    outcome=Outcome.UNVERIFIED,
                    rule=RULE,
                    message=f"it needs {what}, which is not on the copy's server",
                    file=file.name,
                    line=statement.line,
                    advice=_advice(copy),
                )
                break


def excused(problem: Problem, sqlstate: str | None, copy: Copy) -> Problem:
    """Return a failure as it is, or as a doubt where it may come of what the copy lacks."""
    if sqlstate not in _NOT_THERE or not (copy.lacking or copy.left_out):
        return problem
    return replace(problem, outcome=Outcome.UNVERIFIED, rule=RULE, advice=_advice(copy))


def _named(kind: str, node: Any, lacking: tuple[str, ...], gone: dict[tuple[str, ...], str]) -> Iterator[str]:
    if kind in {"create_extension_stmt", "alter_extension_stmt", "alter_extension_contents_stmt"}:
        if node.extname in lacking:
            yield f"the extension {node.extname}"
        return
    relations = [relation(one) for one in every(node, "RangeVar")]
    if kind == "drop_stmt":
        named = dropped(node)
        yield from (f"the extension {one.name}" for one in named if one.schema is None and one.name in lacking)
        relations += named
    yield from (gone[key] for one in relations for key in gone if _is(one, key))


def _is(one: Relation, key: tuple[str, ...]) -> bool:
    return one.name == key[-1] and one.schema in {None, key[0]}


def _advice(copy: Copy) -> str | None:
    return f"install on this machine: {', '.join(copy.lacking)}" if copy.lacking else None
