"""The locks of ALTER TABLE (INDEX, VIEW, SEQUENCE …), which differ from subcommand to subcommand.

After AlterTableGetLockLevel of PostgreSQL 14 to 18; a test compares them with a real server's pg_locks.
"""

from __future__ import annotations

from typing import Any

from lockstep.core.locking.known import Known
from lockstep.core.locking.lock_modes import Mode
from lockstep.core.locking.nodes import Relation, choice, definition_of, inner, relation, strings

#: Subcommands with a lock of their own; all others take ACCESS EXCLUSIVE.
_MODES = {
    **dict.fromkeys(
        (
            "AT_SetStatistics", "AT_SetOptions", "AT_ResetOptions", "AT_ClusterOn", "AT_DropCluster",
            "AT_ValidateConstraint", "AT_AttachPartition", "AT_DetachPartitionFinalize",
        ),
        Mode.SHARE_UPDATE_EXCLUSIVE,
    ),
    **dict.fromkeys(
        (
            "AT_EnableTrig", "AT_EnableAlwaysTrig", "AT_EnableReplicaTrig", "AT_DisableTrig", "AT_EnableTrigAll",
            "AT_DisableTrigAll", "AT_EnableTrigUser", "AT_DisableTrigUser",
        ),
        Mode.SHARE_ROW_EXCLUSIVE,
    ),
}  # fmt: skip
#: Storage parameters whose change only keeps VACUUM and other schema changes waiting; every other one locks for reads.
_MILD_OPTIONS = ("autovacuum_", "vacuum_", "log_autovacuum_", "fillfactor", "toast_tuple_target", "parallel_workers",
                 "deduplicate_items", "toast.")  # fmt: skip

Lock = tuple[Relation | str, Mode]  # a relation, or words for one that the text does not name


def command_mode(command: Any) -> Mode:
    """Return the lock that one subcommand takes on its table."""
    what = choice(command, "subtype")
    kind, definition = definition_of(command)
    if what in ("AT_SetRelOptions", "AT_ResetRelOptions"):
        options = [inner(one)[1] for one in definition.items]
        names = [f"{o.defnamespace}.{o.defname}" if o.defnamespace else o.defname for o in options]
        mild = all(name.startswith(_MILD_OPTIONS) for name in names)
        return Mode.SHARE_UPDATE_EXCLUSIVE if mild else Mode.ACCESS_EXCLUSIVE
    if what == "AT_AddConstraint" and kind == "constraint" and choice(definition, "contype") == "CONSTR_FOREIGN":
        return Mode.SHARE_ROW_EXCLUSIVE
    if what == "AT_DetachPartition" and definition.concurrent:
        return Mode.SHARE_UPDATE_EXCLUSIVE
    return _MODES.get(what, Mode.ACCESS_EXCLUSIVE)


def alter_locks(node: Any, known: Known) -> list[Lock]:
    """Return every lock of an ALTER TABLE statement: on the table itself the strongest of its subcommands'."""
    table = relation(node.relation)
    commands = [one.alter_table_cmd for one in node.cmds]
    mode = max((command_mode(command) for command in commands), key=lambda m: m.rank)
    locks: list[Lock] = [(table, mode)]
    for command in commands:
        locks += _others(table, command, known, index=choice(node, "objtype") == "OBJECT_INDEX")
    return locks


def _others(table: Relation, command: Any, known: Known, *, index: bool) -> list[Lock]:
    """The locks of one subcommand on other relations."""
    what = choice(command, "subtype")
    kind, definition = definition_of(command)
    if what == "AT_AddColumn" and kind == "column_def":
        return [lock for one in definition.constraints for lock in referenced(one.constraint, Mode.SHARE_ROW_EXCLUSIVE)]
    if what == "AT_AddConstraint" and kind == "constraint":
        locks = referenced(definition, Mode.SHARE_ROW_EXCLUSIVE)
        if definition.indexname:
            locks.append((table.beside(definition.indexname), Mode.SHARE_UPDATE_EXCLUSIVE))
        return locks
    if what == "AT_ValidateConstraint":
        if one := known.foreign_keys.get((known.key(table), command.name)):
            return [(one.referenced, Mode.ROW_SHARE)]
        return _if_foreign(table, command.name, known, Mode.ROW_SHARE)
    if what == "AT_DropConstraint":
        return _dropped_constraint(table, command, known)
    if what == "AT_DropColumn":
        return _dropped_column(table, command.name, known)
    if what in ("AT_AttachPartition", "AT_DetachPartition") and kind == "partition_cmd":
        part = relation(definition.name)
        if definition.concurrent:
            return [(part, Mode.ACCESS_EXCLUSIVE)]
        if index:
            owners: list[Lock] = [
                (t, Mode.ACCESS_SHARE) for i in (table, part) if (t := known.indexes.get(known.key(i)))
            ]
            return [(part, Mode.ACCESS_EXCLUSIVE), *owners]
        return [(part, Mode.ACCESS_EXCLUSIVE)]
    if what == "AT_AddInherit":
        return [(relation(definition), Mode.SHARE_UPDATE_EXCLUSIVE)]
    if what == "AT_DropInherit":
        return [(relation(definition), Mode.ACCESS_SHARE)]
    if what == "AT_ClusterOn":
        return [(table.beside(command.name), Mode.SHARE_UPDATE_EXCLUSIVE)]
    return []


def referenced(constraint: Any, mode: Mode) -> list[Lock]:
    """The lock on the table that a foreign key references."""
    return [(relation(constraint.pktable), mode)] if choice(constraint, "contype") == "CONSTR_FOREIGN" else []


def _dropped_constraint(table: Relation, command: Any, known: Known) -> list[Lock]:
    if one := known.foreign_keys.get((known.key(table), command.name)):
        return [(one.referenced, Mode.ACCESS_EXCLUSIVE)]
    locks: list[Lock] = []
    if choice(command, "behavior") == "DROP_CASCADE":  # a key, with the foreign keys that need it
        locks += [(one, Mode.ACCESS_EXCLUSIVE) for one in known.referencing(table)] or [
            ("tables whose foreign keys reference it", Mode.ACCESS_EXCLUSIVE)
        ]
    return [*locks, *_if_foreign(table, command.name, known, Mode.ACCESS_EXCLUSIVE)]


def _if_foreign(table: Relation, constraint: str, known: Known, mode: Mode) -> list[Lock]:
    """The lock on the other table, for a constraint that no file explains. A table whose making was read has no such."""
    if known.key(table) in known.made or (known.key(table), constraint) in known.not_foreign:
        return []
    return [(f"the table that {constraint} references, if it is a foreign key", mode)]


def _dropped_column(table: Relation, column: str, known: Known) -> list[Lock]:
    found: list[Lock] = [
        (one.referenced, Mode.ACCESS_EXCLUSIVE)
        for (owner, _), one in known.foreign_keys.items()
        if owner == known.key(table) and column in one.columns
    ]
    if not found and known.key(table) not in known.made:
        found.append((f"the table that {column} references, if it has a foreign key", Mode.ACCESS_EXCLUSIVE))
    return found


def drop_table_locks(table: Relation, known: Known, *, cascade: bool) -> list[Lock]:
    """The locks of DROP TABLE: the table, those that its foreign keys reference, with CASCADE those that reference it."""
    locks: list[Lock] = [(table, Mode.ACCESS_EXCLUSIVE)]
    locks += [(one, Mode.ACCESS_EXCLUSIVE) for one in known.references(table)]
    if known.key(table) not in known.made:
        locks.append(("tables that its foreign keys reference", Mode.ACCESS_EXCLUSIVE))
    if cascade:
        others = known.referencing(table)
        locks += [(one, Mode.ACCESS_EXCLUSIVE) for one in others]
        locks.append(("views and tables that depend on it", Mode.ACCESS_EXCLUSIVE))
    return locks


def create_table_locks(node: Any) -> list[Lock]:
    """The locks of CREATE TABLE on other tables: parents, models, and those that its foreign keys reference."""
    locks: list[Lock] = []
    parent = Mode.ACCESS_EXCLUSIVE if node.HasField("partbound") else Mode.SHARE_UPDATE_EXCLUSIVE
    locks += [(relation(inner(one)[1]), parent) for one in node.inh_relations]
    for element in [*node.table_elts, *node.constraints]:
        kind, value = inner(element)
        if kind == "column_def":
            for one in value.constraints:
                locks += referenced(one.constraint, Mode.SHARE_ROW_EXCLUSIVE)
        elif kind == "constraint":
            locks += referenced(value, Mode.SHARE_ROW_EXCLUSIVE)
        elif kind == "table_like_clause":
            locks.append((relation(value.relation), Mode.ACCESS_SHARE))
    return locks


def owner_column(options: Any) -> list[Lock]:
    """The lock of a sequence's OWNED BY on the table."""
    found: list[Lock] = []
    for one in options:
        option = one.def_elem
        if option.defname == "owned_by":
            names = strings([option.arg])
            if len(names) > 1:
                table = Relation(schema=names[-3] if len(names) > 2 else None, name=names[-2])
                found.append((table, Mode.ACCESS_SHARE))
    return found
