"""What a statement is, in the words of SQL: ALTER TABLE, CREATE INDEX CONCURRENTLY, DROP POLICY."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lockstep.core.locking.nodes import choice, inner


def words(kind: str, node: Any) -> str:
    """Return the kind of a statement as a person would call it."""
    if kind in _MADE:
        return _MADE[kind](node)
    return _PLAIN.get(kind) or kind.removesuffix("_stmt").replace("_", " ").upper()


def _object(node: Any, field: str) -> str:
    name = choice(node, field).removeprefix("OBJECT_")
    return _OBJECTS.get(name, name.replace("_", " "))


_OBJECTS = {
    "MATVIEW": "MATERIALIZED VIEW",
    "TABCONSTRAINT": "CONSTRAINT",
    "DOMCONSTRAINT": "CONSTRAINT",
    "STATISTIC_EXT": "STATISTICS",
    "ATTRIBUTE": "TYPE",
}


def _concurrently(text: str, concurrent: bool) -> str:
    return f"{text} CONCURRENTLY" if concurrent else text


def _renamed(node: Any) -> str:
    of_table = choice(node, "rename_type") in ("OBJECT_COLUMN", "OBJECT_TABCONSTRAINT")
    return f"ALTER {_object(node, 'relation_type' if of_table else 'rename_type')}"


def _created_as(node: Any) -> str:
    return f"CREATE {_object(node, 'objtype')}" + (" AS" if choice(node, "objtype") == "OBJECT_TABLE" else "")


def _vacuum(node: Any) -> str:
    if not node.is_vacuumcmd:
        return "ANALYZE"
    return "VACUUM FULL" if any(one.def_elem.defname == "full" for one in node.options) else "VACUUM"


def _reindex(node: Any) -> str:
    concurrent = any(one.def_elem.defname == "concurrently" for one in node.params)
    return _concurrently(f"REINDEX {choice(node, 'kind').removeprefix('REINDEX_OBJECT_')}", concurrent)


_MADE: dict[str, Callable[[Any], str]] = {
    "alter_table_stmt": lambda node: f"ALTER {_object(node, 'objtype')}",
    "drop_stmt": lambda node: _concurrently(f"DROP {_object(node, 'remove_type')}", node.concurrent),
    "rename_stmt": _renamed,
    "alter_object_schema_stmt": lambda node: f"ALTER {_object(node, 'object_type')}",
    "alter_owner_stmt": lambda node: f"ALTER {_object(node, 'object_type')}",
    "alter_object_depends_stmt": lambda node: f"ALTER {_object(node, 'object_type')}",
    "comment_stmt": lambda node: f"COMMENT ON {_object(node, 'objtype')}",
    "sec_label_stmt": lambda node: f"SECURITY LABEL ON {_object(node, 'objtype')}",
    "index_stmt": lambda node: _concurrently("CREATE INDEX", node.concurrent),
    "create_table_as_stmt": _created_as,
    "grant_stmt": lambda node: "GRANT" if node.is_grant else "REVOKE",
    "grant_role_stmt": lambda node: "GRANT" if node.is_grant else "REVOKE",
    "refresh_mat_view_stmt": lambda node: _concurrently("REFRESH MATERIALIZED VIEW", node.concurrent),
    "reindex_stmt": _reindex,
    "vacuum_stmt": _vacuum,
    "transaction_stmt": lambda node: choice(node, "kind").removeprefix("TRANS_STMT_").replace("_", " "),
    "define_stmt": lambda node: f"CREATE {_object(node, 'kind')}",
    "alter_function_stmt": lambda node: f"ALTER {_object(node, 'objtype')}",
    "create_function_stmt": lambda node: "CREATE PROCEDURE" if node.is_procedure else "CREATE FUNCTION",
    "variable_set_stmt": lambda node: "RESET" if choice(node, "kind").startswith("VAR_RESET") else "SET",
    "explain_stmt": lambda node: f"EXPLAIN {words(*inner(node.query))}",
}

_PLAIN = {
    "create_stmt": "CREATE TABLE",
    "create_seq_stmt": "CREATE SEQUENCE",
    "alter_seq_stmt": "ALTER SEQUENCE",
    "create_trig_stmt": "CREATE TRIGGER",
    "rule_stmt": "CREATE RULE",
    "view_stmt": "CREATE VIEW",
    "create_enum_stmt": "CREATE TYPE",
    "create_range_stmt": "CREATE TYPE",
    "composite_type_stmt": "CREATE TYPE",
    "alter_enum_stmt": "ALTER TYPE",
    "alter_type_stmt": "ALTER TYPE",
    "create_stats_stmt": "CREATE STATISTICS",
    "alter_stats_stmt": "ALTER STATISTICS",
    "lock_stmt": "LOCK TABLE",
    "constraints_set_stmt": "SET CONSTRAINTS",
    "create_plang_stmt": "CREATE LANGUAGE",
    "create_event_trig_stmt": "CREATE EVENT TRIGGER",
    "create_table_space_stmt": "CREATE TABLESPACE",
    "drop_table_space_stmt": "DROP TABLESPACE",
    "createdb_stmt": "CREATE DATABASE",
    "dropdb_stmt": "DROP DATABASE",
    "declare_cursor_stmt": "DECLARE CURSOR",
    "variable_show_stmt": "SHOW",
    "check_point_stmt": "CHECKPOINT",
}
