"""What to do instead of a statement that a rehearsal refuses, as SQL for the statement at hand.

The hazards that the text shows come with their safe way (`core.locking.hazards`); here is what only a look at the
database can tell, partitions above all, and what no hazard is by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lockstep.core.findings import Finding
from lockstep.core.locking.column_rewrites import backfill, batches_of
from lockstep.core.locking.hazards import find_hazards
from lockstep.core.locking.known import Known
from lockstep.core.locking.nodes import (
    Relation,
    choice,
    copy,
    definition_of,
    expression_sql,
    inner,
    nodes,
    quote,
    relation,
    relation_of,
    statement_sql,
    strings,
)
from lockstep.core.locking.rewrites import ALONE, File, alter_sql, in_files
from lockstep.core.migration import SqlFile
from lockstep.core.rehearsal.judging import Place

_LISTED = 6  # partitions that an advice writes out

Name = tuple[str, str]  # schema, name


@dataclass(frozen=True, slots=True, kw_only=True)
class Partitioned:
    """A partitioned table as it is on the copy."""

    strategy: str  # list, range, hash
    columns: tuple[str, ...]  # of the key; () where one is an expression
    partitions: tuple[Relation, ...]  # direct ones
    nested: bool = False  # one of them has partitions of its own


Facts = Mapping[Name, Partitioned]


def advice_of(
    files: Iterable[SqlFile], wanted: Iterable[str], facts: Facts | None = None, *, major: int = 17
) -> dict[Place, str]:
    """Return advice for the statements of the `wanted` files: (file, line) -> a line, and SQL below it.

    `files` are all ups of the project in their order, since earlier ones tell of the schema. `major` is the server's.
    """
    known, names, facts = Known(), frozenset(wanted), facts or {}
    found: dict[Place, str] = {}
    for file in files:
        # What the file accepts is no finding, and its advice is asked for all the same.
        bare = replace(file, directives=replace(file.directives, allow=()))
        hazards = find_hazards(bare, known)
        if file.name not in names:
            continue
        script = file.script()
        for statement, node in zip(script.statements, nodes(script), strict=True):
            own = [one for one in hazards if one.line == statement.line]
            if text := _special(statement.kind, node, facts, major) or _of_findings(own) or _own(statement.kind, node):
                found[file.name, statement.line] = text
    return found


def _of_findings(findings: list[Finding]) -> str | None:
    """The advice of the hazards of one statement."""
    hints = [one.hint for one in findings if one.hint]
    with_sql = [hint for hint in hints if "\n" in hint]
    if len(with_sql) < 2:
        return next(iter(with_sql or hints), None)
    files: list[File] = []
    for hint in with_sql:
        said, _, text = hint.partition("\n")
        first, *rest = [part.splitlines() for part in re.split(r"^-- file \d+\n", text, flags=re.MULTILINE) if part]
        # A directive stands at the head of its file, so that the comment comes behind it.
        at = 1 if first[0].startswith("-- lockstep:") else 0
        files += [[*first[:at], f"-- {said.removesuffix(':')}", *first[at:]], *rest]
    return _said("one thing after the other, each in files of its own", files)


def _said(words: str, files: list[File]) -> str:
    return f"{words}:\n{in_files(files)}"


# -- what the database tells --------------------------------------------------------------------------------------


def _special(kind: str, node: Any, facts: Facts, major: int) -> str | None:
    """Advice that comes before a hazard's own."""
    if kind == "index_stmt" and (parted := _fact(facts, relation(node.relation))) is not None:
        return _partitioned_index(node, parted)
    if kind != "alter_table_stmt":
        return None
    commands = [one.alter_table_cmd for one in node.cmds]
    if len(commands) != 1:
        return None
    (command,) = commands
    what = choice(command, "subtype")
    if what == "AT_AttachPartition" and choice(node, "objtype") == "OBJECT_TABLE":
        return _attach(node, command, facts)
    if what == "AT_SetNotNull" and major >= 18:
        return _not_null(relation(node.relation), command.name)
    return None


def _fact(facts: Facts, table: Relation) -> Partitioned | None:
    if table.schema:
        return facts.get((table.schema, table.name))
    return next((one for (_, name), one in facts.items() if name == table.name), None)


def _partitioned_index(node: Any, parted: Partitioned) -> str:
    """An index of a partitioned table: on each partition beside traffic, then joined."""
    table = relation(node.relation)
    columns = [one.index_elem.name or "expr" for one in node.index_params]
    name = node.idxname or "_".join([table.name, *columns, "idx"])[:63]
    if parted.nested:
        return "build it on each of its partitions with CONCURRENTLY, in files of their own, then on the table itself"
    parts = {one: f"{one.name}_{name}"[:63] for one in parted.partitions[:_LISTED]}
    more = len(parted.partitions) - len(parts)
    rest = [f"-- and so on for {more} more partitions"] if more else []
    parent = Relation(schema=table.schema, name=name)
    return _said(
        "CONCURRENTLY is not possible on a partitioned table itself: build it on each partition beside the writes, then join them",
        [
            [_index_on(node, table, name, only=True)],
            [ALONE, *[_index_on(node, one, own, only=False) for one, own in parts.items()], *rest],
            [
                *[
                    f"ALTER INDEX {parent.shown} ATTACH PARTITION {one.beside(own).shown};"
                    for one, own in parts.items()
                ],
                *rest,
            ],
        ],
    )


def _index_on(node: Any, table: Relation, name: str, *, only: bool) -> str:
    changed = copy(node)
    changed.idxname, changed.if_not_exists, changed.concurrent = name, False, not only
    changed.relation.relname, changed.relation.schemaname = table.name, table.schema or ""
    changed.relation.inh = not only
    text = statement_sql("index_stmt", changed)
    return (text.replace(" USING btree", "", 1) if node.access_method == "btree" else text) + ";"


def _attach(node: Any, command: Any, facts: Facts) -> str:
    """ATTACH PARTITION looks at no row where a CHECK says that all are within the bounds."""
    parent, definition = relation(node.relation), definition_of(command)[1]
    part = relation(definition.name)
    bounds = _bounds(definition.bound, _fact(facts, parent))
    words = "prove beside traffic that its rows are within the bounds: ATTACH then looks at none of them"
    if bounds is None:
        return f"{words}; add a CHECK that says the bounds, NOT VALID, and validate it in the file after that"
    name = quote(f"{part.name}_bounds"[:63])
    return _said(
        words,
        [
            [f"ALTER TABLE {part.shown} ADD CONSTRAINT {name} CHECK ({bounds}) NOT VALID;"],
            [f"ALTER TABLE {part.shown} VALIDATE CONSTRAINT {name};"],
            [alter_sql(node, command), f"ALTER TABLE {part.shown} DROP CONSTRAINT {name};"],
        ],
    )


def _bounds(bound: Any, parted: Partitioned | None) -> str | None:
    """The bounds of a partition as a condition; None where the key is not one plain column, or they are no values."""
    if parted is None or len(parted.columns) != 1 or bound.is_default:
        return None
    column = quote(parted.columns[0])
    if bound.strategy == "l":
        values = [expression_sql(one) for one in bound.listdatums]
        null = [one for one in values if one.upper() == "NULL"]
        rest = ", ".join(one for one in values if one.upper() != "NULL")
        within = f"{column} IN ({rest})" if rest else ""
        if null:
            return f"{column} IS NULL OR {within}" if within else f"{column} IS NULL"
        return f"{column} IS NOT NULL AND {within}"
    if bound.strategy == "r":
        ends = [_end(one) for one in (*bound.lowerdatums, *bound.upperdatums)]
        if len(ends) != 2:
            return None
        conditions = [f"{column} IS NOT NULL"]
        conditions += [f"{column} >= {ends[0]}"] if ends[0] else []
        conditions += [f"{column} < {ends[1]}"] if ends[1] else []
        return " AND ".join(conditions)
    return None


def _end(node: Any) -> str:
    """One end of a range as SQL; "" for MINVALUE and MAXVALUE, which the grammar reads as columns."""
    kind, value = inner(node)
    if kind == "column_ref" and strings(value.fields)[-1:] in (["minvalue"], ["maxvalue"]):
        return ""
    return expression_sql(node)


def _not_null(table: Relation, column: str) -> str:
    """NOT NULL as a constraint, which PostgreSQL 18 can add without a look."""
    name = quote(f"{table.name}_{column}_not_null"[:63])
    return _said(
        "add it for new rows first, then validate beside traffic (PostgreSQL 18)",
        [
            [f"ALTER TABLE {table.shown} ADD CONSTRAINT {name} NOT NULL {quote(column)} NOT VALID;"],
            [f"ALTER TABLE {table.shown} VALIDATE CONSTRAINT {name};"],
        ],
    )


# -- what is no hazard by itself ----------------------------------------------------------------------------------


def _own(kind: str, node: Any) -> str | None:
    return next(iter(_owns(kind, node)), None)


def _owns(kind: str, node: Any) -> Iterator[str]:
    if kind == "truncate_stmt":
        tables = [relation(inner(one)[1]) for one in node.relations]
        yield _said(
            "where the rows may go bit by bit, let them, beside traffic"
            + ("" if len(tables) == 1 else ", table by table, referencing ones first"),
            [batches_of(one) for one in tables],
        )
    elif kind in ("update_stmt", "delete_stmt"):
        if batched := backfill(kind, node, relation(node.relation)):
            yield _said("in batches, in a file of its own", [batched])
        else:
            yield "change it in parts that are committed one by one, in files of their own"
    elif kind in ("insert_stmt", "merge_stmt", "copy_stmt"):
        yield "put it into a file of its own, before the ones that lock, or in parts that are committed one by one"
    elif kind == "alter_domain_stmt" and (files := _domain(node)):
        yield _said("check only new values first, then validate beside traffic", files)
    elif kind in ("do_stmt", "call_stmt"):
        yield (
            "what its code locks shows only when it runs: write its statements out, each in the file that suits it; "
            "where many rows change, let it COMMIT every few thousand (-- lockstep: transaction=none)"
        )
    elif kind == "create_table_as_stmt":
        yield "put it into a file of its own, before or behind the ones that lock"


def _domain(node: Any) -> list[File]:
    """A new CHECK of a domain, NOT VALID and then validated."""
    kind, definition = inner(getattr(node, "def"))
    if kind != "constraint" or choice(definition, "contype") != "CONSTR_CHECK" or definition.skip_validation:
        return []
    domain = relation_of(strings(node.type_name))
    name = quote(definition.conname or f"{domain.name}_check"[:63])
    return [
        [f"ALTER DOMAIN {domain.shown} ADD CONSTRAINT {name} CHECK ({expression_sql(definition.raw_expr)}) NOT VALID;"],
        [f"ALTER DOMAIN {domain.shown} VALIDATE CONSTRAINT {name};"],
    ]
