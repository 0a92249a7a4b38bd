"""What one statement is like, read off its parse tree: whether it may share a transaction, and what it leaves behind.

Knows PostgreSQL's grammar and rules (PreventInTransactionBlock and its callers), not files or units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lockstep.core.do_blocks import calls_procedures, ends_transactions


class Check(Enum):
    """How it can be found out whether a statement that runs outside of a transaction took effect."""

    INDEX_BUILT = "index built"  # a valid index of the name on the table
    INDEX_GONE = "index gone"  # no index of the name
    REINDEXED = "reindexed"  # may run again; leftovers of a try are dropped first
    DETACHED = "detached"  # no partition any more; half detached ones are finalised
    THERE = "there"  # an object of the cluster exists
    GONE = "gone"  # it does not exist
    AGAIN = "again"  # running it twice does the same as once
    UNKNOWN = "unknown"  # it commits by itself: nobody can tell how far it came


@dataclass(frozen=True, slots=True, kw_only=True)
class Recheck:
    """How a statement that cannot run in a transaction is looked at again before it is repeated."""

    check: Check
    name: str = ""  # of the object, quoted as SQL
    table: str = ""  # its table (or parent), quoted as SQL
    what: str = ""  # kind of the object: table, index, schema, database, …
    tolerant: bool = False  # IF NOT EXISTS, IF EXISTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What is special about a statement. The defaults are an ordinary one."""

    alone: str | None = None  # what forbids a transaction block, in words for a person
    apart: bool = False  # may need to be alone: in a transaction=none file it is
    waits_long: bool = False  # waits for old snapshots while it works: a lock_timeout would leave it half done
    recheck: Recheck | None = None  # of one that is alone or apart
    control: str | None = None  # BEGIN, START TRANSACTION, COMMIT, …; not savepoints
    options: bool = False  # of transaction control: it has options, or AND CHAIN
    session: bool = False  # sets something that outlives its transaction
    sets: str = ""  # of a session's state: what it sets; the next that sets the same makes it void. "*": everything
    needs: str = ""  # what of a session's state it needs: a prepared statement
    block_only: str | None = None  # outside of a transaction block it does nothing: SET LOCAL, LOCK TABLE, …
    forbidden: str | None = None  # never possible: it takes the run's own session apart
    temporary: str | None = None  # name of the temporary relation that it makes
    changes: bool = False  # INSERT, UPDATE, DELETE, MERGE: it touches rows and says how many
    endless: bool = False  # changes rows of a whole table, with nothing that makes them fewer
    table: str = ""  # of an UPDATE: whose rows, quoted as SQL


ORDINARY = Traits()


def traits(kind: str, node: Any) -> Traits:
    """Return what a statement is like. `kind` is the node's name in libpg_query's grammar."""
    reader = _READERS.get(kind)
    return ORDINARY if reader is None else reader(node)


def quoted(*parts: str) -> str:
    """Return a qualified name as SQL, each part in double quotes; empty ones are left out."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts if part)


def _relation(node: Any) -> str:
    return quoted(node.schemaname, node.relname)


def _names(items: Iterable[Any]) -> str:
    return quoted(*(item.string.sval for item in items))


# -- one reader per kind of statement ----------------------------------------------------------------------------------

# TransactionStmtKind of libpg_query. SAVEPOINT, RELEASE and ROLLBACK TO are fine inside a transaction.
_CONTROL = {1: "BEGIN", 2: "START TRANSACTION", 3: "COMMIT", 4: "ROLLBACK", 8: "PREPARE TRANSACTION",
            9: "COMMIT PREPARED", 10: "ROLLBACK PREPARED"}  # fmt: skip


def _transaction(node: Any) -> Traits:
    name = _CONTROL.get(node.kind)
    if name is None:
        return Traits(block_only="SAVEPOINT")
    return Traits(control=name, options=bool(node.options) or node.chain)


def _index(node: Any) -> Traits:
    if not node.concurrent:
        return ORDINARY
    check = Recheck(
        check=Check.INDEX_BUILT,
        name=quoted(node.idxname),
        table=_relation(node.relation),
        what="index",
        tolerant=node.if_not_exists,
    )
    return Traits(alone="CREATE INDEX CONCURRENTLY", waits_long=True, recheck=check)


def _drop(node: Any) -> Traits:
    if not node.concurrent:
        return ORDINARY
    name = _names(node.objects[0].list.items)
    check = Recheck(check=Check.INDEX_GONE, name=name, what="index", tolerant=node.missing_ok)
    return Traits(alone="DROP INDEX CONCURRENTLY", waits_long=True, recheck=check)


#: ReindexObjectType: index, table, schema, system, database. The last three walk through many tables.
_REINDEX = {1: "index", 2: "table", 3: "schema", 4: "system", 5: "database"}


def _reindex(node: Any) -> Traits:
    what = _REINDEX.get(node.kind, "table")
    concurrently = any(p.def_elem.defname == "concurrently" and not _is_off(p.def_elem) for p in node.params)
    name = _relation(node.relation) if what in {"index", "table"} else quoted(node.name)
    if concurrently:
        check = Recheck(check=Check.REINDEXED, name=name, what=what)
        return Traits(alone="REINDEX CONCURRENTLY", waits_long=True, recheck=check)
    if what in {"schema", "system", "database"}:
        return Traits(alone=f"REINDEX {what.upper()}", recheck=Recheck(check=Check.AGAIN))
    # Of a partitioned table it runs partition after partition, each in a transaction of its own.
    return Traits(apart=True, recheck=Recheck(check=Check.AGAIN))


def _is_off(option: Any) -> bool:
    """Whether an option like (CONCURRENTLY false) or refresh = off is switched off."""
    value = option.arg.string.sval.lower() if option.arg.HasField("string") else ""
    zero = option.arg.HasField("integer") and option.arg.integer.ival == 0
    return value in {"false", "off", "0"} or zero or (option.arg.HasField("boolean") and not option.arg.boolean.boolval)


def _alter_table(node: Any) -> Traits:
    for command in node.cmds:
        part = getattr(command.alter_table_cmd, "def").partition_cmd
        if getattr(part, "concurrent", False):
            check = Recheck(check=Check.DETACHED, name=_relation(part.name), table=_relation(node.relation))
            # Its last lock keeps readers of the partition waiting, and a half done one is simply finished: a
            # lock_timeout as usual.
            return Traits(alone="DETACH PARTITION CONCURRENTLY", recheck=check)
    return ORDINARY


def _vacuum(node: Any) -> Traits:
    # ANALYZE shares the node, and is fine.
    return Traits(alone="VACUUM", recheck=Recheck(check=Check.AGAIN)) if node.is_vacuumcmd else ORDINARY


def _cluster(node: Any) -> Traits:
    again = Recheck(check=Check.AGAIN)
    return Traits(apart=True, recheck=again) if node.relation.relname else Traits(alone="CLUSTER", recheck=again)


def _cluster_wide(words: str, check: Check, what: str, field: str) -> Any:
    def read(node: Any) -> Traits:
        tolerant = getattr(node, "missing_ok", False)
        recheck = Recheck(check=check, name=quoted(getattr(node, field)), what=what, tolerant=tolerant)
        return Traits(alone=words, recheck=recheck)

    return read


def _create_subscription(node: Any) -> Traits:
    check = Recheck(check=Check.THERE, name=quoted(node.subname), what="subscription")
    quiet = any(o.def_elem.defname in {"create_slot", "connect"} and _is_off(o.def_elem) for o in node.options)
    return ORDINARY if quiet else Traits(apart=True, recheck=check)


def _drop_subscription(node: Any) -> Traits:
    check = Recheck(check=Check.GONE, name=quoted(node.subname), what="subscription", tolerant=node.missing_ok)
    return Traits(apart=True, recheck=check)


def _alter_subscription(node: Any) -> Traits:
    # AlterSubscriptionType: 3 to 5 set, add and drop publications, 6 refreshes; the others are ordinary.
    if node.kind not in {3, 4, 5, 6}:
        return ORDINARY
    if any(o.def_elem.defname == "refresh" and _is_off(o.def_elem) for o in node.options):
        return ORDINARY
    again = node.kind in {3, 6}
    return Traits(apart=True, recheck=Recheck(check=Check.AGAIN if again else Check.UNKNOWN))


def _alter_database(node: Any) -> Traits:
    moves = any(option.def_elem.defname == "tablespace" for option in node.options)
    return Traits(alone="ALTER DATABASE SET TABLESPACE", recheck=Recheck(check=Check.AGAIN)) if moves else ORDINARY


def _do(node: Any) -> Traits:
    words = {argument.def_elem.defname: argument.def_elem.arg.string.sval for argument in node.args}
    body = words.get("as", "")
    if words.get("language", "plpgsql") != "plpgsql":
        return ORDINARY
    if not ends_transactions(body):
        # Whether a procedure that it calls commits is not in this text.
        return Traits(apart=True, recheck=Recheck(check=Check.UNKNOWN)) if calls_procedures(body) else ORDINARY
    return Traits(alone="COMMIT or ROLLBACK in a DO block", recheck=Recheck(check=Check.UNKNOWN))


def _call(_node: Any) -> Traits:
    # Whether the procedure commits is not in this text. In a BEGIN … COMMIT block it must not.
    return Traits(apart=True, recheck=Recheck(check=Check.UNKNOWN))


def _set(node: Any) -> Traits:
    # 4 is VAR_SET_MULTI: SET TRANSACTION is the transaction's own, SET SESSION CHARACTERISTICS is not.
    if node.is_local or node.name == "TRANSACTION":
        return Traits(block_only="SET LOCAL" if node.is_local else "SET TRANSACTION")
    # 6 is VAR_RESET_ALL.
    return Traits(session=True, sets="*" if node.kind == _RESET_ALL else node.name.lower())


_RESET_ALL = 6


def _discard(node: Any) -> Traits:
    # DiscardMode 1 is ALL.
    return Traits(forbidden="DISCARD ALL", session=True) if node.target == 1 else Traits(session=True)


def _keeps(_node: Any) -> Traits:
    return Traits(session=True)


def _prepare(node: Any) -> Traits:
    return Traits(session=True, sets=f"PREPARE {node.name}")


def _execute(node: Any) -> Traits:
    return Traits(needs=f"PREPARE {node.name}")


def _block_only(words: str) -> Any:
    return lambda _node: Traits(block_only=words)


def _select(node: Any) -> Traits:
    temporary = _temporary(node.into_clause.rel) if node.HasField("into_clause") else None
    if temporary:
        return Traits(temporary=temporary)
    if node.target_list and not node.from_clause and all(map(_sets_for_the_session, node.target_list)):
        # Several at once set several things: what comes later does not make all of it void.
        return Traits(session=True, sets=_first_name(node.target_list) if len(node.target_list) == 1 else "")
    return ORDINARY


def _sets_for_the_session(target: Any) -> bool:
    call = target.res_target.val.func_call
    if [part.string.sval for part in call.funcname][-1:] != ["set_config"] or len(call.args) != 3:
        return False
    local = call.args[2].a_const
    return local.HasField("boolval") and not local.boolval.boolval


def _first_name(targets: Any) -> str:
    name: str = targets[0].res_target.val.func_call.args[0].a_const.sval.sval
    return name.lower()


def _temporary(relation: Any) -> str | None:
    temporary = relation.relpersistence == "t" or relation.schemaname == "pg_temp"
    return relation.relname if temporary else None


def _create(field: str) -> Any:
    def read(node: Any) -> Traits:
        relation = getattr(node, field)
        name = _temporary(relation.rel if field == "into" else relation)
        return Traits(temporary=name) if name else ORDINARY

    return read


def _update(node: Any) -> Traits:
    return Traits(changes=True, endless=not node.HasField("where_clause"), table=_relation(node.relation))


def _changes(_node: Any) -> Traits:
    return Traits(changes=True)


def _insert(node: Any) -> Traits:
    select = node.select_stmt.select_stmt
    fewer = (
        select.HasField("where_clause")
        or select.HasField("having_clause")
        or select.op != 1  # SETOP_NONE
        or node.HasField("on_conflict_clause")
        or node.HasField("with_clause")
        or any(one.WhichOneof("node") == "join_expr" for one in select.from_clause)
    )
    return Traits(changes=True, endless=not fewer)


_READERS = {
    "transaction_stmt": _transaction,
    "index_stmt": _index,
    "drop_stmt": _drop,
    "reindex_stmt": _reindex,
    "alter_table_stmt": _alter_table,
    "vacuum_stmt": _vacuum,
    "cluster_stmt": _cluster,
    "createdb_stmt": _cluster_wide("CREATE DATABASE", Check.THERE, "database", "dbname"),
    "dropdb_stmt": _cluster_wide("DROP DATABASE", Check.GONE, "database", "dbname"),
    "create_table_space_stmt": _cluster_wide("CREATE TABLESPACE", Check.THERE, "tablespace", "tablespacename"),
    "drop_table_space_stmt": _cluster_wide("DROP TABLESPACE", Check.GONE, "tablespace", "tablespacename"),
    "alter_database_stmt": _alter_database,
    "alter_system_stmt": lambda _: Traits(alone="ALTER SYSTEM", recheck=Recheck(check=Check.AGAIN)),
    "create_subscription_stmt": _create_subscription,
    "drop_subscription_stmt": _drop_subscription,
    "alter_subscription_stmt": _alter_subscription,
    "do_stmt": _do,
    "call_stmt": _call,
    "variable_set_stmt": _set,
    "discard_stmt": _discard,
    "prepare_stmt": _prepare,
    "execute_stmt": _execute,
    "lock_stmt": _block_only("LOCK TABLE"),
    "constraints_set_stmt": _block_only("SET CONSTRAINTS"),
    "declare_cursor_stmt": _block_only("DECLARE CURSOR"),
    "deallocate_stmt": _prepare,  # makes the PREPARE of that name void
    "load_stmt": _keeps,
    "listen_stmt": _keeps,
    "unlisten_stmt": _keeps,
    "select_stmt": _select,
    "create_stmt": _create("relation"),
    "create_table_as_stmt": _create("into"),
    "create_seq_stmt": _create("sequence"),
    "view_stmt": _create("view"),
    "update_stmt": _update,
    "insert_stmt": _insert,
    "delete_stmt": _changes,
    "merge_stmt": _changes,
}
