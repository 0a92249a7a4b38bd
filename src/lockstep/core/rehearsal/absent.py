"""What of a plan a copy cannot tell, because something is not on it: extensions, schemas of a database service. Pure.

A failure that may come of that is a doubt and no failure: in production it is there, and may be allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from lockstep.core.locking.known import dropped
from lockstep.core.locking.nodes import Relation, choice, every, nodes, relation
from lockstep.core.migration import SqlFile
from lockstep.core.rehearsal.report import Copy
from lockstep.core.rehearsal.trace import FileTrace
from lockstep.core.rehearsal.verdict import Outcome, Problem

RULE = "not-on-copy"

#: Not there: a table, a function, a type or another object, a schema, a feature (what CREATE EXTENSION says), a file.
_NOT_THERE = frozenset({"42P01", "42883", "42704", "3F000", "0A000", "58P01"})
_NOT_ALLOWED = "42501"
_DROPS_ROLE = re.compile(r"\brole .* cannot be dropped")
_NOT_FILLED = "55000"

#: Statements that read or write rows of whatever they name.
_OF_ROWS = frozenset({
    "insert_stmt", "update_stmt", "delete_stmt", "merge_stmt", "select_stmt", "truncate_stmt", "copy_stmt",
    "create_table_as_stmt",
})  # fmt: skip
#: Statements that change the relation that they name first.
_OF_ONE = frozenset({"alter_table_stmt", "rename_stmt", "alter_owner_stmt", "alter_object_schema_stmt", "index_stmt"})


def absent_problems(copy: Copy, files: Iterable[SqlFile]) -> Iterator[Problem]:
    """Return a problem for each statement that needs what the copy does not have, or only a stand-in of."""
    if not (copy.lacking or copy.left_out or copy.stand_ins or copy.unfilled or copy.other_versions):
        return
    for file in files:
        script = file.script()
        for statement, node in zip(script.statements, nodes(script), strict=True):
            if (what := _needed(statement.kind, node, copy)) is not None:
                yield Problem(
                    outcome=Outcome.UNVERIFIED,
                    rule=RULE,
                    message=what,
                    file=file.name,
                    line=statement.line,
                    advice=_advice(copy),
                )


def rowless_problems(copy: Copy, traces: Iterable[FileTrace]) -> Iterator[Problem]:
    """Return a problem for each statement that read, wrote or rewrote a table whose rows were not restored."""
    rowless, unfilled = set(copy.rowless), set(copy.unfilled)
    if not (rowless or unfilled):
        return
    for trace in traces:
        for one in trace.statements:
            relations = {r.relation for r in one.scans} | {r.relation for r in one.written}
            relations |= {r.relation for r in one.rewrites} | set(one.emptied)
            names = {name.replace('"', "") for name in relations}
            if views := sorted(names & unfilled):
                yield Problem(
                    outcome=Outcome.UNVERIFIED,
                    rule=RULE,
                    message=_is_empty(views[0]),
                    file=trace.name,
                    line=one.line,
                )
            if found := sorted(names & rowless):
                yield Problem(
                    outcome=Outcome.UNVERIFIED,
                    rule="reduced-copy",
                    message=f"it works on {found[0]}, whose rows are not on the copy",
                    file=trace.name,
                    line=one.line,
                    advice="give it the time for a whole copy: time_budget under [rehearsal] in lockstep.toml",
                )


def excused(problem: Problem, sqlstate: str | None, copy: Copy, source: str | None = None) -> Problem:
    """Return a failure as it is, or as a doubt where it may come of what the copy lacks, or does not allow.

    `source` is the file of the server's source that reported it: its words may have been left out of the problem.
    """
    if sqlstate in _NOT_THERE and (copy.lacking or copy.left_out or copy.stand_ins or copy.other_versions):
        return replace(problem, outcome=Outcome.UNVERIFIED, rule=RULE, advice=_advice(copy))
    if sqlstate == "42704" and (source == "tablespace.c" or "tablespace" in problem.message):
        message = f"{problem.message}; tablespaces are folders of production's machine, and no copy has them"
        return replace(problem, outcome=Outcome.UNVERIFIED, rule=RULE, message=message, advice=None)
    if sqlstate == "2BP01" and (source == "user.c" or _DROPS_ROLE.search(problem.message)):
        message = (
            f"{problem.message}; other databases of the copy's server (the restored one, and further clones of it) hold "
            "the same objects, so that the copy cannot tell"
        )
        return replace(problem, outcome=Outcome.UNVERIFIED, rule=RULE, message=message, advice=None)
    if sqlstate == _NOT_FILLED and copy.unfilled:
        message = f"{problem.message}; empty on the copy alone: {', '.join(copy.unfilled)}"
        return replace(problem, outcome=Outcome.UNVERIFIED, rule=RULE, message=message)
    if sqlstate == _NOT_ALLOWED and copy.service is not None:
        message = f"{problem.message}; {copy.service} lets its customers do more than PostgreSQL does"
        return replace(problem, outcome=Outcome.UNVERIFIED, rule=RULE, message=message)
    return problem


def _needed(kind: str, node: Any, copy: Copy) -> str | None:
    """What a statement needs, in words; None: nothing that is not there."""
    if kind in {"create_extension_stmt", "alter_extension_stmt", "alter_extension_contents_stmt"}:
        if node.extname in copy.other_versions and kind != "create_extension_stmt":
            return f"it alters the extension {node.extname}, which is of another version on the copy than in production"
        return (
            f"it needs the extension {node.extname}, which is not on this machine"
            if node.extname in copy.lacking
            else None
        )
    named = [relation(one) for one in every(node, "RangeVar")]
    if kind == "drop_stmt":
        objects = dropped(node)
        for one in objects:
            if one.schema is None and one.name in copy.lacking:
                return f"it needs the extension {one.name}, which is not on this machine"
        named += objects
    for one in named:
        if any(_is(one, text) for text in copy.left_out):
            return f"it needs {one.shown}, which is not on the copy: an extension is missing on this machine"
    if kind in _OF_ROWS or kind in _OF_ONE or kind == "refresh_mat_view_stmt":
        for one in named:
            for view in copy.unfilled:
                if _is(one, f"MATERIALIZED VIEW {view}"):
                    return _is_empty(view)
    of_rows = kind in _OF_ROWS
    changed = named if of_rows or (kind == "drop_stmt" and not _mild(node)) else []
    if kind in _OF_ONE and node.HasField("relation"):
        changed = [relation(node.relation)]
    for one in changed:
        if one.schema in copy.stand_ins:
            rows = "has none of its rows" if of_rows else "is not the one of production"
            return f"it works on {one.shown}, which is not in the backup: what stands in for it on the copy {rows}"
    return None


def _is_empty(view: str) -> str:
    return f"it works on the materialized view {view}, which could not be filled on the copy and is empty there"


def _mild(node: Any) -> bool:
    """Whether a DROP is of a policy or a trigger on a relation, which a service allows."""
    return choice(node, "remove_type") in {"OBJECT_POLICY", "OBJECT_TRIGGER"}


def _is(one: Relation, shown: str) -> bool:
    """Whether a relation is what `TABLE public.docs` says."""
    return shown.endswith((f" {one.schema}.{one.name}",) if one.schema else (f".{one.name}",))


def _advice(copy: Copy) -> str | None:
    return f"install on this machine: {', '.join(copy.lacking)}" if copy.lacking else None
