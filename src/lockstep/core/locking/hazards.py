"""Hazards: statements that are correct and keep others waiting for long, each with the safe way to write it.

The findings of `validate` about locks. A table that the file itself makes is never a hazard: nobody else knows it yet.
docs/reference/rules.md describes every rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lockstep.core import privacy
from lockstep.core.findings import Finding, Severity
from lockstep.core.locking import table_hazards
from lockstep.core.locking.column_rewrites import backfill
from lockstep.core.locking.known import Known, dropped
from lockstep.core.locking.locks import RelationLock, statement_locks
from lockstep.core.locking.nodes import choice, every, nodes, quote, relation, strings
from lockstep.core.locking.rewrites import each_concurrently, in_files, index, refresh, reindex
from lockstep.core.locking.table_hazards import Hazard
from lockstep.core.migration import SqlFile
from lockstep.core.statements import Statement
from lockstep.core.text import excerpt, line_and_column

#: Every rule, with what it finds. Names that the linter squawk has, too, take over its rule.
RULES = {
    **table_hazards.RULES,
    "require-concurrent-index-creation": "CREATE INDEX blocks writes while it builds",
    "require-concurrent-index-deletion": "DROP INDEX locks the table for reads and writes",
    "require-concurrent-reindex": "REINDEX blocks writes, and reads that could use the index",
    "dropping-foreign-key": "a foreign key goes together with other work: the referenced table is locked, too",
    "table-rewrite": "the whole table is written anew under a lock that blocks reads and writes",
    "blocking-refresh": "REFRESH MATERIALIZED VIEW blocks its readers while it computes",
    "lock-table": "LOCK TABLE blocks until the end of the file",
    "several-strong-locks": "one transaction locks several tables that others use",
    "slow-work-under-lock": "a data change runs while a lock blocks others",
    "enum-value-in-same-transaction": "a new enum value is used in the transaction that adds it",
}


@dataclass(slots=True, kw_only=True)
class _Transaction:
    """What one file's transaction holds so far."""

    held: dict[str, RelationLock] = field(default_factory=dict)  # strong locks on tables that others use
    told: bool = False  # several-strong-locks was said
    values: dict[str, str] = field(default_factory=dict)  # enum value added here -> its type
    types: set[str] = field(default_factory=set)  # types made here


def find_hazards(file: SqlFile, known: Known) -> list[Finding]:
    """Return the hazards of one file, in order, without those that it allows. `known` is what earlier files tell."""
    known.next_file()
    script = file.script()
    transactional = file.transactional
    allowed = {one.rule for one in file.directives.allow}
    transaction = _Transaction()
    found: list[Finding] = []
    for statement, node in zip(script.statements, nodes(script), strict=True):
        if not transactional:
            known.unvalidated.clear()  # each statement is a transaction of its own
        hazards = list(_of_statement(statement.kind, node, known, alone=len(script.statements) == 1))
        if transactional:
            hazards += _of_transaction(statement, node, known, transaction)
        known.learn(statement.kind, node)
        found += [_finding(file, statement, one) for one in hazards if one.rule not in allowed]
    return found


def _finding(file: SqlFile, statement: Statement, hazard: Hazard) -> Finding:
    line, column = line_and_column(file.text, statement.start)
    return Finding(
        severity=Severity.WARNING,
        rule=hazard.rule,
        file=file.name,
        line=line,
        column=column,
        message=hazard.message,
        hint=privacy.in_words(f"{hazard.advice}:\n{in_files(hazard.files)}" if hazard.files else hazard.advice),
        excerpt=excerpt(file.text, line, column),
    )


def _of_statement(kind: str, node: Any, known: Known, *, alone: bool) -> Iterator[Hazard]:
    if kind == "alter_table_stmt":
        yield from table_hazards.of_alter(node, known, alone=alone)
    elif kind == "drop_stmt":
        yield from _drop(node, known, alone=alone)
    elif kind == "index_stmt" and not node.concurrent and not known.is_new(relation(node.relation)):
        table = relation(node.relation).shown
        yield Hazard(
            rule="require-concurrent-index-creation",
            message=f"CREATE INDEX blocks writes to {table} until it is built",
            advice="build it beside the writes, in a file of its own",
            files=index(node),
        )
    elif kind == "reindex_stmt":
        yield from _reindex(node, known)
    elif kind == "refresh_mat_view_stmt" and not node.concurrent and not known.is_new(relation(node.relation)):
        view = relation(node.relation)
        yield Hazard(
            rule="blocking-refresh",
            message=f"REFRESH MATERIALIZED VIEW blocks reads of {view.shown} while it computes",
            advice="refresh it beside its readers",
            files=refresh(view),
        )
    elif kind == "lock_stmt":
        yield from _lock(node, known)
    elif kind in ("vacuum_stmt", "cluster_stmt"):
        yield from _rewritten(kind, node, known)


def _drop(node: Any, known: Known, *, alone: bool) -> Iterator[Hazard]:
    kind = choice(node, "remove_type")
    names = [one for one in dropped(node) if not known.is_new(one)]
    if kind == "OBJECT_INDEX" and not node.concurrent:
        names = [one for one in names if not (t := known.indexes.get(known.key(one))) or not known.is_new(t)]
        if names:
            tables = {t.shown if (t := known.indexes.get(known.key(one))) else "its table" for one in names}
            yield Hazard(
                rule="require-concurrent-index-deletion",
                message=f"DROP INDEX locks {' and '.join(sorted(tables))} for reads and writes",
                advice="drop it beside them, in a file of its own",
                files=each_concurrently("DROP INDEX", names),
            )
    elif kind == "OBJECT_TABLE" and not alone:
        gone = {known.key(one) for one in dropped(node)}
        for (owner, name), key in known.foreign_keys.items():
            stays = known.key(key.referenced) not in gone and not known.is_new(key.referenced)
            if owner in gone and owner not in known.new and stays:
                yield table_hazards.dropped_key(key, name, f"DROP TABLE {key.table.shown}")


def _reindex(node: Any, known: Known) -> Iterator[Hazard]:
    if any(one.def_elem.defname == "concurrently" for one in node.params):
        return
    what = node.name or (relation(node.relation).shown if node.HasField("relation") else "the database")
    table = known.indexes.get(known.key(relation(node.relation))) if node.HasField("relation") else None
    if node.HasField("relation") and (known.is_new(relation(node.relation)) or (table and known.is_new(table))):
        return
    yield Hazard(
        rule="require-concurrent-reindex",
        message=f"REINDEX of {what} blocks writes, and reads that could use the index",
        advice="rebuild it beside them, in a file of its own",
        files=reindex(node),
    )


def _lock(node: Any, known: Known) -> Iterator[Hazard]:
    locks = [one for one in statement_locks("lock_stmt", node, known)[0] if one.felt]
    if locks:
        tables = ", ".join(one.relation for one in locks)
        weaker = locks[0].mode.blocks == "reads and writes"
        yield Hazard(
            rule="lock-table",
            message=f"LOCK TABLE blocks {locks[0].mode.blocks} of {tables} until the file is done",
            advice="where it is enough to keep writers out, let readers go on"
            if weaker
            else "make it the last thing needed",
            files=[[f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE;"]] if weaker else [],
        )


def _rewritten(kind: str, node: Any, known: Known) -> Iterator[Hazard]:
    if kind == "vacuum_stmt":
        if not any(one.def_elem.defname == "full" for one in node.options):
            return
        tables = [relation(one.vacuum_relation.relation) for one in node.rels]
    else:
        tables = [relation(node.relation)] if node.HasField("relation") else []
    felt = [one.shown for one in tables if not known.is_new(one)]
    if not felt and tables:
        return
    word = "VACUUM FULL" if kind == "vacuum_stmt" else "CLUSTER"
    what = ", ".join(felt) or "every table"
    yield Hazard(
        rule="table-rewrite",
        message=f"{word} writes {what} anew and blocks reads and writes meanwhile",
        advice="a plain VACUUM makes the space usable again beside all work",
        files=[["-- lockstep: transaction=none", f"VACUUM (ANALYZE) {', '.join(felt)};".replace(" ;", ";")]],
    )


def _of_transaction(statement: Statement, node: Any, known: Known, so_far: _Transaction) -> Iterator[Hazard]:
    """What is a hazard only because one transaction holds it all."""
    kind = statement.kind
    locks = statement_locks(kind, node, known)[0]
    yield from _enum(kind, node, so_far)
    if so_far.held and kind in _CHANGES and (table := _large_change(kind, node, known)):
        first = max(so_far.held.values(), key=lambda one: one.mode.rank)
        batched = backfill(kind, node, relation(node.relation)) if kind != "copy_stmt" else None
        yield Hazard(
            rule="slow-work-under-lock",
            message=f"{_CHANGES[kind]} of {table} while the lock on {first.relation} blocks {first.mode.blocks}",
            advice=f"put it into a later file{', in batches' if batched else ''}",
            files=[batched] if batched else [],
        )
    if kind == "view_stmt":
        return  # replaced in a moment, and many at once are common
    felt = {one.relation: one for one in locks if one.felt and one.named and one.relation not in _indexes(kind, node)}
    more = [name for name in felt if name not in so_far.held]
    if so_far.held and more and not so_far.told:
        so_far.told = True
        held = ", ".join(so_far.held)
        yield Hazard(
            rule="several-strong-locks",
            message=f"while it waits for {', '.join(more)}, others wait for {held}, which this transaction has locked already",
            advice=f"begin another file here, with line {statement.line}",
            files=[],
        )
    so_far.held.update(felt)


def _indexes(kind: str, node: Any) -> set[str]:
    """The indexes that a statement names: their table is what counts, and it is among the locks, too."""
    if kind == "drop_stmt" and choice(node, "remove_type") == "OBJECT_INDEX":
        return {one.shown for one in dropped(node)}
    if kind == "reindex_stmt" and choice(node, "kind") == "REINDEX_OBJECT_INDEX":
        return {relation(node.relation).shown}
    return set()


_CHANGES = {
    "update_stmt": "UPDATE",
    "delete_stmt": "DELETE",
    "insert_stmt": "INSERT … SELECT",
    "merge_stmt": "MERGE",
    "copy_stmt": "COPY",
}


def _large_change(kind: str, node: Any, known: Known) -> str | None:
    """The table that a data change of any number of rows works on; None when it is bounded or on new tables only."""
    if any(one.HasField("limit_count") for one in every(node, "SelectStmt")):
        return None
    if kind == "copy_stmt":
        return relation(node.relation).shown if node.is_from else None
    target = relation(node.relation)
    sources = [one for one in every(node, "RangeVar") if relation(one) != target]
    if kind == "insert_stmt":
        old = [one for one in sources if not known.is_new(relation(one))]
        return target.shown if old else None
    if known.is_new(target):
        return None
    return target.shown


def _enum(kind: str, node: Any, so_far: _Transaction) -> Iterator[Hazard]:
    """ERROR 55P04 at run time, unless the type was made in the same transaction."""
    if kind == "create_enum_stmt":
        so_far.types.add(".".join(map(quote, strings(node.type_name))))
    elif kind == "alter_enum_stmt":
        if node.new_val and not node.old_val:
            so_far.values[node.new_val] = ".".join(map(quote, strings(node.type_name)))
    elif so_far.values:
        for one in every(node, "A_Const"):
            value = one.sval.sval if one.WhichOneof("val") == "sval" else None
            if value in so_far.values:
                own = so_far.values[value] in so_far.types
                yield Hazard(
                    rule="enum-value-in-same-transaction",
                    message=f"'{value}' is used in the transaction that adds it to {so_far.values[value]}: "
                    f"PostgreSQL{' before 17' if own else ''} refuses that (55P04)",
                    advice="name the value in CREATE TYPE" if own else "add the value in an earlier file",
                    files=[],
                )
                return
