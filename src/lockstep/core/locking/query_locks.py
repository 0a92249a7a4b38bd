"""The locks of queries and data changes: every table that the text names, common table expressions understood."""

from __future__ import annotations

from typing import Any

from lockstep.core.locking.lock_modes import Mode
from lockstep.core.locking.nodes import Relation, children, inner, relation, strings
from lockstep.core.locking.table_locks import Lock

_TARGETS = {"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"}
_CATALOGS = {"pg_catalog", "information_schema"}  # everybody reads them all the time
_SEQUENCE_CALLS = {"nextval", "setval"}


def query_locks(message: Any, ctes: frozenset[str] = frozenset()) -> list[Lock]:
    """Return the locks of a query, a data change, or an expression that holds one.

    What views, triggers, rules, foreign keys' checks and functions reach is not in the text and not in the answer.
    """
    locks: list[Lock] = []
    stack = [(message, ctes)]  # a chain of operators may be thousands deep: no recursion but through WITH
    while stack:
        one, hidden = stack.pop()
        name = one.DESCRIPTOR.name
        if name == "RangeVar":
            if (one.relname not in hidden or one.schemaname) and one.schemaname not in _CATALOGS:
                locks.append((relation(one), Mode.ACCESS_SHARE))
            continue
        below = _below(name, one)
        if name in _TARGETS:
            locks.append((relation(one.relation), Mode.ROW_EXCLUSIVE))
            below = [other for other in below if other != one.relation]
        if (name in _TARGETS or name == "SelectStmt") and one.HasField("with_clause"):
            inside, hidden = _with(one.with_clause, hidden)
            locks += inside
            below = [other for other in below if other.DESCRIPTOR.name != "WithClause"]
        if name == "SelectStmt":
            locks += _row_locks(one, hidden)
        elif name == "FuncCall":
            locks += _sequence(one)
        stack += [(other, hidden) for other in below]
    return locks


def _below(name: str, message: Any) -> list[Any]:
    if name in ("A_Const", "LockingClause"):
        return []
    if name == "List":  # a row of VALUES: there may be a hundred thousand
        return [one for one in message.items if one.WhichOneof("node") != "a_const"]
    return list(children(message))


def _with(clause: Any, ctes: frozenset[str]) -> tuple[list[Lock], frozenset[str]]:
    """The locks inside WITH, and the names that hide tables behind it. Without RECURSIVE a name is seen only later."""
    locks: list[Lock] = []
    names = [one.common_table_expr.ctename for one in clause.ctes]
    if clause.recursive:
        ctes |= set(names)
    for name, one in zip(names, clause.ctes, strict=True):
        locks += query_locks(one, ctes)
        ctes |= {name}
    return locks, ctes


def _row_locks(select: Any, ctes: frozenset[str]) -> list[Lock]:
    """ROW SHARE on the tables of FOR UPDATE, FOR SHARE and their kin."""
    locks: list[Lock] = []
    for one in select.locking_clause:
        wanted = {inner(named)[1].relname for named in one.locking_clause.locked_rels}
        for table in _from_items(select.from_clause):
            alias = table.alias.aliasname if table.HasField("alias") else table.relname
            if (not wanted or alias in wanted) and not (table.relname in ctes and not table.schemaname):
                locks.append((relation(table), Mode.ROW_SHARE))
    return locks


def _from_items(nodes: Any) -> list[Any]:
    found: list[Any] = []
    for node in nodes:
        kind, value = inner(node)
        if kind == "range_var":
            found.append(value)
        elif kind == "join_expr":
            found += _from_items([value.larg, value.rarg])
    return found


def _sequence(call: Any) -> list[Lock]:
    """nextval('s') and setval('s', …) with the name as a plain string."""
    if strings(call.funcname)[-1:] and strings(call.funcname)[-1] in _SEQUENCE_CALLS and call.args:
        kind, value = inner(call.args[0])
        if kind == "type_cast":
            kind, value = inner(value.arg)
        if kind == "a_const" and value.WhichOneof("val") == "sval":
            parts = value.sval.sval.replace('"', "").split(".")
            return [(Relation(schema=parts[0] if len(parts) > 1 else None, name=parts[-1]), Mode.ROW_EXCLUSIVE)]
    return []


def unknown_calls(select: Any) -> list[str]:
    """The functions that a SELECT without FROM calls, other than harmless built-in ones: what they lock is unknown."""
    if select.from_clause or select.op != 1:  # SETOP_NONE
        return []
    names: list[str] = []
    for target in select.target_list:
        kind, value = inner(target.res_target.val)
        if kind == "func_call":
            parts = strings(value.funcname)
            if parts[-1] not in _HARMLESS and parts[0] != "pg_catalog":
                names.append(".".join(parts))
    return names


#: Functions of PostgreSQL that migrations call and that lock no table (but the sequence, which is listed).
_HARMLESS = _SEQUENCE_CALLS | {
    "set_config", "current_setting", "now", "clock_timestamp", "version", "pg_sleep", "coalesce", "lastval", "currval",
    "count", "max", "min", "sum", "format", "lower", "upper", "to_regclass", "pg_notify", "gen_random_uuid", "setseed",
    "pg_advisory_lock", "pg_advisory_xact_lock", "pg_advisory_unlock", "pg_advisory_unlock_all",
}  # fmt: skip
