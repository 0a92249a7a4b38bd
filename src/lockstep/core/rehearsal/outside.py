"""What of a plan reaches outside of its database, where a copy cannot follow: told by the text of its statements.

Calls that only a later use makes (the body of a new function, a view's query) reach nothing yet and are not told.
LISTEN and NOTIFY stay within the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lockstep.core.locking.nodes import choice, every, strings

SUBSCRIPTION = "touches-subscription"
FOREIGN = "touches-foreign-table"
OUTSIDE = "reaches-outside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """One way in which a statement leaves its database."""

    rule: str
    message: str  # one line


#: Functions of PostgreSQL itself that reach the server's files, or what the cluster has beside databases.
_BUILT_IN = {
    "lo_import": "a file of the server",
    "lo_export": "a file of the server",
    "pg_read_file": "a file of the server",
    "pg_read_binary_file": "a file of the server",
    "pg_ls_dir": "a folder of the server",
    "pg_create_logical_replication_slot": "a replication slot, which no copy has",
    "pg_create_physical_replication_slot": "a replication slot, which no copy has",
    "pg_drop_replication_slot": "a replication slot, which no copy has",
    "pg_replication_slot_advance": "a replication slot, which no copy has",
    "pg_logical_slot_get_changes": "a replication slot, which no copy has",
    "pg_logical_slot_peek_changes": "a replication slot, which no copy has",
}

#: Extensions whose functions reach outside of the database -> what they reach.
EXTENSIONS = {
    "dblink": "another database",
    "postgres_fdw": "another database",
    "http": "a web server",
    "pg_net": "a web server",
    "pg_cron": "the scheduler, which works in production alone",
    "file_fdw": "a file of the server",
    "aws_s3": "a bucket",
    "aws_lambda": "a function in the cloud",
    "pg_background": "a session of its own",
    "plperlu": "whatever its code reaches",
    "plpython3u": "whatever its code reaches",
    "pltclu": "whatever its code reaches",
}

#: Tables of such extensions that people write to.
_TABLES = {
    ("cron", "job"): "pg_cron",
    ("cron", "job_run_details"): "pg_cron",
    ("net", "http_request_queue"): "pg_net",
    ("net", "_http_response"): "pg_net",
}

#: What names such a function in code that no grammar is read of. The first group is the name.
_NAMED = re.compile(
    r"\b(dblink\w*|http_(?:get|post|put|patch|delete|head)|net\.http_\w+|cron\.(?:schedule\w*|unschedule|alter_job|job)"
    r"|aws_s3\.\w+|aws_lambda\.\w+|lo_import|lo_export|pg_read_\w*file|pg_\w*replication_slot\w*)\b",
    re.IGNORECASE,
)
_PROGRAM = re.compile(r"\bcopy\b[^;]*\bprogram\b", re.IGNORECASE)

#: Statements whose calls run only later, when somebody uses what they make.
_LATER = frozenset({
    "view_stmt", "create_function_stmt", "create_trig_stmt", "create_policy_stmt", "alter_policy_stmt", "rule_stmt",
    "create_event_trig_stmt", "comment_stmt", "grant_stmt", "prepare_stmt", "sec_label_stmt",
})  # fmt: skip


def runs_later(kind: str) -> bool:
    """Whether a statement only makes something that runs later, so that what it names is not reached."""
    return kind in _LATER


def reaches(kind: str, node: Any) -> Iterator[Reach]:
    """Return what the text of one statement reaches."""
    if kind in _SUBSCRIPTION or (kind in _OBJECTS and _object(kind, node) == "OBJECT_SUBSCRIPTION"):
        yield Reach(
            rule=SUBSCRIPTION,
            message="it touches a subscription, which the copy has by name alone: no slot, no publisher",
        )
    elif kind in _FOREIGN or (kind in _OBJECTS and _object(kind, node) in _FOREIGN_OBJECTS):
        yield Reach(rule=FOREIGN, message="it touches a foreign table, whose server the copy cannot reach")
    elif kind in _MAPPINGS:
        yield Reach(
            rule=FOREIGN, message="it touches a user mapping, which is left out of every copy: it holds a password"
        )
    elif kind == "copy_stmt" and node.is_program:
        yield Reach(rule=OUTSIDE, message="COPY … PROGRAM runs a program of production's machine")
    elif kind == "copy_stmt" and node.filename:
        yield Reach(rule=OUTSIDE, message="COPY reads or writes a file of production's machine")
    elif kind in _CLUSTER:
        yield Reach(
            rule=OUTSIDE, message=f"{_CLUSTER[kind]} changes the whole server, of which the copy is another one"
        )
    elif kind == "do_stmt":
        yield from _in_code(node)
    if kind not in _LATER:
        yield from _named(node)


_SUBSCRIPTION = frozenset({"create_subscription_stmt", "alter_subscription_stmt", "drop_subscription_stmt"})
_FOREIGN = frozenset({"create_foreign_table_stmt", "import_foreign_schema_stmt"})
_MAPPINGS = frozenset({"create_user_mapping_stmt", "alter_user_mapping_stmt", "drop_user_mapping_stmt"})
_FOREIGN_OBJECTS = frozenset({"OBJECT_FOREIGN_TABLE"})
_CLUSTER = {"alter_system_stmt": "ALTER SYSTEM", "create_table_space_stmt": "CREATE TABLESPACE"}
_OBJECTS = {
    "alter_table_stmt": "objtype",
    "drop_stmt": "remove_type",
    "rename_stmt": "rename_type",
    "alter_owner_stmt": "object_type",
    "alter_object_schema_stmt": "object_type",
}


def _object(kind: str, node: Any) -> str:
    return choice(node, _OBJECTS[kind])


def _in_code(node: Any) -> Iterator[Reach]:
    """What the body of a DO names."""
    if name := names_outside(code_of(node)):
        yield Reach(rule=OUTSIDE, message=f"its code names {name}, which reaches outside of the database")


def _named(node: Any) -> Iterator[Reach]:
    told = set()
    for call in called(node):
        name = ".".join(call)
        what = _BUILT_IN.get(call[-1]) if call[0] in (call[-1], "pg_catalog") else None
        if name not in told and (what or _NAMED.fullmatch(name) or _NAMED.fullmatch(call[-1])):
            told.add(name)
            yield Reach(rule=OUTSIDE, message=f"it calls {name}, which reaches {what or 'outside of the database'}")
    for table in every(node, "RangeVar"):
        if extension := _TABLES.get((table.schemaname, table.relname)):
            yield Reach(
                rule=OUTSIDE,
                message=f"it works on {table.schemaname}.{table.relname} of {extension}, which reaches {EXTENSIONS[extension]}",
            )
            return


def called(node: Any) -> Iterator[list[str]]:
    """The dotted names of the functions that a statement calls."""
    return (names for one in every(node, "FuncCall") if (names := strings(one.funcname)))


def code_of(node: Any) -> str:
    """The body of a DO."""
    bodies = (one.def_elem for one in node.args)
    return "".join(strings([one.arg])[0] for one in bodies if one.defname == "as")


def names_outside(code: str) -> str | None:
    """Return what a piece of code names that reaches outside of the database; None where it names nothing of the kind."""
    if match := _NAMED.search(code):
        return match[1]
    return "COPY … PROGRAM" if _PROGRAM.search(code) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Routine:
    """One function or procedure of a database."""

    schema: str
    name: str
    code: str  # its body, or ""
    extension: str | None = None  # that it belongs to
    language: str = "sql"

    @property
    def shown(self) -> str:
        return f"{self.schema}.{self.name}"


def shown_name(names: list[str]) -> str:
    """`schema.name` of a dotted name; one without a schema counts as of public."""
    return f"{names[-2] if len(names) > 1 else 'public'}.{names[-1]}"


def routine_of(node: Any, text: str) -> Routine:
    """The routine that a CREATE FUNCTION or PROCEDURE makes; its whole text counts as its code."""
    schema, _, name = shown_name(strings(node.funcname)).partition(".")
    options = {one.def_elem.defname: one.def_elem.arg for one in node.options}
    language = strings([options["language"]]) if "language" in options else []
    return Routine(schema=schema, name=name, code=text, language=(language or ["sql"])[0])


def reaching_routines(routines: tuple[Routine, ...]) -> dict[str, str]:
    """Return the routines that reach outside, directly or through others: `schema.name` -> what that is, in words.

    By the names in their code, so one that only mentions a name in a comment is among them.
    """
    found: dict[str, str] = {}
    for one in routines:
        what = EXTENSIONS.get(one.extension or "") or EXTENSIONS.get(one.language)
        if what:
            found[one.shown] = f"reaches {what}"
        elif name := names_outside(one.code):
            found[one.shown] = f"names {name}"
    own = [one for one in routines if one.extension is None]
    while True:
        names = {shown.rsplit(".", 1)[1]: shown for shown in found}
        if not names:
            return found
        calls = re.compile(rf"\b({'|'.join(map(re.escape, sorted(names)))})\s*\(", re.IGNORECASE)
        more = {
            one.shown: f"calls {names.get(match[1].lower(), match[1])}, which {found.get(names.get(match[1].lower(), ''), 'reaches outside')}"
            for one in own
            if one.shown not in found and (match := calls.search(one.code))
        }
        if not more:
            return found
        found |= more


def calls_any(code: str, names: dict[str, str]) -> str | None:
    """Return the first of these routines (`schema.name`) that a piece of code calls."""
    for shown in names:
        if re.search(rf"\b{re.escape(shown.rsplit('.', 1)[1])}\s*\(", code, re.IGNORECASE):
            return shown
    return None
