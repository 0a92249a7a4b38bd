"""How `validate --locks` and `plan` show locks: tables on stdout, and their JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lockstep.cli.terminal import show

if TYPE_CHECKING:
    from lockstep.cli.context import Context
    from lockstep.core.locking.lock_report import FileLocks
    from lockstep.core.locking.locks import RelationLock


def show_files(context: Context) -> list[dict[str, Any]]:
    """Show the locks of every file of the project, as tables or, with --json, only as what is returned."""
    from lockstep.core.locking.lock_report import lock_table
    from lockstep.service.locks import project_locks

    files = project_locks(context.settings)
    if not context.as_json:
        for one in files:
            show(f"{lock_table(one)}\n")
    return [file_document(one) for one in files]


def file_document(one: FileLocks) -> dict[str, Any]:
    """The locks of one file, statement by statement."""
    return {
        "file": one.file,
        "statements": [
            {
                "line": statement.line,
                "statement": statement.kind,
                "locks": [lock_document(lock) for lock in statement.locks],
                "unknown": statement.unknown,
            }
            for statement in one.statements
        ],
    }


def step_document(one: FileLocks) -> dict[str, Any]:
    """The strongest locks of one step, and of which lines not all is known."""
    return {
        "locks": [lock_document(lock) for lock in one.strongest],
        "unknown": [{"line": s.line, "statement": s.kind, "unknown": s.unknown} for s in one.unknown],
    }


def lock_document(lock: RelationLock) -> dict[str, Any]:
    return {
        "relation": lock.relation,
        "named": lock.named,
        "mode": lock.mode.value,
        "blocks": lock.mode.blocks,
        "new": lock.new,
    }
