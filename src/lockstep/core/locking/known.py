"""What the statements so far say about the schema: which relations are new in this file, whose index, whose foreign key.

Nothing here is looked up in a database: it is what the text of one file, or of all files in their order, tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from lockstep.core.locking.nodes import Relation, choice, definition_of, inner, relation, relation_of, strings, type_sql

Key = tuple[str, str]  # schema and name
_MADE = {"create_stmt", "create_foreign_table_stmt", "create_table_as_stmt", "view_stmt", "create_seq_stmt"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """One foreign key."""

    table: Relation  # whose it is
    referenced: Relation
    columns: tuple[str, ...]  # of `table`


@dataclass(slots=True, kw_only=True)
class Known:
    """Grows with each statement that is `learn`ed. A name without a schema counts as one of `schema`."""

    schema: str = "public"  # where names without a schema are: the default, or what the file's SET search_path says
    new: set[Key] = field(default_factory=set)  # relations made in this file: their locks bother nobody
    unseen: set[Key] = field(default_factory=set)  # made by files that count as one with this: nobody knows them yet
    made: set[Key] = field(default_factory=set)  # tables whose CREATE TABLE was read, in any file
    indexes: dict[Key, Relation] = field(default_factory=dict)  # index -> its table
    statistics: dict[Key, Relation] = field(default_factory=dict)  # extended statistics -> their table
    foreign_keys: dict[tuple[Key, str], ForeignKey] = field(default_factory=dict)  # by table and constraint name
    not_foreign: set[tuple[Key, str]] = field(default_factory=set)  # constraints that are a check or a key, by name
    not_null_checks: dict[tuple[Key, str], str] = field(default_factory=dict)  # CHECK (column IS NOT NULL) -> column
    validated: set[tuple[Key, str]] = field(default_factory=set)  # such checks that hold for every row
    unvalidated: set[tuple[Key, str]] = field(default_factory=set)  # constraints that this file added NOT VALID
    types: dict[tuple[Key, str], str] = field(default_factory=dict)  # column -> type, as the parser prints it

    def copy(self) -> Known:
        """Another one that knows the same and learns apart from this one."""
        return deepcopy(self)

    def next_file(self) -> None:
        """Begin another file: nothing is new any more, all else stays known."""
        self.schema = "public"
        self.new.clear()
        self.unvalidated.clear()

    def key(self, one: Relation) -> Key:
        return (one.schema or self.schema, one.name)

    def is_new(self, one: Relation) -> bool:
        key = self.key(one)
        return key in self.new or key in self.unseen

    def references(self, table: Relation) -> list[Relation]:
        """The tables that a table's known foreign keys reference."""
        key = self.key(table)
        return [one.referenced for (owner, _), one in self.foreign_keys.items() if owner == key]

    def referencing(self, table: Relation) -> list[Relation]:
        """The tables whose known foreign keys reference a table."""
        key = self.key(table)
        return [one.table for one in self.foreign_keys.values() if self.key(one.referenced) == key]

    def proven_not_null(self, table: Relation, column: str) -> bool:
        """Whether a validated CHECK says that a column holds no null."""
        key = self.key(table)
        return any(self.not_null_checks.get(one) == column for one in self.validated if one[0] == key)

    def learn(self, kind: str, node: Any) -> None:
        """Take in one statement, after it has run."""
        if kind in _MADE:
            self._create(kind, node)
        elif kind == "index_stmt":
            table = relation(node.relation)
            if node.idxname:
                self.indexes[self.key(table.beside(node.idxname))] = table
        elif kind == "create_stats_stmt":
            for one in node.relations:
                self.statistics[self.key(relation_of(strings(node.defnames)))] = relation(inner(one)[1])
        elif kind == "alter_table_stmt":
            for command in node.cmds:
                self._alter(relation(node.relation), command.alter_table_cmd)
        elif kind == "drop_stmt":
            self._drop(node)
        elif kind in ("rename_stmt", "alter_object_schema_stmt"):
            self._rename(kind, node)
        elif kind == "variable_set_stmt" and node.name == "search_path":
            first = [inner(one)[1].sval.sval for one in node.args][:1]
            self.schema = first[0] if first else "public"

    def _create(self, kind: str, node: Any) -> None:
        if kind == "create_foreign_table_stmt":
            node = node.base_stmt
        if kind == "create_table_as_stmt":
            made = relation(node.into.rel)
        elif kind == "view_stmt":
            made = relation(node.view)
            if node.replace:
                return  # it may have been there
        else:
            made = relation(node.sequence if kind == "create_seq_stmt" else node.relation)
        self.new.add(self.key(made))
        if kind != "create_stmt":
            return
        self.made.add(self.key(made))
        for element in node.table_elts:
            what, value = inner(element)
            if what == "column_def":
                self._column(made, value)
            elif what == "constraint":
                self._constraint(made, value, None)

    def _column(self, table: Relation, column: Any) -> None:
        self.types[self.key(table), column.colname] = type_sql(column.type_name)
        for one in column.constraints:
            self._constraint(table, one.constraint, column.colname)

    def _constraint(self, table: Relation, constraint: Any, column: str | None) -> None:
        what = choice(constraint, "contype")
        name = constraint_name(table, constraint, column)
        key = (self.key(table), name)
        if what == "CONSTR_FOREIGN":
            columns = (column,) if column else tuple(strings(constraint.fk_attrs))
            self.foreign_keys[key] = ForeignKey(table=table, referenced=relation(constraint.pktable), columns=columns)
        if what in _NOT_FOREIGN:
            self.not_foreign.add(key)
        if what in ("CONSTR_PRIMARY", "CONSTR_UNIQUE", "CONSTR_EXCLUSION"):
            self.indexes[self.key(table.beside(name))] = table
        if checked := not_null_column(constraint):
            self.not_null_checks[key] = checked
            if not constraint.skip_validation:
                self.validated.add(key)
        if constraint.skip_validation:
            self.unvalidated.add(key)

    def _alter(self, table: Relation, command: Any) -> None:
        what = choice(command, "subtype")
        kind, definition = definition_of(command)
        key = (self.key(table), command.name)
        if what == "AT_AddColumn":
            self._column(table, definition)
        elif what == "AT_AddConstraint" and kind == "constraint":
            self._constraint(table, definition, None)
        elif what == "AT_ValidateConstraint" and key in self.not_null_checks:
            self.validated.add(key)
        elif what == "AT_DropConstraint":
            self.foreign_keys.pop(key, None)
            self.not_foreign.discard(key)
            self.not_null_checks.pop(key, None)
            self.validated.discard(key)
        elif what == "AT_AlterColumnType":
            self.types[key] = type_sql(definition.type_name)
        elif what == "AT_DropColumn":
            self.types.pop(key, None)

    def _drop(self, node: Any) -> None:
        kind = choice(node, "remove_type")
        for one in dropped(node):
            key = self.key(one)
            self.new.discard(key)
            self.indexes.pop(key, None)
            if kind == "OBJECT_TABLE":
                self.made.discard(key)
                self.not_foreign = {one for one in self.not_foreign if one[0] != key}
                ends = {n: (n[0], self.key(one.referenced)) for n, one in self.foreign_keys.items()}
                for name in [n for n, pair in ends.items() if key in pair]:
                    self.foreign_keys.pop(name)

    def _rename(self, kind: str, node: Any) -> None:
        if not node.HasField("relation"):
            return
        before = relation(node.relation)
        if kind == "alter_object_schema_stmt":
            self._move(before, Relation(schema=node.newschema, name=before.name))
        elif choice(node, "rename_type") in (
            "OBJECT_TABLE",
            "OBJECT_VIEW",
            "OBJECT_MATVIEW",
            "OBJECT_SEQUENCE",
            "OBJECT_INDEX",
        ):
            self._move(before, before.beside(node.newname))
        elif choice(node, "rename_type") == "OBJECT_TABCONSTRAINT":
            old, new = (self.key(before), node.subname), (self.key(before), node.newname)
            if old in self.foreign_keys:
                self.foreign_keys[new] = self.foreign_keys.pop(old)
            if old in self.not_foreign:
                self.not_foreign.remove(old)
                self.not_foreign.add(new)
        elif choice(node, "rename_type") == "OBJECT_COLUMN" and (self.key(before), node.subname) in self.types:
            self.types[self.key(before), node.newname] = self.types.pop((self.key(before), node.subname))

    def _move(self, before: Relation, after: Relation) -> None:
        old, new = self.key(before), self.key(after)
        for known in (self.new, self.unseen, self.made):
            known.discard(new)
            if old in known:
                known.discard(old)
                known.add(new)
        if old in self.indexes:
            self.indexes[new] = self.indexes.pop(old)
        self.indexes = {i: after if self.key(t) == old else t for i, t in self.indexes.items()}
        self.foreign_keys = {
            (new if owner == old else owner, name): ForeignKey(
                table=after if owner == old else one.table,
                referenced=after if self.key(one.referenced) == old else one.referenced,
                columns=one.columns,
            )
            for (owner, name), one in self.foreign_keys.items()
        }
        self.not_foreign = {(new if table == old else table, name) for table, name in self.not_foreign}
        self.types = {(new if table == old else table, name): t for (table, name), t in self.types.items()}


_NOT_FOREIGN = {"CONSTR_CHECK", "CONSTR_PRIMARY", "CONSTR_UNIQUE", "CONSTR_EXCLUSION"}
_SUFFIX = {"CONSTR_FOREIGN": "fkey", "CONSTR_UNIQUE": "key", "CONSTR_PRIMARY": "pkey", "CONSTR_EXCLUSION": "excl"}


def constraint_name(table: Relation, constraint: Any, column: str | None) -> str:
    """Return a constraint's name: its own, or what PostgreSQL makes of table and columns (longer ones it cuts)."""
    if constraint.conname:
        return str(constraint.conname)
    what = choice(constraint, "contype")
    if what == "CONSTR_CHECK":
        columns = sorted({names[-1] for names in columns_of(constraint.raw_expr)})
        parts = columns if len(columns) == 1 else []
    elif what == "CONSTR_PRIMARY":
        parts = []
    else:
        parts = [column] if column else strings(constraint.fk_attrs) or strings(constraint.keys)
    return "_".join([table.name, *parts, _SUFFIX.get(what, "check")])[:63]


def columns_of(expression: Any) -> Iterator[list[str]]:
    """The dotted names of the columns that an expression reads."""
    from lockstep.core.locking.nodes import every

    return (strings(one.fields) for one in every(expression, "ColumnRef"))


def not_null_column(constraint: Any) -> str | None:
    """The column of CHECK (column IS NOT NULL) or of a NOT NULL constraint; None for any other."""
    what = choice(constraint, "contype")
    if what == "CONSTR_NOTNULL":
        return next(iter(strings(constraint.keys)), None)
    if what == "CONSTR_CHECK" and constraint.raw_expr.WhichOneof("node") == "null_test":
        test = constraint.raw_expr.null_test
        if choice(test, "nulltesttype") == "IS_NOT_NULL" and test.arg.WhichOneof("node") == "column_ref":
            return strings(test.arg.column_ref.fields)[-1]
    return None


def dropped(node: Any) -> list[Relation]:
    """The relations that a DROP names (of triggers, rules and policies: their tables)."""
    kind = choice(node, "remove_type")
    names = [strings([one]) for one in node.objects]
    if kind in ("OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY"):
        names = [name[:-1] for name in names]
    return [relation_of(name) for name in names if name]
