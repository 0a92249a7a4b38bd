"""Which locks each kind of statement takes: one reader per kind, by the grammar's name of it.

After PostgreSQL's sources and manual; a test compares them with a real server's pg_locks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lockstep.core.locking.known import Known, dropped
from lockstep.core.locking.lock_modes import Mode
from lockstep.core.locking.nodes import Relation, choice, copy, inner, relation, relation_of, strings
from lockstep.core.locking.query_locks import query_locks, unknown_calls
from lockstep.core.locking.table_locks import Lock, alter_locks, create_table_locks, drop_table_locks, owner_column

Found = list[Lock | str]  # locks, and a text for what is unknown
_AE, _AS = Mode.ACCESS_EXCLUSIVE, Mode.ACCESS_SHARE


def _owner_of(index: Relation, known: Known, mode: Mode) -> Lock:
    """The lock on an index's table, named when the index was made in a file that was read."""
    table = known.indexes.get(known.key(index))
    return (table or f"the table of index {index.shown}", mode)


def _drop(node: Any, known: Known) -> Found:
    kind = choice(node, "remove_type")
    cascade = choice(node, "behavior") == "DROP_CASCADE"
    found: Found = []
    if kind not in _RELATION_KINDS:
        if kind == "OBJECT_STATISTIC_EXT":
            for one in dropped(node):
                table = known.statistics.get(known.key(one))
                found.append((table or f"the table of statistics {one.shown}", Mode.SHARE_UPDATE_EXCLUSIVE))
        elif cascade or kind == "OBJECT_EXTENSION":
            found.append("what depends on it is dropped, too, and locked for reads and writes")
        return found
    mild = node.concurrent
    for one in dropped(node):
        if kind == "OBJECT_TABLE":
            found += drop_table_locks(one, known, cascade=cascade)
        elif kind == "OBJECT_INDEX":
            mode = Mode.SHARE_UPDATE_EXCLUSIVE if mild else _AE
            found += [(one, mode), _owner_of(one, known, mode)]
        else:
            found.append((one, _AE))
            if cascade:
                found.append(("views and tables that depend on it", _AE))
    return found


_RELATION_KINDS = {
    "OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_SEQUENCE", "OBJECT_FOREIGN_TABLE", "OBJECT_INDEX",
    "OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY",
}  # fmt: skip


def _rename(node: Any, known: Known) -> Found:
    if not node.HasField("relation"):
        return []
    if choice(node, "rename_type") == "OBJECT_INDEX":
        return [(relation(node.relation), Mode.SHARE_UPDATE_EXCLUSIVE)]
    return [(relation(node.relation), _AE)]


def _comment(node: Any, known: Known) -> Found:
    kind = choice(node, "objtype")
    names = strings([node.object])
    mild = Mode.SHARE_UPDATE_EXCLUSIVE
    if kind in (
        "OBJECT_TABLE",
        "OBJECT_VIEW",
        "OBJECT_MATVIEW",
        "OBJECT_SEQUENCE",
        "OBJECT_FOREIGN_TABLE",
        "OBJECT_INDEX",
    ):
        return [(relation_of(names), mild)]
    if kind == "OBJECT_COLUMN":
        return [(relation_of(names[:-1]), mild)]
    if kind in ("OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER", "OBJECT_POLICY", "OBJECT_RULE"):
        return [(relation_of(names[:-1]), _AS)]
    return []


def _create_index(node: Any, known: Known) -> Found:
    return [(relation(node.relation), Mode.SHARE_UPDATE_EXCLUSIVE if node.concurrent else Mode.SHARE)]


def _reindex(node: Any, known: Known) -> Found:
    concurrent = any(one.def_elem.defname == "concurrently" for one in node.params)
    on_table = Mode.SHARE_UPDATE_EXCLUSIVE if concurrent else Mode.SHARE
    on_index = Mode.SHARE_UPDATE_EXCLUSIVE if concurrent else _AE
    kind = choice(node, "kind")
    if kind == "REINDEX_OBJECT_INDEX":
        index = relation(node.relation)
        return [(index, on_index), _owner_of(index, known, on_table)]
    if kind == "REINDEX_OBJECT_TABLE":
        table = relation(node.relation)
        return [(table, on_table), (f"the indexes of {table.shown}", on_index)]
    return [(f"every table of {node.name or 'the database'}", on_table)]


def _vacuum(node: Any, known: Known) -> Found:
    full = any(one.def_elem.defname == "full" for one in node.options)
    mode = _AE if full else Mode.SHARE_UPDATE_EXCLUSIVE
    tables: Found = [(relation(one.vacuum_relation.relation), mode) for one in node.rels]
    return tables or [("every table of the database, one by one", mode)]


def _truncate(node: Any, known: Known) -> Found:
    tables = [relation(inner(one)[1]) for one in node.relations]
    found: Found = [(one, _AE) for one in tables]
    if choice(node, "behavior") == "DROP_CASCADE":
        found += [(other, _AE) for one in tables for other in known.referencing(one)]
        found.append(("tables whose foreign keys reference it", _AE))
    return found


def _lock(node: Any, known: Known) -> Found:
    mode = list(Mode)[node.mode - 1]
    return [(relation(inner(one)[1]), mode) for one in node.relations]


def _refresh(node: Any, known: Known) -> Found:
    return [(relation(node.relation), Mode.EXCLUSIVE if node.concurrent else _AE)]


def _cluster(node: Any, known: Known) -> Found:
    if node.HasField("relation"):
        return [(relation(node.relation), _AE)]
    return [("every table that was clustered before, one by one", _AE)]


def _trigger(node: Any, known: Known) -> Found:
    found: Found = [(relation(node.relation), Mode.SHARE_ROW_EXCLUSIVE)]
    if node.HasField("constrrel"):
        found.append((relation(node.constrrel), _AS))
    return found


def _policy(node: Any, known: Known) -> Found:
    rest = copy(node)
    rest.ClearField("table")
    return [(relation(node.table), _AE), *query_locks(rest)]


def _rule(node: Any, known: Known) -> Found:
    rest = copy(node)
    rest.ClearField("relation")
    # OLD and NEW stand for the rule's own table.
    return [(relation(node.relation), _AE), *query_locks(rest, frozenset({"old", "new"}))]


def _view(node: Any, known: Known) -> Found:
    found: Found = [(relation(node.view), _AE)] if node.replace else []
    return [*found, *query_locks(node.query)]


def _copy_rows(node: Any, known: Known) -> Found:
    if node.HasField("query"):
        return [*query_locks(node.query)]
    return [(relation(node.relation), Mode.ROW_EXCLUSIVE if node.is_from else _AS)]


def _publication(node: Any, known: Known) -> Found:
    found: Found = [
        (relation(one.publication_obj_spec.pubtable.relation), Mode.SHARE_UPDATE_EXCLUSIVE)
        for one in node.pubobjects
        if one.publication_obj_spec.HasField("pubtable")
    ]
    return found


def _create_statistics(node: Any, known: Known) -> Found:
    return [(relation(inner(one)[1]), Mode.SHARE_UPDATE_EXCLUSIVE) for one in node.relations]


def _domain(node: Any, known: Known) -> Found:
    if node.subtype == "O" or (node.subtype == "C" and not getattr(node, "def").constraint.skip_validation):
        return [(f"tables with columns of domain {'.'.join(strings(node.type_name))}", Mode.SHARE)]
    if node.subtype == "V":
        return [(f"tables with columns of domain {'.'.join(strings(node.type_name))}", Mode.SHARE)]
    return []


def _function(node: Any, known: Known) -> Found:
    return [*query_locks(node.sql_body)] if node.HasField("sql_body") else []


def _select(node: Any, known: Known) -> Found:
    calls = unknown_calls(node)
    found: Found = [*query_locks(node)]
    return [*found, f"what {', '.join(calls)}() locks is not known"] if calls else found


def _create_schema(node: Any, known: Known) -> Found:
    found: Found = []
    for one in node.schema_elts:
        kind, value = inner(one)
        if kind in READERS:
            found += READERS[kind](value, known)
    return found


def _of_query(field: str) -> Callable[[Any, Known], Found]:
    def read(node: Any, known: Known) -> Found:
        kind, value = inner(getattr(node, field))
        return READERS[kind](value, known) if kind in READERS else [*query_locks(value)]

    return read


def _on(field: str, mode: Mode) -> Callable[[Any, Known], Found]:
    return lambda node, known: [(relation(getattr(node, field)), mode)]


def _code(node: Any, known: Known) -> Found:
    return ["what its code locks is not known"]


READERS: dict[str, Callable[[Any, Known], Found]] = {
    "alter_table_stmt": lambda node, known: [*alter_locks(node, known)],
    "create_stmt": lambda node, known: [*create_table_locks(node)],
    "create_foreign_table_stmt": lambda node, known: [*create_table_locks(node.base_stmt)],
    "create_table_as_stmt": _of_query("query"),
    "create_seq_stmt": lambda node, known: [*owner_column(node.options)],
    "alter_seq_stmt": lambda node, known: [
        (relation(node.sequence), Mode.SHARE_ROW_EXCLUSIVE),
        *owner_column(node.options),
    ],
    "index_stmt": _create_index,
    "drop_stmt": _drop,
    "rename_stmt": _rename,
    "alter_object_schema_stmt": lambda node, known: (
        [(relation(node.relation), _AE)] if node.HasField("relation") else []
    ),
    "comment_stmt": _comment,
    "sec_label_stmt": _comment,
    "reindex_stmt": _reindex,
    "vacuum_stmt": _vacuum,
    "truncate_stmt": _truncate,
    "lock_stmt": _lock,
    "refresh_mat_view_stmt": _refresh,
    "cluster_stmt": _cluster,
    "create_trig_stmt": _trigger,
    "create_policy_stmt": _policy,
    "alter_policy_stmt": _policy,
    "rule_stmt": _rule,
    "view_stmt": _view,
    "copy_stmt": _copy_rows,
    "create_publication_stmt": _publication,
    "alter_publication_stmt": _publication,
    "create_stats_stmt": _create_statistics,
    "alter_domain_stmt": _domain,
    "create_function_stmt": _function,
    "create_schema_stmt": _create_schema,
    "select_stmt": _select,
    "insert_stmt": lambda node, known: [*query_locks(node)],
    "update_stmt": lambda node, known: [*query_locks(node)],
    "delete_stmt": lambda node, known: [*query_locks(node)],
    "merge_stmt": lambda node, known: [*query_locks(node)],
    "explain_stmt": _of_query("query"),
    "declare_cursor_stmt": _of_query("query"),
    "prepare_stmt": _of_query("query"),
    "do_stmt": _code,
    "call_stmt": _code,
    "execute_stmt": _code,
}

#: Kinds that lock no table: types, functions, roles, settings, transaction control, privileges, …
NO_LOCK = {
    "alter_collation_stmt", "alter_database_set_stmt", "alter_database_stmt", "alter_default_privileges_stmt",
    "alter_enum_stmt", "alter_event_trig_stmt", "alter_fdw_stmt", "alter_foreign_server_stmt", "alter_function_stmt",
    "alter_op_family_stmt", "alter_operator_stmt", "alter_role_set_stmt", "alter_role_stmt", "alter_stats_stmt",
    "alter_system_stmt", "alter_table_space_options_stmt", "alter_tsconfiguration_stmt", "alter_tsdictionary_stmt",
    "alter_user_mapping_stmt", "check_point_stmt", "close_portal_stmt", "composite_type_stmt", "constraints_set_stmt",
    "create_am_stmt", "create_cast_stmt", "create_conversion_stmt", "create_domain_stmt", "create_enum_stmt",
    "create_event_trig_stmt", "create_fdw_stmt", "create_foreign_server_stmt", "create_op_class_stmt",
    "create_op_family_stmt", "create_plang_stmt", "create_range_stmt", "create_role_stmt", "create_table_space_stmt",
    "create_transform_stmt", "create_user_mapping_stmt", "createdb_stmt", "deallocate_stmt", "define_stmt",
    "discard_stmt", "drop_role_stmt", "drop_table_space_stmt", "drop_user_mapping_stmt", "dropdb_stmt",
    "fetch_stmt", "grant_role_stmt", "grant_stmt", "listen_stmt", "load_stmt", "notify_stmt", "transaction_stmt",
    "unlisten_stmt", "variable_set_stmt", "variable_show_stmt", "alter_owner_stmt",
}  # fmt: skip
